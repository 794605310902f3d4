// Scenarios in which clocks are wrong. Wall clocks may jump: nothing but times of files follows
// them. Clocks of leases may run at different rates, as far as the margins of the leases go.
#include <doctest/doctest.h>

#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {
namespace {

// Each process has its wall clock set by up to two days, or by minutes, to what comes or what was.
void jump(SimWorld& world) {
  for (const auto& node : world.nodes()) {
    if (!node->alive() || world.chance(0.3)) continue;
    const Duration most = world.chance(0.5) ? Duration(48h) : Duration(10min);
    const Duration by = upTo(world, most);
    node->reactor().simClock().setWallOffset(world.chance(0.5) ? by : -by);
  }
}

// An OSD that the MDS has given up, while it still may serve.
bool anyServesThatIsDown(SimCluster& c) {
  const auto& osds = c.mds().state().map().osds;
  for (size_t i = 0; i < c.osds(); ++i) {
    if (!c.running(i)) continue;
    const auto entry = osds.find(c.osd(i).id());
    if (entry != osds.end() && !entry->second.up && c.osd(i).map().leased()) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("clocks: they jump by minutes and days, and nobody cares") {
  forSeeds(3, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 2));
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    run.begin(100);
    while (run.go(upTo(world, 1s))) {
      jump(world);
      if (world.chance(0.3)) world.chance(0.5) ? killDaemon(run) : disturb(run, 2s);
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    // Nor do scrubs wait for what the clock said before.
    for (int round = 0; round < 3; ++round) {
      c.rot(world.random().below(c.osds()));
      jump(world);
      CHECK(c.scrub() > 0);
    }
    run.check(Equality::kBelowSize);
  });
}

// The MDS waits a quarter longer than a lease lasts, and an OSD takes a twentieth off: 1.1 to 0.9
// is just less than that.
TEST_CASE("clocks: they run at different rates, and no two OSDs ever serve the same") {
  forSeeds(4, [](uint64_t seed) {
    ClusterOptions options = fewOsds(seed);
    options.driftPpm = 100'000;
    SharedRun run(seed, options);
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    run.begin(100);
    bool twice = false;
    auto go = [&](Duration d) {
      world.runUntil(
          [&] {
            twice |= anyServesThatIsDown(c);
            return twice || run.over();
          },
          d);
      return !twice && !run.over();
    };
    while (go(upTo(world, 1s))) {
      // One of them does not hear the MDS, or is not heard, or stands still.
      const std::string osd = SimCluster::osdHost(world.random().below(c.osds()));
      switch (world.random().below(4)) {
        case 0:
          world.network().cut(osd, SimCluster::mdsHost());
          break;
        case 1:
          world.network().cutOneWay(osd, SimCluster::mdsHost());
          break;
        case 2:
          world.network().cutOneWay(SimCluster::mdsHost(), osd);
          break;
        default:
          disturb(run, 3s);
      }
      go(1s + upTo(world, 4s));
      world.network().healAll();
    }
    CHECK_FALSE(twice);
    run.finish();
    world.run(5s);
    c.waitForService();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
