// Scenarios in which the disk of one OSD goes wrong. Nobody sees a wrong byte or an error: what
// others hold, or what can be made from it, takes the place of what is damaged.
#include <doctest/doctest.h>

#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {
namespace {

// One or several of what disks do without a word. What is wrong stays so until it is written again:
// a read that is wrong once in a while would be wrong again when the block has been mended.
DiskFaults lies(SimCluster& c, size_t osd) {
  DiskFaults f = c.dataOnly(osd);
  for (double* fault : {&f.flipOnWrite, &f.lostWrite, &f.misdirected, &f.unreadable})
    if (c.world.chance(0.5)) *fault = 0.05;
  return f;
}

}  // namespace

TEST_CASE("disks: one of them lies, and nobody sees a wrong byte") {
  uint64_t mended = 0;
  forSeeds(4, [&](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 2));
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    const size_t liar = world.random().below(c.osds());
    c.diskOf(liar) = lies(c, liar);
    run.begin(150);
    while (run.go(upTo(world, 1s))) {
      // Where more can fail than that one, another does, and the next when all are there again.
      if (c.options().striped && mayBeAway(c.options()) == 1) continue;
      if (world.chance(0.3)) longAbsence(run, 1);
      c.waitForService();
    }
    run.finish();
    DiskFaults& disk = c.diskOf(liar);
    disk.flipOnWrite = disk.lostWrite = disk.misdirected = disk.unreadable = 0;
    mended += c.scrub();
    CHECK(c.scrub() == 0);
    run.check(Equality::kBelowSize);
  });
  if (!numberOf("CAIRN_SEED")) CHECK(mended > 0);
}

TEST_CASE("disks: one of them takes nothing any more, and its OSD makes way for others") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, 1));
    SimCluster& c = run.cluster;
    run.begin(120);
    run.go(upTo(c.world, 2s));
    const size_t failing = c.world.random().below(c.osds());
    const OsdId gone = c.osd(failing).id();
    c.diskOf(failing) = {.readError = c.world.chance(0.5) ? 1.0 : 0.0, .writeError = 1};
    const bool ended = c.world.runUntil([&] { return c.osd(failing).failed().isSet(); }, 60s);
    REQUIRE_MESSAGE(ended, "its OSD goes on");
    run.judge();
    c.diskOf(failing) = {};
    c.loseOsd(failing);
    run.go(2s);
    c.putIn(gone, false);
    REQUIRE_MESSAGE(c.world.runUntil([&] { return c.whole(); }, 120s), "nobody takes its place");
    c.removeOsd(gone);
    c.startOsd(failing);  // a new disk
    c.waitForService();
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
