// Who is in sync and who joins, as OSDs come and go (mds/ops/groups.h).
#include "mds/ops/groups.h"
#include "common/cluster/mix64.h"
#include "mds/cluster/placement.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Osds = std::vector<OsdId>;

// A cluster in which something is stored. `a`, `b`, `c`, ... are the OSDs of group 0 as they were
// placed.
struct Placed {
  explicit Placed(uint32_t osds, uint16_t replicas) : mds(osds, {}, replicas) {
    auto f = mds.file("f");
    CHECK(mds.alloc(f, 0, 1).ok());
    first = group().osds;
  }
  const PlacementGroup& group() { return mds->map().pool(PoolId(1))->pgs[0]; }
  Osds target() { return Placer(mds->map(), *mds->map().pool(PoolId(1))).target(PgIndex(0)); }
  void down(OsdId id) { CHECK(mds.osdState(id.value, false).ok()); }
  void up(OsdId id) { CHECK(mds.osdState(id.value, true).ok()); }
  void synced(OsdId id) { CHECK(mds.report({{id, true}}).ok()); }

  Mds mds;
  Osds first;
};

}  // namespace

TEST_CASE(
    "groups: who is down leaves, joins when it is back, and is where it was when it is equal") {
  Placed c(3, 3);
  const OsdId a = c.first[0], b = c.first[1], d = c.first[2];
  const MapEpoch placed = c.group().epoch;
  c.down(a);
  CHECK(c.group().osds == Osds{b, d});
  CHECK(c.group().joining.empty());
  CHECK(c.group().epoch > placed);
  c.up(a);
  CHECK(c.group().osds == Osds{b, d});
  CHECK(c.group().joining == Osds{a});
  CHECK(c.group().epoch == c.mds->map().epoch);
  c.mds.reopen();
  CHECK(c.group().joining == Osds{a});
  c.synced(a);
  CHECK(c.group().osds == c.first);
  CHECK(c.group().joining.empty());
  CHECK(c.group().epoch == c.mds->map().epoch);
  // The others have moved back alike, or are as they were.
  c.down(b);
  CHECK(c.group().osds == Osds{a, d});
}

TEST_CASE("groups: the last ones in sync stay, up or down") {
  Placed c(3, 2);
  const OsdId a = c.first[0], b = c.first[1];
  c.down(b);
  c.down(a);
  CHECK(c.group().osds == Osds{a});
  c.up(b);  // it may lack what a acknowledged alone
  CHECK(c.group().osds == Osds{a});
  CHECK(c.group().joining == Osds{b});
  CHECK(c.group().complete.empty());
  c.up(a);
  c.synced(b);
  CHECK(c.group().osds == Osds{a, b});
}

TEST_CASE("groups: two that left while nothing could be acknowledged take over from the third") {
  Placed c(3, 3);
  const OsdId a = c.first[0], b = c.first[1], d = c.first[2];
  SUBCASE("one after another") {
    c.down(a);
    CHECK(c.group().complete.empty());  // the two others take writes
    c.down(b);
    CHECK(c.group().osds == Osds{d});
    CHECK(c.group().complete == Osds{b});
    c.down(d);
    CHECK(c.group().osds == Osds{d});
    c.mds.reopen();
    c.up(a);  // it may lack what b and d acknowledged
    CHECK(c.group().osds == Osds{d});
    CHECK(c.group().joining == Osds{a});
    c.up(b);
    CHECK(c.group().osds == Osds{b});
    CHECK(c.group().complete == Osds{d});
    CHECK(c.group().joining == Osds{a});
    c.synced(a);
    CHECK(c.group().osds == Osds{b, a});
    CHECK(c.group().complete.empty());  // they take writes, and d has to catch up
    c.up(d);
    CHECK(c.group().osds == Osds{b, a});
    CHECK(c.group().joining == Osds{d});
  }
  SUBCASE("two at once, or all") {
    bool all = false;
    SUBCASE("two") {}
    SUBCASE("all") {
      all = true;
    }
    CHECK(c.mds
              .run([&](auto m) {
                auto list = m.initOsdState(all ? 3 : 2);
                for (uint32_t i = 0; i < list.size(); ++i) list[i].setId(c.first[i].value);
              })
              .ok());
    if (!all) c.down(d);
    CHECK(c.group().osds == (all ? c.first : Osds{d}));
    c.up(b);
    CHECK(c.group().osds == Osds{b});
    c.up(a);
    c.synced(a);
    CHECK(c.group().osds == Osds{b, a});
  }
  SUBCASE("not by a primary's report: it lacks a mutation") {
    c.down(a);
    CHECK(c.mds.report({{d}}).ok());
    CHECK(c.group().osds == Osds{b});
    CHECK(c.group().complete.empty());
    c.down(b);
    CHECK(c.group().osds == Osds{b});
  }
}

