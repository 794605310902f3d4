// A state machine on a LevelDB in memory, for tests: builds commands, applies them one by one and
// reads the answers. Each test ends with verify(): whatever it did, the invariants hold.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "leveldb/env.h"
#include "mds/state/state_machine.h"
#include "test/unit/common/reactor/manual_reactor.h"

namespace cairn::mds::statetest {

// What surrounds a mutation in its command.
struct By {
  uint64_t session = 0, seq = 0, acked = 0;
  std::vector<uint64_t> openBy = {};
  int64_t timeNs = 0;  // 0: a second after the command before
};

using Build = std::function<void(schema::Mutation::Builder)>;

class Answer {
 public:
  explicit Answer(Applied applied);
  Answer(Answer&&) = delete;

  [[nodiscard]] Errc code() const { return applied_.code; }
  [[nodiscard]] bool ok() const { return applied_.code == Errc::kOk; }
  [[nodiscard]] const Applied& applied() const { return applied_; }
  [[nodiscard]] schema::MdsReply::Reader reply() const;
  [[nodiscard]] schema::Attr::Reader attr() const;
  [[nodiscard]] InodeId ino() const { return InodeId(attr().getIno()); }
  [[nodiscard]] uint64_t id() const;
  // Of an entry or a chunk list.
  [[nodiscard]] std::vector<Chunk> chunks() const;

 private:
  Applied applied_;
  std::vector<uint64_t> words_;
  kj::ArrayPtr<const capnp::word> segment_;
  std::unique_ptr<capnp::SegmentArrayMessageReader> reader_;
};

capnp::Data::Reader asData(std::string_view s);

// A command as the log holds it.
using Command = std::unique_ptr<capnp::MallocMessageBuilder>;
Command command(const Build& build, const By& by);

std::string dump(Kv& kv);

struct MakeOptions {
  uint32_t uid = 1000, gid = 1000;
  uint64_t rdev = 0;
  std::string_view target = {};
  bool open = false;
  uint32_t umask = 0;
  bool unnamed = false;
};

class Mds {
 public:
  static constexpr Uuid kCluster{0x1111222233334444, 0x5555666677778888};

  // Bootstrapped, and with `osds` OSDs of 1 TiB on hosts of their own.
  explicit Mds(uint32_t osds = 3, StateOptions options = {}, uint16_t replicas = 2);
  ~Mds();

  StateMachine* operator->() { return machine_.get(); }
  Kv& kv() { return *kv_; }

  // As after a restart of the process.
  void reopen();

  // What opening again says; the machine is gone if it fails.
  Error tryReopen();

  Answer run(const Build& build, By by = {});

  Answer bootstrap(uint16_t replicas);
  Answer addOsd(uint64_t uuid, const std::function<void(schema::OsdRegister::Builder)>& more = {});
  uint64_t session();
  Answer endSession(uint64_t id, By by = {});
  Answer expire(uint64_t id);

  Answer make(InodeId parent, std::string_view name, uint32_t mode, MakeOptions o = {}, By by = {});
  InodeId file(std::string_view name, InodeId parent = kRootInode);
  InodeId dir(std::string_view name, InodeId parent = kRootInode);
  Answer link(InodeId ino, InodeId parent, std::string_view name);
  Answer remove(InodeId parent, std::string_view name, bool directory, By by = {});
  Answer unlink(std::string_view name, By by = {});
  Answer rename(InodeId from, std::string_view name, InodeId to, std::string_view newName,
                uint32_t flags = 0, By by = {});
  Answer setattr(InodeId ino, const std::function<void(schema::Setattr::Builder)>& set, By by = {});
  Answer truncate(InodeId ino, uint64_t size, By by = {});
  Answer alloc(InodeId ino, uint32_t first, uint32_t count, By by = {});
  // In the groups of these chunks, from `first` on.
  Answer allocNear(InodeId ino, uint32_t first, uint32_t count, std::vector<uint64_t> near);
  Answer removeChunks(InodeId ino, uint32_t first, uint32_t count);
  Answer commit(InodeId ino, uint64_t size, bool tailCleaned = false, By by = {});
  Answer tailCleaned(InodeId ino, uint64_t size, By by = {});
  Answer setxattr(InodeId ino, std::string_view name, std::string_view value, uint32_t flags = 0);
  Answer removexattr(InodeId ino, std::string_view name);
  Answer purge(InodeId ino, uint32_t limit = 1024);
  Answer releaseOrphan(InodeId ino, uint64_t session);
  Answer createPool(std::string_view name, uint16_t replicas,
                    const std::function<void(schema::PoolCreate::Builder)>& more = {});
  Answer osdState(uint32_t id, bool up);
  Answer osdIn(uint32_t id, bool in);
  Answer pause(bool paused);
  struct Report {
    OsdId member;
    bool synced = false;
    uint32_t pg = 0;
    PoolId pool{1};
    uint64_t epoch = 0;  // 0: the group's
  };
  Answer report(const std::vector<Report>& changes);

  // Who is away from a group (ClusterState.away).
  std::vector<OsdId> away(PgIndex pg, PoolId pool = PoolId(1));

  // State, as queries show it.
  Inode inode(InodeId ino);
  bool exists(InodeId ino) { return machine_->inode(ino).has_value(); }
  std::vector<std::string> names(InodeId dir);
  std::vector<Chunk> chunks(InodeId ino);
  std::vector<Garbage> garbage();
  std::vector<Orphan> orphans();
  // Everything that is stored but the record of counters, which counts failed commands too.
  std::string records();

  int64_t now = 1'700'000'000'000'000'000;

 private:
  StateOptions options_;
  std::unique_ptr<leveldb::Env> memory_;
  std::unique_ptr<KvFactory> factory_;
  ManualReactor reactor_;
  std::unique_ptr<StateMachine> machine_;
  Kv* kv_ = nullptr;  // owned by machine_
};

}  // namespace cairn::mds::statetest
