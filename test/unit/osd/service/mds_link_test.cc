#include "osd/service/mds_link.h"

#include <doctest/doctest.h>

#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

TEST_CASE("an OSD gets its id from the MDS once and keeps it") {
  TestCluster c(2);
  CHECK(c.disk(1).id == OsdId{1});
  CHECK(c.disk(2).id == OsdId{2});
  CHECK(c.osd(2).map.self() == OsdId{2});
  c.kill(2);
  c.restart(2);
  c.waitForMap();
  CHECK(c.osd(2).map.self() == OsdId{2});
}

TEST_CASE("a restarted OSD registers again, under a new incarnation") {
  TestCluster c(1);
  const uint64_t first = c.mds.map.osds[OsdId{1}].incarnation;
  c.kill(1);
  c.restart(1);
  c.waitForMap();
  CHECK(c.mds.registrations == 2);
  CHECK(c.mds.map.osds[OsdId{1}].incarnation != first);
}

TEST_CASE("an OSD that the MDS has forgotten registers again") {
  TestCluster c(1);
  c.mds.map.osds[OsdId{1}].incarnation = 0;
  c.run(5s);
  CHECK(c.mds.registrations == 2);
  CHECK(c.osd(1).map.leased());
}

TEST_CASE("heartbeats follow the lease and stay few while nobody answers") {
  TestCluster c(1);
  const uint64_t before = c.mds.heartbeats;
  c.run(20s);
  const uint64_t during = c.mds.heartbeats - before;
  CHECK(during >= 40);  // five a lease of 2 s
  CHECK(during <= 60);
  CHECK(c.osd(1).map.leased());
  c.world.network().cut("mds", "osd1");
  c.run(60s);
  CHECK_FALSE(c.osd(1).map.leased());
  c.world.network().healAll();
  c.run(5s);
  CHECK(c.osd(1).map.leased());
}

TEST_CASE("the map of another cluster is refused, and ends the daemon's run") {
  TestCluster c(1);
  c.mds.map.cluster = Uuid{9, 9};
  ++c.mds.map.epoch.value;
  c.run(10s);
  CHECK_FALSE(c.osd(1).map.leased());
  CHECK(c.osd(1).map.map()->cluster == kCluster);
}

TEST_CASE("a new OSD learns from the MDS which cluster it joins") {
  TestCluster c(1);
  sim::SimNode& node = c.world.addNode("new");
  Env env = node.env();
  Event stop(env.reactor);
  auto cluster = c.world.await(node, askCluster(env, {Endpoint{"mds", 7700}}, 10s, stop));
  REQUIRE(cluster);
  REQUIRE(*cluster);
  CHECK(**cluster == kCluster);

  // Where there is none, it says so, after a while.
  const TimePoint start = c.world.now();
  auto none = c.world.await(node, askCluster(env, {Endpoint{"mds", 7799}}, 10s, stop));
  REQUIRE(none);
  CHECK(none->error().code == Errc::kUnavailable);
  CHECK(none->error().message.find("mds:7799") != std::string::npos);
  CHECK(c.world.now() - start < 15s);

  // Somebody who is not an MDS is not believed.
  auto wrong = c.world.await(node, askCluster(env, {Endpoint{"osd1", 7800}}, 3s, stop));
  REQUIRE(wrong);
  CHECK(wrong->error().message.find("that is not a metadata server") != std::string::npos);
}
