#include "mds/server/status.h"

#include <doctest/doctest.h>

#include "common/cluster/health.h"

using namespace cairn;
using namespace cairn::mds;

namespace {

ClusterMap cluster() {
  ClusterMap map;
  for (uint32_t i = 1; i <= 4; ++i) {
    OsdEntry e;
    e.id = OsdId{i};
    e.addr = "h:780" + std::to_string(i);
    e.host = "h";
    e.weight = 10;
    e.up = e.in = true;
    e.bytesTotal = 100 * kGiB;
    e.bytesUsed = 30 * kGiB;
    map.osds[e.id] = e;
  }
  Pool p;
  p.id = PoolId{1};
  p.name = "default";
  p.replicas = 2;
  p.pgs.resize(2);
  p.pgs[0] = {MapEpoch{1}, {OsdId{1}, OsdId{2}}, {}, {}, {}};
  p.pgs[1] = {MapEpoch{1}, {OsdId{3}, OsdId{1}}, {}, {}, {}};
  map.pools[p.id] = p;
  return map;
}

Health judged(const ClusterMap& map) {
  return judge(map, [](OsdId) { return Duration(12s); }, 0);
}

}  // namespace

TEST_CASE("a whole cluster is ok and has no problems") {
  CHECK(judged(cluster()).text == "ok");
  CHECK(judged(cluster()).problems.empty());
}

TEST_CASE("a group is as good as the worst that is true of it") {
  ClusterMap map = cluster();
  Pool& pool = map.pools[PoolId{1}];
  PlacementGroup& pg = pool.pgs[0];
  pg.joining = {OsdId{3}};
  CHECK(pgState(map, pool, pg) == PgState::kRecovering);
  CHECK(judged(map).text == "ok");  // all copies are there; that data moves is no problem
  CHECK(judged(map).problems.empty());
  pg.osds = {OsdId{1}};
  CHECK(pgState(map, pool, pg) == PgState::kDegraded);
  pool.minSize = 2;
  CHECK(pgState(map, pool, pg) == PgState::kUnavailable);
  pool.minSize = 1;
  map.osds[OsdId{1}].up = false;
  CHECK(pgState(map, pool, pg) == PgState::kUnavailable);
  const PgCounts n = countPgs(map, pool);
  CHECK(n.clean == 1);
  CHECK(n.unavailable == 1);
  CHECK(n.recovering + n.degraded == 0);
}

TEST_CASE("of an erasure code it is different shards that count") {
  ClusterMap map = cluster();
  Pool& pool = map.pools[PoolId{1}];
  pool.replicas = 0;
  pool.ecData = 2;
  pool.ecParity = 1;
  pool.minSize = 2;
  pool.pgs.resize(1);
  PlacementGroup& pg = pool.pgs[0];
  pg.osds = {OsdId{1}, OsdId{2}, OsdId{3}};
  pg.shards = {{OsdId{1}, 0}, {OsdId{2}, 1}, {OsdId{3}, 2}, {OsdId{4}, 1}};
  CHECK(pgState(map, pool, pg) == PgState::kClean);
  pg.osds = {OsdId{1}, OsdId{2}, OsdId{4}};  // shard 1 twice
  CHECK(pgState(map, pool, pg) == PgState::kDegraded);
  REQUIRE(judged(map).problems.size() == 1);
  CHECK(judged(map).problems[0] ==
        "pool default: of 1 placement groups 1 have fewer shards than they should");
  pg.osds = {OsdId{2}, OsdId{4}};
  CHECK(pgState(map, pool, pg) == PgState::kUnavailable);
  // Who left in the meantime is waited for as long as the others are too few.
  pg.complete = {OsdId{3}};
  map.osds[OsdId{3}].up = false;
  CHECK(judged(map).problems[0].find("1 placement groups of default wait for what it holds") !=
        std::string::npos);
  pg.osds = {OsdId{1}, OsdId{2}};
  CHECK(judged(map).problems[0].find("others serve what it held") != std::string::npos);
}

