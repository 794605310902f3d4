// Scenarios in which OSDs go for long, go for good, come new, and data moves. Whatever happens,
// applications see nothing but delays, and in the end every group has all its copies, equal.
#include <doctest/doctest.h>

#include "test/sim/scenario.h"

namespace cairn::sim::test {
namespace {

ClusterOptions fiveOsds(Duration outAfter) {
  return {.osds = 5, .replicas = 3, .clients = 2, .outAfter = outAfter};
}

}  // namespace

TEST_CASE("OSDs: one after the other is away for longer than its lease") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, fiveOsds(10min));
    run.begin(150);
    while (run.go(upTo(run.cluster.world, 1s))) {
      longAbsence(run, 1);
      run.cluster.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: away for long, while the network and the other daemons fail too") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, fiveOsds(10min));
    run.begin(120);
    SimWorld& world = run.cluster.world;
    while (run.go(upTo(world, 1s))) {
      switch (world.random().below(3)) {
        case 0:
          longAbsence(run, 1);
          break;
        case 1:
          killDaemon(run);
          break;
        default:
          disturb(run, 4s);
      }
    }
    run.finish();
    world.run(5s);
    run.cluster.waitForService();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: disks are lost, and others take over what they held") {
  forSeeds(3, [](uint64_t seed) {
    Run run(seed, fiveOsds(3s));
    SimCluster& c = run.cluster;
    run.begin(150);
    for (int round = 0; round < 2; ++round) {
      run.go(upTo(c.world, 2s));
      const size_t which = c.world.random().below(c.options().osds);
      const OsdId gone = c.osd(which).id();
      c.loseOsd(which);
      // Down, then out, then copied from the survivors to the rest.
      c.world.run(6s);
      run.judge();
      REQUIRE_MESSAGE(c.world.runUntil([&] { return c.whole(); }, 120s),
                      "what was lost is not copied");
      removeOsd(c, gone);
      c.startOsd(which);  // a new disk
      c.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: are put out and in while there is work, and fail meanwhile") {
  forSeeds(3, [](uint64_t seed) {
    Run run(seed, fiveOsds(10min));
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    run.begin(120);
    size_t out = c.options().osds;
    while (run.go(upTo(world, 1500ms))) {
      if (out == c.options().osds) {
        out = world.random().below(c.options().osds);
        putIn(c, c.osd(out).id(), false);
      } else {
        putIn(c, c.osd(std::exchange(out, c.options().osds)).id(), true);
      }
      if (world.chance(0.5)) world.chance(0.5) ? longAbsence(run, 1) : disturb(run, 2s);
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
