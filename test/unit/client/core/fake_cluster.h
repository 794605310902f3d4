// A simulated world with the fake MDS, three fake OSDs and a mount.
#pragma once

#include <memory>

#include "client/core/filesystem.h"
#include "common/sim/sim_world.h"
#include "test/unit/client/core/fake_osd.h"

namespace cairn::client::test {

class FakeCluster {
 public:
  explicit FakeCluster(uint64_t seed = 1, Options options = {}, bool mountNow = true);
  ~FakeCluster();

  // Runs a task of the client to its end. Fails the test when it does not end.
  template <class T>
  T run(Task<T> task) {
    auto got = world.await(*clientNode_, std::move(task));
    if (!got) throw std::runtime_error("the operation does not end");
    return std::move(*got);
  }
  void run(Task<void> task);
  void spawn(Task<void> task) { clientNode_->spawn(std::move(task)); }

  // ---- The client, step by step ----
  std::shared_ptr<Handle> create(const std::string& name, int flags = 2 /* O_RDWR */);
  std::shared_ptr<Handle> open(const std::string& name, int flags = 2);
  Filesystem::Opened reopen(InodeId ino, int flags = 2);
  Result<void> write(const std::shared_ptr<Handle>& h, uint64_t offset, const std::string& data);
  std::string read(const std::shared_ptr<Handle>& h, uint64_t offset, uint32_t length);
  Buffer bytes(const std::string& data) { return env.buffers.copyOf({u8(data), data.size()}); }
  void remount();

  // Writes are received, but neither done nor answered, until letWrites().
  void holdWrites();
  void letWrites();
  // A new epoch, in which another OSD is primary of every group.
  void movePrimaries();
  [[nodiscard]] size_t indexOf(const std::string& event, size_t from = 0) const;
  [[nodiscard]] size_t count(const std::string& prefix) const;
  std::string stored(const std::string& name);  // what the OSDs have, cut at the MDS's size

  sim::SimWorld world;
  Events events;

 private:
  static const uint8_t* u8(const std::string& s) {
    return reinterpret_cast<const uint8_t*>(s.data());
  }
  sim::SimNode* mdsNode_;
  Env mdsEnv_;

 public:
  FakeMds mds;
  FakeStorage storage;
  Event writesMayGo{mdsEnv_.reactor};

 private:
  struct Osd;
  std::vector<std::unique_ptr<Osd>> osds_;
  RpcServer mdsServer_;
  sim::SimNode* clientNode_;

 public:
  Env env;  // the client's
  Options options;
  std::unique_ptr<Filesystem> fs;
  FakeOsd& osd(size_t i);
  static constexpr size_t kOsds = 3;
  // For all OSDs.
  void eachOsd(const std::function<void(FakeOsd&)>& f);
  sim::SimNode& clientNode() { return *clientNode_; }
  RpcServer& mdsServer() { return mdsServer_; }
};

// Deterministic bytes.
std::string pattern(size_t size, uint64_t seed);
std::string join(const std::vector<Buffer>& parts);

inline InodeId inoOf(FakeCluster& c, const std::string& name) {
  return InodeId{c.mds.names.at(name)};
}

}  // namespace cairn::client::test
