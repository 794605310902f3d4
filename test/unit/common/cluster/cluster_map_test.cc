#include "common/cluster/cluster_map.h"

#include <capnp/message.h>
#include <doctest/doctest.h>

#include <algorithm>

using namespace cairn;

namespace {

ClusterMap sample() {
  ClusterMap map;
  map.epoch = MapEpoch{7};
  map.cluster = {1, 2};
  for (uint32_t i = 1; i <= 3; ++i) {
    OsdEntry e;
    e.id = OsdId{i};
    e.uuid = {i, 100 + i};
    e.addr = "10.0.0." + std::to_string(i) + ":7000";
    e.host = "h" + std::to_string(i);
    e.rack = "r1";
    e.deviceClass = i == 2 ? schema::DeviceClass::HDD : schema::DeviceClass::SSD;
    e.weight = 65536 * i;
    e.up = i != 3;
    e.in = true;
    e.bytesUsed = i;
    e.bytesTotal = 1000 * i;
    e.pid = 40 + i;
    e.incarnation = 9000 + i;
    e.autoOut = i == 3;
    e.fixedWeight = i == 2;
    map.osds[e.id] = e;
  }
  Pool p;
  p.id = PoolId{1};
  p.name = "default";
  p.replicas = 2;
  p.anyClass = false;
  p.failureDomain = schema::FailureDomain::HOST;
  p.stripeUnit = 65536;
  p.minSize = 2;
  p.pgs = {{MapEpoch{5}, {OsdId{1}, OsdId{3}}, {OsdId{2}}, {}, {}}, {MapEpoch{6}, {}, {}, {}, {}}};
  map.pools[p.id] = p;
  p.id = PoolId{2};
  p.name = "cold";
  p.replicas = 0;
  p.ecData = 4;
  p.ecParity = 2;
  map.pools[p.id] = p;
  map.fence = {SessionId{20}, {SessionId{3}, SessionId{17}}};
  return map;
}

}  // namespace

TEST_CASE("a map that travels stays the same") {
  const ClusterMap map = sample();
  capnp::MallocMessageBuilder message;
  map.write(message.initRoot<schema::ClusterMap>());
  const ClusterMap back = ClusterMap::read(message.getRoot<schema::ClusterMap>());
  capnp::MallocMessageBuilder again;
  back.write(again.initRoot<schema::ClusterMap>());

  CHECK(message.getRoot<schema::ClusterMap>().toString().flatten() ==
        again.getRoot<schema::ClusterMap>().toString().flatten());
  CHECK(back.epoch == MapEpoch{7});
  CHECK(back.cluster == Uuid{1, 2});
  REQUIRE(back.osd(OsdId{3}) != nullptr);
  CHECK(back.osd(OsdId{3})->addr == "10.0.0.3:7000");
  CHECK_FALSE(back.osd(OsdId{3})->up);
  CHECK(back.osd(OsdId{2})->deviceClass == schema::DeviceClass::HDD);
  CHECK(back.osd(OsdId{2})->incarnation == 9002);
  REQUIRE(back.pool(PoolId{1}) != nullptr);
  CHECK(back.pool(PoolId{1})->pgs[0].osds == std::vector{OsdId{1}, OsdId{3}});
  CHECK(back.pool(PoolId{1})->pgs == map.pool(PoolId{1})->pgs);
  CHECK(back.pool(PoolId{1})->minSize == 2);
  CHECK(back.osd(OsdId{3})->autoOut);
  CHECK_FALSE(back.osd(OsdId{3})->fixedWeight);
  CHECK(back.osd(OsdId{2})->fixedWeight);
  CHECK_FALSE(back.pool(PoolId{1})->anyClass);
  CHECK(back.fence == map.fence);
}

TEST_CASE("a fence refuses the sessions that ended before it, and nobody else") {
  const ClusterMap map = sample();
  for (uint64_t id : {1, 2, 4, 16, 18, 19}) CHECK(map.fenced(SessionId{id}));
  for (uint64_t id : {3, 17}) CHECK_FALSE(map.fenced(SessionId{id}));
  // Opened since, and whoever is no client.
  for (uint64_t id : {20, 21, 0}) CHECK_FALSE(map.fenced(SessionId{id}));
  CHECK_FALSE(map.fenced(SessionId{UINT64_MAX}));
}

