// Scenarios in which OSDs go for long, go for good, come new, and data moves. Whatever happens,
// applications see nothing but delays, and in the end every group has all its copies, equal, or
// its shards, which are words of the code.
#include <doctest/doctest.h>

#include <utility>

#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {

TEST_CASE("OSDs: away for longer than their lease, as many as may be") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 3));
    run.begin(120);
    while (run.go(upTo(run.cluster.world, 1s))) {
      longAbsence(run, mayBeAway(run.cluster.options()));
      run.cluster.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: away for long, while the network and the other daemons fail too") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 3));
    run.begin(100);
    SimWorld& world = run.cluster.world;
    while (run.go(upTo(world, 1s))) {
      switch (world.random().below(3)) {
        case 0:
          longAbsence(run, mayBeAway(run.cluster.options()));
          break;
        case 1:
          untilStaged(run);
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

TEST_CASE("OSDs: disks are lost, and what they held is made from the others") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, 1 + seed / 2 % 2, 3s));
    SimCluster& c = run.cluster;
    run.begin(120);
    for (int round = 0; round < 2; ++round) {
      run.go(upTo(c.world, 2s));
      // As many as the rest can replace at once, or as many as may be.
      const bool one = mayBeAway(c.options()) == 1 || c.world.chance(0.5);
      const auto lost = someOsds(c, one ? 1 : mayBeAway(c.options()));
      untilStaged(run);
      std::vector<OsdId> gone;
      for (size_t i : lost) {
        gone.push_back(c.osd(i).id());
        c.loseOsd(i);
      }
      c.world.run(6s);  // down, then out
      run.judge();
      if (one)
        REQUIRE_MESSAGE(c.world.runUntil([&] { return c.whole(); }, 120s),
                        "what was lost is not made again");
      // Groups that take no changes without them keep them in mind.
      for (OsdId id : gone) c.removeOsd(id, !one);
      for (size_t i : lost) c.startOsd(i);  // a new disk
      c.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: are put out and in while there is work, and fail meanwhile") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, 1 + seed / 2 % 2));
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    run.begin(100);
    const size_t none = c.osds();
    size_t out = none;
    while (run.go(upTo(world, 1500ms))) {
      if (out == none) {
        out = world.random().below(c.osds());
        c.putIn(c.osd(out).id(), false);
      } else {
        c.putIn(c.osd(std::exchange(out, none)).id(), true);
      }
      if (world.chance(0.5))
        world.chance(0.5) ? longAbsence(run, mayBeAway(c.options())) : disturb(run, 2s);
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
