// Some OSD services, an MDS that only knows the map, and a client, in one simulated world.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/schema/mds.capnp.h"
#include "common/sim/sim_world.h"
#include "common/wire/rpc.h"
#include "osd/service/mds_link.h"
#include "osd/service/service.h"
#include "test/unit/osd/service/fake_store.h"

namespace cairn::osd::test {

inline constexpr Uuid kCluster{0x1234, 0x5678};
inline constexpr PoolId kPool{1};
inline constexpr ChunkId kChunk{42};
inline constexpr uint32_t kB = kBlockSize;

// Answers registrations, heartbeats and map requests from a map that the test sets; it moves
// members in and out of groups as they report, and marks nobody down by itself.
class FakeMds final : public RpcHandler {
 public:
  Identity identity() override { return {schema::Hello::Role::MDS, cluster, 1}; }
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;

  Uuid cluster = kCluster;
  ClusterMap map;
  bool admitNew = false;  // gives stores that it does not know an id
  Duration lease = 2s;
  bool mute = false;                // refuses everything with kUnavailable
  std::map<OsdId, bool> mutedOsds;  // their heartbeats alone
  bool ignoreReports = false;
  uint64_t heartbeats = 0, registrations = 0, reports = 0;

  // Its lease is over: it leaves what it is in sync in, but never as the last one.
  void markDown(OsdId id);
  // What the real one does at every change of the map: see mds/ops/groups.h. Each OSD of `target`
  // belongs to the group.
  std::vector<OsdId> target;
  void newEpoch();

 private:
  void writeNews(schema::MapReply::Builder out, MapEpoch known) const;
  void report(schema::GroupChange::Reader change);
  [[nodiscard]] MapEpoch adopted() const;
  std::map<OsdId, MapEpoch> told_;
};

// One OSD process and what survives it.
struct TestOsd {
  TestOsd(sim::SimNode& node, std::shared_ptr<FakeDisk> disk);
  Task<void> stop();

  sim::SimNode& node;
  Env env;
  std::shared_ptr<FakeDisk> disk;
  FakeStore store;
  MapState map;
  MdsLink link;
  Service service;
  RpcServer server;
  TaskScope scope;
  std::vector<Error> storeErrors;
  bool stopped = false;
};

class TestCluster {
 public:
  // `count` OSDs, one pool with one group of all of them, osd.1 its primary.
  explicit TestCluster(size_t count, uint64_t seed = 1);
  // `data` + `parity` OSDs, one erasure-coded pool with one group: osd.i holds shard i - 1. The
  // unit of its stripes is in blocks.
  struct Stripes {
    uint16_t data, parity;
    uint32_t unit;
    uint16_t minSize = 0;  // 0: goes on as long as anything can be read
  };
  explicit TestCluster(Stripes stripes, uint64_t seed = 1);
  ~TestCluster();

  sim::SimWorld world;
  FakeMds mds;

  // From 1, as their ids.
  TestOsd& osd(size_t i) { return *osds_[i - 1]; }
  FakeDisk& disk(size_t i) { return *disks_[i - 1]; }
  static std::string host(size_t i) { return "osd" + std::to_string(i); }

  void kill(size_t i);
  [[nodiscard]] bool alive(size_t i) const { return osds_[i - 1] != nullptr; }
  void restart(size_t i);  // after kill
  // A new epoch with this order of OSDs in the group.
  void setGroup(std::vector<uint32_t> osds);
  // Until every living OSD holds the MDS's map and a lease.
  void waitForMap();
  void run(Duration d) { world.run(d); }

  // ---- The client ----
  MapEpoch epoch;  // of the group, as the client believes
  struct Got {
    bool hole = false;
    std::vector<uint8_t> data;
    uint64_t version = 0;
  };
  Result<uint64_t> write(size_t to, uint64_t chunk, uint32_t offset, std::vector<uint8_t> data);
  Result<Got> read(size_t from, uint64_t chunk, uint32_t offset, uint32_t length);
  Result<uint64_t> zero(size_t to, uint64_t chunk, uint32_t offset, uint32_t length);
  Result<uint64_t> clone(size_t to, uint64_t source, uint32_t from, uint64_t target, uint32_t at,
                         uint32_t length);
  Result<uint64_t> allocate(size_t to, uint64_t chunk, uint32_t offset, uint32_t length);
  // Any request. A client says it is session 77, an OSD or an MDS says it is `peer`.
  Result<InMessage> ask(size_t to, OutMessage message,
                        schema::Hello::Role as = schema::Hello::Role::CLIENT,
                        Duration timeout = 10s, uint64_t peer = 0);
  // The same without waiting; the answer is set when it has come.
  using Answer = std::shared_ptr<std::optional<Result<InMessage>>>;
  Answer askLater(size_t to, OutMessage message, Duration timeout = 10s,
                  schema::Hello::Role as = schema::Hello::Role::CLIENT, uint64_t peer = 0);
  // False when one has not come after `limit`.
  bool waitFor(const std::vector<Answer>& answers, Duration limit = 60s);

  OutMessage request();  // with the group's target filled in
  OutMessage writeRequest(uint64_t chunk, uint32_t offset, const std::vector<uint8_t>& data);
  OutMessage readRequest(uint64_t chunk, uint32_t offset, uint32_t length);
  OutMessage cloneRequest(uint64_t source, uint32_t from, uint64_t target, uint32_t at,
                          uint32_t length);
  OutMessage replicateRequest(uint64_t chunk, uint32_t offset, const std::vector<uint8_t>& data,
                              uint64_t version);

  // Kills it, and lets the MDS know.
  void lose(size_t i) {
    kill(i);
    mds.markDown(OsdId{static_cast<uint32_t>(i)});
    epoch = group().epoch;
  }
  [[nodiscard]] const PlacementGroup& group() { return mds.map.pools[kPool].pgs[0]; }
  // Until `count` members are in sync and nobody is joining.
  bool waitForCopies(size_t count, Duration limit = 30s);
  // Until the group's primary serves it.
  bool waitForActive(Duration limit = 30s);
  // As a client: follows the map and repeats while that may help. Sends to the primary.
  Result<uint64_t> writeUntilDone(uint64_t chunk, uint32_t offset, const std::vector<uint8_t>& data,
                                  int attempts = 200);
  Result<Got> readUntilDone(uint64_t chunk, uint32_t offset, uint32_t length, int attempts = 200);
  [[nodiscard]] size_t primary() { return group().osds.front().value; }

  // Every OSD's bytes of this range, all equal (checked).
  std::vector<uint8_t> everywhere(uint64_t chunk, uint32_t offset, uint32_t length);

  [[nodiscard]] Env& clientEnv() { return clientEnv_; }

 private:
  TestCluster(Pool pool, uint64_t seed);
  RpcClient& client(size_t to, schema::Hello::Role as, uint64_t peer);
  static Task<void> store(RpcClient& client, OutMessage message, Duration timeout, Answer answer);

  sim::SimNode& mdsNode_;
  Env mdsEnv_;
  RpcServer mdsServer_;
  sim::SimNode& clientNode_;
  Env clientEnv_;
  std::vector<std::shared_ptr<FakeDisk>> disks_;
  std::vector<std::unique_ptr<TestOsd>> osds_;
  std::vector<std::unique_ptr<TestOsd>> dead_;
  std::map<std::tuple<size_t, schema::Hello::Role, uint64_t>, std::unique_ptr<RpcClient>> clients_;
};

std::vector<uint8_t> bytesOf(size_t count, uint32_t seed);

}  // namespace cairn::osd::test