TEST_CASE("an OSD that is down is named, with what follows") {
  ClusterMap map = cluster();
  Pool& pool = map.pools[PoolId{1}];
  map.osds[OsdId{2}].up = false;
  pool.pgs[0].osds = {OsdId{1}};
  Health h = judged(map);
  CHECK(h.text == "degraded");
  REQUIRE(h.problems.size() == 2);
  CHECK(h.problems[0] ==
        "osd.2 at h:7802 on h is down since 12 s: others serve what it held; start cairn-osd there "
        "again");
  CHECK(h.problems[1] ==
        "pool default: of 2 placement groups 1 have fewer copies than they should");
  map.osds[OsdId{1}].up = false;
  pool.pgs[1].osds = {OsdId{3}};
  h = judged(map);
  CHECK(h.text == "unavailable");
  REQUIRE(h.problems.size() == 3);
  CHECK(h.problems[0].find("1 placement groups of default wait for what it holds") !=
        std::string::npos);
  CHECK(h.problems[2].find("1 take no writes until OSDs are back, 1 have fewer copies") !=
        std::string::npos);
  // One that holds nothing of any pool is missed all the same.
  map = cluster();
  map.osds[OsdId{4}].up = false;
  CHECK(judged(map).text == "degraded");
  // But not one that an administrator has put out.
  map.osds[OsdId{4}].in = false;
  CHECK(judged(map).text == "ok");
  map.osds[OsdId{4}].autoOut = true;
  CHECK(judged(map).text == "degraded");
}

TEST_CASE("a pool that could not be placed says what it needs") {
  ClusterMap map = cluster();
  map.pools[PoolId{1}].pgs[1].osds.clear();
  map.pools[PoolId{1}].failureDomain = schema::FailureDomain::HOST;
  Health h = judged(map);
  CHECK(h.text == "unavailable");
  REQUIRE(h.problems.size() == 1);
  CHECK(h.problems[0] == "pool default needs 2 hosts and has 1: start more cairn-osd");
}

TEST_CASE("an almost full OSD is named") {
  ClusterMap map = cluster();
  map.osds[OsdId{1}].bytesUsed = 95 * kGiB;
  REQUIRE(judged(map).problems.size() == 1);
  CHECK(judged(map).problems[0].starts_with("osd.1 is 9"));
}

TEST_CASE("capacity is what users can store") {
  ClusterMap map = cluster();
  Pool& pool = map.pools[PoolId{1}];
  CHECK(capacity(map, pool).bytesTotal == 200 * kGiB);
  CHECK(capacity(map, pool).bytesFree == 140 * kGiB);
  map.osds[OsdId{4}].in = false;
  CHECK(capacity(map, pool).bytesTotal == 150 * kGiB);
  map.osds[OsdId{3}].deviceClass = schema::DeviceClass::HDD;
  pool.anyClass = false;
  CHECK(capacity(map, pool).bytesTotal == 100 * kGiB);
  pool.replicas = 0;
  pool.ecData = 4;
  pool.ecParity = 1;
  CHECK(capacity(map, pool).bytesTotal / kGiB == 160);
}

TEST_CASE("used bytes are shared out by the pools' chunks") {
  ClusterMap map = cluster();
  Pool second = map.pools[PoolId{1}];
  second.id = PoolId{2};
  second.replicas = 1;
  map.pools[second.id] = second;
  // 120 GiB in all: 10 chunks twice and 20 once, so each has half of it.
  auto bytes = poolBytes(map, {{PoolId{1}, 10}, {PoolId{2}, 20}});
  CHECK(bytes[PoolId{1}] == 30 * kGiB);
  CHECK(bytes[PoolId{2}] == 60 * kGiB);
  CHECK(poolBytes(map, {})[PoolId{1}] == 0);
  // Of a 2+2 code 10 chunks take what 10 take twice.
  Pool& code = map.pools[PoolId{2}];
  code.replicas = 0;
  code.ecData = code.ecParity = 2;
  bytes = poolBytes(map, {{PoolId{1}, 10}, {PoolId{2}, 10}});
  CHECK(bytes[PoolId{1}] == 30 * kGiB);
  CHECK(bytes[PoolId{2}] == 30 * kGiB);
}
