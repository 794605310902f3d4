// A metadata server, clients and OSDs that only answer `remove`, in one simulated world.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/schema/osd.capnp.h"
#include "common/sim/sim_world.h"
#include "common/wire/rpc.h"
#include "mds/server/mds.h"

namespace cairn::mds::test {

inline constexpr Uuid kCluster{0xc1, 0x05};
inline constexpr uint16_t kPort = 7700;

// One answer and its error, whichever there is.
struct Got {
  Result<InMessage> result;
  [[nodiscard]] Errc code() const { return result ? Errc::kOk : result.error().code; }
  [[nodiscard]] schema::MdsReply::Reader reply() const {
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().text()));
    return result->body<schema::MdsReply>();
  }
};

// A process with a connection to the MDS.
class Peer {
 public:
  Peer(sim::SimWorld& world, const std::string& host, Identity self, std::string mdsHost = "mds");
  virtual ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  using Fill = std::function<void(schema::MdsRequest::Builder)>;
  Got call(const Fill& fill, Duration timeout = 5s);
  // Starts it and returns; the answer comes to `slot` some time later.
  void start(const Fill& fill, std::shared_ptr<std::optional<Got>> slot, Duration timeout = 5s);

  sim::SimWorld& world;
  sim::SimNode& node;
  Env env;
  std::unique_ptr<RpcClient> rpc;
  std::vector<uint64_t> pushedEpochs;

 protected:
  virtual void onRecall(schema::Recall::Reader) {}
  virtual void onLockGranted(schema::LockGrant::Reader) {}
  virtual void onLockProbe(schema::LockProbe::Reader) {}
  virtual void onAccessed(capnp::List<uint64_t>::Reader) {}
  // Before the answer goes to whoever asked.
  virtual void onAnswer(schema::MdsRequest::Reader, const Got&) {}
  virtual Task<Result<void>> onConnect(RpcClient&) { co_return Result<void>{}; }

 private:
  Task<Got> exchange(OutMessage message, Duration timeout);
  Task<void> exchangeInto(OutMessage message, Duration timeout,
                          std::shared_ptr<std::optional<Got>> slot);
};

// What a mutation is to be.
using Change = std::function<void(schema::Mutation::Builder)>;
namespace changes {
Change create(InodeId parent, std::string name);  // and open
Change makeDirectory(InodeId parent, std::string name);
Change unlink(InodeId parent, std::string name);
Change rename(InodeId parent, std::string name, InodeId newParent, std::string newName,
              uint32_t flags = 0);
Change link(InodeId ino, InodeId parent, std::string name);
Change chmod(InodeId ino, uint32_t mode);
Change truncate(InodeId ino, uint64_t size);
Change setxattr(InodeId ino, std::string name, std::string value);
Change removexattr(InodeId ino, std::string name);
Change commit(InodeId ino, uint64_t size);
Change allocate(InodeId ino, uint32_t count);
Change accessed(std::vector<InodeId> inodes, int64_t atNs);
}  // namespace changes

// A mount: a session, and numbered changes.
class Client : public Peer {
 public:
  explicit Client(sim::SimWorld& world, const std::string& host = "client");

  Got openSession();
  using Slot = std::shared_ptr<std::optional<Got>>;
  // The next change, or, with `seq`, one that was sent before.
  Got mutate(const Change& fill, uint64_t seq = 0);
  Got ask(const Fill& fill);
  // The same, started; the slot says when it is answered.
  Slot startMutate(const Change& fill);
  Slot startAsk(const Fill& fill);

  Got create(InodeId parent, std::string name);  // and open
  Got makeDirectory(InodeId parent, std::string name);
  Got unlink(InodeId parent, std::string name);
  Got rename(InodeId parent, std::string name, std::string newName);
  Got lookup(InodeId parent, std::string name);
  Got open(InodeId ino);
  Got release(InodeId ino);
  Got reclaim(std::vector<InodeId> inodes);
  Got getattr(InodeId ino);
  Got allocate(InodeId ino, uint32_t count);

  uint64_t session = 0;
  uint64_t nextSeq = 1;
};

// Registers, sends heartbeats, takes the maps that answer them, and removes chunks.
class FakeOsd : public Peer, public RpcHandler {
 public:
  FakeOsd(sim::SimWorld& world, uint32_t number, std::string host);
  ~FakeOsd() override;

  Got enroll();
  Got beat();
  // What the primary of a group says of a member.
  struct Report {
    uint32_t pg = 0;
    OsdId member;
    bool synced = false;
    uint64_t epoch = 0;  // 0: the group's in `map`
  };
  Got report(const ClusterMap& map, const std::vector<Report>& changes);
  void keepBeating(Duration every);
  void stopBeating();
  // Refuses `remove` while set.
  bool refuse = false;

  Identity identity() override;
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;

  uint32_t number;
  OsdId id;
  uint64_t incarnation = 1;
  MapEpoch mapEpoch;  // that it has
  MapEpoch adopted;   // as it was told last
  bool takesMaps = true;
  uint64_t bytesUsed = 1 * kGiB, bytesTotal = 100 * kGiB;
  bool nearlyFull = false;
  uint64_t chunksLeft = 0, bytesLeft = 0, bytesDone = 0;
  std::multiset<uint64_t> removed;
  size_t requests = 0;

 private:
  void fill(schema::Heartbeat::Builder beat) const;
  void take(schema::MapReply::Reader news);
  Task<void> beatLoop(Duration every, std::shared_ptr<Event> stop);
  std::shared_ptr<Event> stop_;
  RpcServer server_;
};

class Rig {
 public:
  explicit Rig(uint64_t seed = 1);
  ~Rig();

  // The MDS's process.
  void startMds();
  void stopMds();                 // in order
  void crashMds(sim::Crash how);  // and clean up
  void restartMds(sim::Crash how) {
    crashMds(how);
    startMds();
  }
  // `count` OSDs that register and send heartbeats.
  void startOsds(size_t count);

  bool until(const std::function<bool()>& predicate, Duration limit = 30s) {
    return world.runUntil(predicate, limit);
  }
  StateMachine& state() { return mds->state(); }
  const PlacementGroup& group(uint32_t pg = 0) { return state().map().pool(PoolId{1})->pgs[pg]; }
  FakeOsd& osd(OsdId id) { return *osds.at(id.value - 1); }
  // The primaries of the first pool report everybody who joins as equal.
  void syncAll();

  sim::SimWorld world;
  MdsOptions options;
  sim::SimNode* node = nullptr;
  std::optional<Env> env;
  std::unique_ptr<Mds> mds;
  std::vector<std::unique_ptr<FakeOsd>> osds;
};

inline InodeId inoOf(const Got& got) {
  return InodeId{got.reply().getEntry().getAttr().getIno()};
}

}  // namespace cairn::mds::test
