// A metadata server in memory: one directory, the root, and files in it. Answers as mds.capnp says,
// with sessions and answers that are kept for repeated mutations, and fails when a test asks for
// it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/reactor/sync.h"
#include "common/schema/mds.capnp.h"
#include "common/wire/rpc.h"

namespace cairn::client::test {

inline constexpr Uuid kCluster{0x1234, 0x5678};
inline constexpr PoolId kPool{1};

// What happened in the whole cluster, in order: "osd write CHUNK OFFSET LENGTH", "mds commit SIZE"…
using Events = std::vector<std::string>;

// What a fault does to one request.
enum class Fault : uint8_t {
  kNone,
  kDropBefore,  // the connection breaks, and nothing was done
  kDropAfter,   // it was done, the answer is lost
  kRefuse,      // kUnavailable, and nothing was done
};

struct FakeFile {
  uint32_t mode = 0, nlink = 1, uid = 0, gid = 0;
  uint64_t size = 0, changeVersion = 1, dataVersion = 1;
  int64_t atimeNs = 0, mtimeNs = 0, ctimeNs = 0;
  std::string target;  // symbolic links
  std::map<std::string, std::string> xattrs;
  bool tailUnclean = false;
  std::map<uint32_t, uint64_t> chunks;  // index -> chunk
};

class FakeMds final : public RpcHandler {
 public:
  FakeMds(Reactor& reactor, Events& events) : reactor_(reactor), events_(events) {}

  Identity identity() override { return {schema::Hello::Role::MDS, kCluster, 1}; }
  Task<Result<void>> onHello(const Identity& peer) override;
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;
  void onConnected(RpcPeer& peer) override { peers_.push_back(&peer); }
  void onDisconnected(RpcPeer& peer) override { std::erase(peers_, &peer); }

  void pushMap();
  void expire(uint64_t session) {
    sessions_.erase(session);
    leases.clear();
  }
  FakeFile& file(const std::string& name) { return files[names.at(name)]; }
  // Pushes a recall of the lease on the file; `leases` shows when it was given back.
  void recall(const std::string& name, bool toRead = false);

  // Another client has read the file, and the holder of a lease is told.
  void readByOther(const std::string& name, int64_t atNs);

  // A lock as it was asked for, or reclaimed. `id` 0: it does not wait.
  struct AskedLock {
    uint64_t ino = 0, owner = 0;
    schema::LockSpace space{};
    schema::LockType type{};
    uint64_t start = 0, end = 0, id = 0;
    bool gone = false;
  };
  std::vector<AskedLock> asked, reclaimedLocks;  // reclaimed: the latest
  std::vector<uint64_t> canceled;
  // Answers them; empty: all are granted.
  std::function<schema::LockReply::Outcome(const AskedLock&)> onLock;
  std::function<void(uint64_t id)> onCancel;  // before the answer
  void grantLock(uint64_t id);
  // Pushes a probe of what is locked on the file.
  void probeLocks(const std::string& name, uint64_t serial);
  std::vector<uint64_t> probed;  // serials, as they were answered
  size_t askedWhenProbed = 0;    // size of `asked`

  ClusterMap map;
  std::map<std::string, uint64_t> names;
  std::map<uint64_t, FakeFile> files;
  std::function<void(uint64_t chunk)> onChunkGone;
  // Asked for every request; empty: no faults.
  std::optional<PoolId> nearlyFull;  // which it says is
  std::function<Fault(schema::MdsRequest::Reader)> fault;
  std::function<Errc(schema::Mutation::Reader)> refuse;  // a mutation's final answer
  Duration delay{};
  std::set<uint64_t> open;  // inodes, of any session
  // There is one client, so nobody is ever in its way: it is granted what it asks for.
  std::map<uint64_t, schema::Lease> leases;  // by inode
  bool openBringsWrite = true;               // to who opens for writing, the write lease
  size_t leaseRequests = 0, leaseReturns = 0;
  std::set<uint64_t> reclaimedRead, reclaimedWrite;  // the latest reclaim's
  std::vector<std::set<uint64_t>> reclaims;
  std::map<std::string, uint64_t> executed;  // mutations by kind, repetitions not counted
  std::map<std::string, uint64_t> received;  // repetitions counted
  uint64_t lastSession = 0, ackedBelow = 0;

 private:
  struct Answer {
    Errc code = Errc::kOk;
    std::function<void(schema::MdsReply::Builder)> fill;
  };
  Answer answer(schema::MdsRequest::Reader request);
  Answer mutate(schema::Mutation::Reader m);
  Answer make(schema::Make::Reader m);
  Answer setattr(schema::Setattr::Reader s);
  Answer entry(uint64_t ino);
  Answer attr(uint64_t ino);
  Answer chunksIn(uint64_t ino, uint32_t first, uint32_t count);
  void grant(uint64_t ino, schema::Lease lease);
  void writeAttr(uint64_t ino, schema::Attr::Builder a);
  void dropChunks(FakeFile& f, uint32_t first, uint64_t end);
  int64_t tick() { return ++clock_; }

  Reactor& reactor_;
  Events& events_;
  std::vector<RpcPeer*> peers_;
  std::map<uint64_t, std::map<uint64_t, Answer>> sessions_;  // answers by sequence number
  uint64_t nextIno_ = 2, nextChunk_ = 100, nextSession_ = 7;
  int64_t clock_ = 1'000;
  uint64_t leaseSerial_ = 0, lockSerial_ = 0;
};

}  // namespace cairn::client::test