TEST_CASE("groups: an OSD that is out is replaced, and leaves when it is no longer needed") {
  Placed c(4, 3);
  const OsdId b = c.first[1];
  CHECK(c.mds.osdIn(b.value, false).ok());
  const Osds target = c.target();
  CHECK(c.group().osds == c.first);
  REQUIRE(c.group().joining.size() == 1);
  const OsdId other = c.group().joining[0];
  c.synced(other);
  CHECK(c.group().osds == target);
  CHECK(c.group().joining.empty());
  CHECK(std::ranges::count(target, b) == 0);
  CHECK(std::ranges::count(target, other) == 1);
}

TEST_CASE("groups: with fewer failure domains than copies nobody in sync leaves") {
  Placed c(3, 3);
  CHECK(c.mds.osdIn(c.first[1].value, false).ok());
  CHECK(c.group().osds == c.first);
  CHECK(c.group().joining.empty());
  // Who is down and belongs to nothing does not come back by itself.
  c.down(c.first[1]);
  c.up(c.first[1]);
  CHECK(c.group().osds == Osds{c.first[0], c.first[2]});
  CHECK(c.group().joining.empty());
  CHECK(c.mds.osdIn(c.first[1].value, true).ok());
  CHECK(c.group().joining == Osds{c.first[1]});
}

TEST_CASE("groups: an OSD that was away for long is out until it is up again") {
  Placed c(4, 3);
  const OsdId a = c.first[0];
  auto lost = [&](OsdId id) {
    CHECK(c.mds.run([&](auto m) { m.initOsdsLost(1).set(0, id.value); }).ok());
  };
  const MapEpoch epoch = c.mds->map().epoch;
  lost(a);  // it is up
  CHECK(c.mds->map().epoch == epoch);
  c.down(a);
  lost(a);
  CHECK_FALSE(c.mds->map().osd(a)->in);
  CHECK(c.mds->map().osd(a)->autoOut);
  CHECK(c.group().joining.size() == 1);
  SUBCASE("by a heartbeat") {
    c.up(a);
  }
  SUBCASE("by registering") {
    c.mds.addOsd(a.value);
  }
  CHECK(c.mds->map().osd(a)->in);
  CHECK_FALSE(c.mds->map().osd(a)->autoOut);
  // What an administrator puts out stays out.
  c.down(a);
  lost(a);
  CHECK(c.mds.osdIn(a.value, false).ok());
  c.up(a);
  CHECK_FALSE(c.mds->map().osd(a)->in);
}

