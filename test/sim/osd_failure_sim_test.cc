// Scenarios in which OSDs go for long, go for good, come new, and data moves. Whatever happens,
// applications see nothing but delays, and in the end every group has all its copies, equal.
#include <doctest/doctest.h>

#include "test/sim/scenario.h"

namespace cairn::sim::test {
namespace {

ClusterOptions fiveOsds(Duration outAfter) {
  return {.osds = 5, .replicas = 3, .clients = 2, .outAfter = outAfter};
}

// Until every group has as many copies as it should; false if that does not come.
bool becomesWhole(SimCluster& c, Duration limit) {
  return c.world.runUntil(
      [&] {
        for (const auto& [id, pool] : c.mds().state().map().pools)
          for (const PlacementGroup& group : pool.pgs)
            if (group.osds.size() != pool.width() || !group.joining.empty()) return false;
        return true;
      },
      limit);
}

// One OSD dies or stands still for longer than its lease, while the rest goes on.
void longAbsence(Run& run) {
  SimCluster& c = run.cluster;
  SimWorld& world = c.world;
  const size_t which = world.random().below(c.options().osds);
  const Duration lasts = 2s + upTo(world, 10s);
  if (world.chance(0.5)) {
    SimNode& node = c.osdNode(which);
    world.pause(node);
    run.go(lasts);
    world.resume(node);
  } else {
    world.kill(c.osdNode(which));
    c.endOsd(which);
    run.go(lasts);
    c.startOsd(which);
  }
}

void putIn(SimCluster& c, OsdId id, bool in) {
  c.administer([&](schema::Mutation::Builder m) {
    auto set = m.initOsdSet();
    set.setId(id.value);
    set.setSetIn(true);
    set.setIn(in);
  });
}

}  // namespace

TEST_CASE("OSDs: one after the other is away for longer than its lease") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, fiveOsds(10min));
    run.begin(150);
    while (run.go(upTo(run.cluster.world, 1s))) {
      longAbsence(run);
      run.cluster.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: away for long, while the network and the other daemons fail too") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, fiveOsds(10min));
    run.begin(120);
    SimWorld& world = run.cluster.world;
    while (run.go(upTo(world, 1s))) {
      switch (world.random().below(3)) {
        case 0:
          longAbsence(run);
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
  forSeeds(5, [](uint64_t seed) {
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
      REQUIRE_MESSAGE(becomesWhole(c, 120s), "what was lost is not copied");
      c.administer([&](schema::Mutation::Builder m) { m.initOsdRemove().setId(gone.value); });
      c.startOsd(which);  // a new disk
      c.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("OSDs: are put out and in while there is work, and fail meanwhile") {
  forSeeds(5, [](uint64_t seed) {
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
      if (world.chance(0.5)) world.chance(0.5) ? longAbsence(run) : disturb(run, 2s);
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