TEST_CASE("a map from before there were fences refuses nobody") {
  ClusterMap old = sample();
  old.fence = {};
  capnp::MallocMessageBuilder message;
  old.write(message.initRoot<schema::ClusterMap>());
  CHECK_FALSE(message.getRoot<schema::ClusterMap>().hasFence());
  const ClusterMap back = ClusterMap::read(message.getRoot<schema::ClusterMap>());
  CHECK(back.fence == Fence{});
  CHECK_FALSE(back.fenced(SessionId{1}));
}

TEST_CASE("what is not in the map is not found") {
  const ClusterMap map = sample();
  CHECK(map.osd(OsdId{9}) == nullptr);
  CHECK(map.pool(PoolId{9}) == nullptr);
  CHECK(map.poolByName("nope") == nullptr);
  CHECK(map.poolByName("cold")->id == PoolId{2});
  CHECK(map.group(PoolId{1}, PgIndex{1}).has_value());
  CHECK(map.group(PoolId{1}, PgIndex{2}).error().code == Errc::kNotFound);
  CHECK(map.group(PoolId{9}, PgIndex{0}).error().code == Errc::kNotFound);
}

TEST_CASE("a pool says its redundancy and its width") {
  const ClusterMap map = sample();
  CHECK(map.poolByName("default")->redundancy() == "2x");
  CHECK(map.poolByName("default")->width() == 2);
  CHECK(map.poolByName("cold")->redundancy() == "4+2");
  CHECK(map.poolByName("cold")->width() == 6);
}

TEST_CASE("what is in sync: copies, or different shards") {
  PlacementGroup g;
  CHECK(g.inSync() == 0);
  g.osds = {OsdId{1}, OsdId{2}, OsdId{3}};
  CHECK(g.inSync() == 3);
  g.shards = {{OsdId{1}, 0}, {OsdId{2}, 4}, {OsdId{3}, 4}, {OsdId{4}, 1}};
  CHECK(g.inSync() == 2);
  CHECK(g.shardOf(OsdId{3}) == 4);
}

TEST_CASE("a map says which shard each member holds, and nothing of others") {
  ClusterMap map;
  map.pools[PoolId{2}].id = PoolId{2};
  PlacementGroup& g = map.pools[PoolId{2}].pgs.emplace_back();
  g.osds = {OsdId{7}, OsdId{3}};
  g.joining = {OsdId{9}};
  g.complete = {OsdId{5}};
  g.shards = {{OsdId{7}, 1}, {OsdId{3}, 19}, {OsdId{9}, 0}, {OsdId{5}, 2}, {OsdId{6}, 3}};
  capnp::MallocMessageBuilder message;
  map.write(message.initRoot<schema::ClusterMap>());
  const ClusterMap back = ClusterMap::read(message.getRoot<schema::ClusterMap>());
  CHECK(back.pool(PoolId{2})->pgs[0].shards ==
        std::map<OsdId, uint8_t>{{OsdId{7}, 1}, {OsdId{3}, 19}, {OsdId{9}, 0}});
}

TEST_CASE("chunks with consecutive ids spread evenly over the groups") {
  Pool p;
  p.pgs.resize(128);
  std::vector<int> hits(128);
  for (uint64_t c = 1; c <= 128'000; ++c) ++hits[p.pgOf(ChunkId{c}).value];
  // 1000 expected; five standard deviations are 158.
  CHECK(*std::min_element(hits.begin(), hits.end()) > 840);
  CHECK(*std::max_element(hits.begin(), hits.end()) < 1160);
}

TEST_CASE("where a chunk lies never changes between versions of the program") {
  Pool p;
  p.pgs.resize(128);
  CHECK(p.pgOf(ChunkId{1}).value == 0x910a2dec89025cc1ull % 128);  // splitmix64's published value
  CHECK(Pool{}.pgOf(ChunkId{1}) == PgIndex{0});
}