// Random events, with a model of the data: who holds which writes. A group whose members are all up
// and enough acknowledges writes that all of them hold; a primary that reports a failure
// acknowledges what that member lacks.
TEST_CASE("groups: whatever happens, who is in sync holds every acknowledged write") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    uint64_t random = seed;
    auto below = [&random](uint64_t n) {
      return static_cast<uint32_t>((random = mix64(random)) % n);
    };
    const uint32_t osds = 3 + below(4);
    Mds mds(osds, {}, static_cast<uint16_t>(1 + below(3)));
    auto f = mds.file("f");
    CHECK(mds.alloc(f, 0, 1).ok());
    const size_t pgs = mds->map().pool(PoolId(1))->pgs.size();
    // Each write has a number; they are applied in order, so that the last one says it all.
    std::vector<uint64_t> acknowledged(pgs);
    std::vector<std::map<OsdId, uint64_t>> held(pgs);
    uint64_t writes = 0;
    for (int step = 0; step < 120; ++step) {
      const auto before = mds->map();
      std::vector<Osds> awayBefore;
      for (uint32_t i = 0; i < pgs; ++i) awayBefore.push_back(mds.away(PgIndex(i)));
      const OsdId it(1 + below(osds));
      const uint32_t pg = below(pgs);
      const Pool pool = *before.pool(PoolId(1));
      const PlacementGroup group = pool.pgs[pg];
      const bool serves = before.osd(group.osds[0])->up;
      bool ofOne = true;  // an event of the OSD `it` alone
      switch (below(9)) {
        case 0:
        case 1:
          CHECK(mds.osdState(it.value, !before.osd(it)->up).ok());
          break;
        case 2:
          CHECK(mds.osdIn(it.value, !before.osd(it)->in).ok());
          break;
        case 3:
          CHECK(mds.run([&](auto m) { m.initOsdsLost(1).set(0, it.value); }).ok());
          break;
        case 4: {
          ofOne = false;
          if (!serves || group.joining.empty()) break;
          const OsdId member = group.joining[below(group.joining.size())];
          held[pg][member] = held[pg][group.osds[0]];
          CHECK(mds.report({{member, true, pg}}).ok());
          break;
        }
        case 5: {
          ofOne = false;
          if (!serves || group.osds.size() < 2) break;
          // A write that did not reach one member; it may reach some that are joining.
          const OsdId member = group.osds[1 + below(group.osds.size() - 1)];
          ++writes;
          for (OsdId id : group.osds)
            if (id != member) held[pg][id] = writes;
          CHECK(mds.report({{member, false, pg}}).ok());
          const PlacementGroup now = mds->map().pool(PoolId(1))->pgs[pg];
          CHECK(now.osds.front() == group.osds.front());
          if (now.osds.size() >= pool.minSize) acknowledged[pg] = writes;
          break;
        }
        case 6:
          ofOne = false;
          CHECK(mds.pause(below(2) == 0).ok());
          break;
        default: {
          ofOne = false;
          if (!serves || group.osds.size() < pool.minSize) break;
          ++writes;
          for (OsdId id : group.osds) held[pg][id] = writes;
          acknowledged[pg] = writes;
        }
      }
      const auto& after = mds->map();
      const Placer placedBefore(before, pool), placedAfter(after, *after.pool(PoolId(1)));
      for (uint32_t i = 0; i < pgs; ++i) {
        const PlacementGroup &a = pool.pgs[i], &b = after.pool(PoolId(1))->pgs[i];
        for (const auto* list : {&b.osds, &b.complete})
          for (OsdId id : *list) REQUIRE(held[i][id] >= acknowledged[i]);
        // Who joins: whoever belongs there, in a pause no more than are missing.
        Osds target = placedAfter.target(PgIndex(i));
        if (after.rebalancePaused) {
          target = ops::pausedTarget(after, pool, target, b, mds.away(PgIndex(i)));
          CHECK(b.osds.size() + b.joining.size() <= std::max(pool.width(), b.osds.size()));
        }
        Osds joins;
        for (OsdId id : target)
          if (after.osd(id)->up && std::ranges::count(b.osds, id) == 0) joins.push_back(id);
        CHECK(b.joining == joins);
        const bool changed = a.osds != b.osds || a.joining != b.joining;
        if (changed) CHECK(b.epoch == after.epoch);
        // Groups that have nothing to do with the OSD do not notice.
        if (!ofOne || !changed) continue;
        Osds concerned = placedBefore.target(PgIndex(i));
        for (const Osds& list :
             {placedAfter.target(PgIndex(i)), a.osds, a.joining, a.complete, awayBefore[i]})
          concerned.insert(concerned.end(), list.begin(), list.end());
        CHECK(std::ranges::count(concerned, it) != 0);
      }
      if (step % 40 == 0) mds.reopen();
    }
  }
}
