// Who holds which shard of an erasure-coded group, and who is in sync (mds/ops/groups.h).
#include "common/cluster/health.h"
#include "common/cluster/mix64.h"
#include "mds/cluster/placement.h"
#include "mds/ops/groups.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Osds = std::vector<OsdId>;
using Shards = std::map<OsdId, uint8_t>;

constexpr PoolId kPool{2};

// A cluster in which something is stored, with a pool on the OSDs 2 to `osds` + 1. The pool
// "default" lies on the first OSD, so that it is in nobody's way.
void setUp(Mds& mds, uint32_t osds, uint16_t data, uint16_t parity, uint32_t groups,
           uint16_t minSize = 0) {
  mds.addOsd(1, [](auto o) { o.setDeviceClass(schema::DeviceClass::HDD); });
  CHECK(mds.run([](auto m) {
             auto p = m.initPoolSet();
             p.setName("default");
             p.setSetClass(true);
             p.setDeviceClass(schema::DeviceClass::HDD);
           })
            .ok());
  CHECK(mds.alloc(mds.file("f"), 0, 1).ok());
  for (uint32_t i = 2; i <= osds + 1; ++i) mds.addOsd(i);
  auto made = mds.createPool("ec", 0, [&](auto p) {
    p.setEcData(data);
    p.setEcParity(parity);
    p.setPgCount(groups);
    p.setMinSize(minSize);
    p.setAnyClass(false);
  });
  REQUIRE(made.id() == kPool.value);
}

// `first` are the OSDs of its only group as they were placed.
struct Placed {
  Placed(uint32_t osds, uint16_t data, uint16_t parity) : mds(0, {}, 1) {
    setUp(mds, osds, data, parity, 1);
    first = group().osds;
  }
  const Pool& pool() { return *mds->map().pool(kPool); }
  const PlacementGroup& group() { return pool().pgs[0]; }
  Osds target() { return Placer(mds->map(), pool()).target(PgIndex(0)); }
  void down(OsdId id) { CHECK(mds.osdState(id.value, false).ok()); }
  void up(OsdId id) { CHECK(mds.osdState(id.value, true).ok()); }
  void out(OsdId id) { CHECK(mds.osdIn(id.value, false).ok()); }
  void synced(OsdId id) { CHECK(mds.report({{id, true, 0, kPool}}).ok()); }
  void failed(OsdId id) { CHECK(mds.report({{id, false, 0, kPool}}).ok()); }
  Errc remove(OsdId id, bool force = true) {
    return mds
        .run([&](auto m) {
          auto r = m.initOsdRemove();
          r.setId(id.value);
          r.setForce(force);
        })
        .code();
  }

  Mds mds;
  Osds first;
};

}  // namespace

TEST_CASE("shards: the first list holds them in its order, and so do all who know") {
  Placed c(6, 4, 2);
  REQUIRE(c.first.size() == 6);
  CHECK(c.first == c.target());
  for (uint8_t i = 0; i < 6; ++i) CHECK(c.group().shardOf(c.first[i]) == i);
  CHECK(c.group().shards.size() == 6);
  CHECK(c.group().inSync() == 6);
  const auto before = c.pool().pgs;
  c.mds.reopen();
  CHECK(c.pool().pgs == before);
  for (const auto& g : c.mds->map().pool(PoolId(1))->pgs) CHECK(g.shards.empty());
}

TEST_CASE("shards: they follow the target while nothing is stored") {
  Mds mds(4, {}, 1);
  REQUIRE(mds.createPool("ec", 0,
                         [&](auto p) {
                           p.setEcData(2);
                           p.setEcParity(1);
                         })
              .id() == kPool.value);
  mds.addOsd(5);
  const Pool& pool = *mds->map().pool(kPool);
  const auto targets = placePool(mds->map(), pool);
  for (size_t i = 0; i < targets.size(); ++i) {
    CHECK(pool.pgs[i].osds == targets[i]);
    CHECK(pool.pgs[i].shards == Shards{{targets[i][0], 0}, {targets[i][1], 1}, {targets[i][2], 2}});
  }
}

TEST_CASE("shards: who is back has the one that it had, and only catches up") {
  Placed c(3, 2, 1);
  const OsdId a = c.first[0], b = c.first[1], d = c.first[2];
  const auto shards = c.group().shards;
  c.down(a);
  CHECK(c.group().osds == Osds{b, d});
  CHECK(c.group().inSync() == 2);
  CHECK(c.group().shards == shards);
  c.mds.reopen();
  c.up(a);
  CHECK(c.group().joining == Osds{a});
  CHECK(c.group().shards == shards);
  c.synced(a);
  CHECK(c.group().osds == c.first);
  CHECK(c.group().shards == shards);
}

TEST_CASE("shards: who comes takes over from who goes, which stays until then") {
  Placed c(5, 2, 2);
  const OsdId b = c.first[1];
  c.out(b);
  REQUIRE(c.group().joining.size() == 1);
  const OsdId other = c.group().joining[0];
  CHECK(c.group().osds == c.first);
  CHECK(c.group().shardOf(other) == 1);
  CHECK(c.group().shardOf(b) == 1);
  SUBCASE("equal") {
    c.synced(other);
    CHECK(c.group().osds == c.target());
    CHECK_FALSE(c.group().shards.contains(b));
    CHECK(c.group().inSync() == 4);
  }
  SUBCASE("it died on the way") {
    c.down(other);
    CHECK(c.group().osds == c.first);
    CHECK(c.group().joining.empty());
    CHECK(c.group().shardOf(other) == 1);
  }
  SUBCASE("who goes dies on the way") {
    c.down(b);
    CHECK(c.group().inSync() == 3);
    c.synced(other);
    CHECK(c.group().inSync() == 4);
    CHECK(c.group().osds == c.target());
  }
}

TEST_CASE("shards: copies of one shard are not counted twice") {
  Placed c(5, 2, 2);
  const OsdId b = c.first[1];
  c.out(b);
  const OsdId other = c.group().joining[0];
  // The move of shard 1 is done in all but a member of the target that is away.
  c.down(c.first[2]);
  c.synced(other);
  CHECK(c.group().osds.size() == 4);
  CHECK(c.group().inSync() == 3);
  CHECK(pgState(c.mds->map(), c.pool(), c.group()) == PgState::kDegraded);
  c.down(c.first[0]);
  CHECK(c.group().osds.size() == 3);
  CHECK(c.group().inSync() == 2);
  CHECK(pgState(c.mds->map(), c.pool(), c.group()) == PgState::kUnavailable);
  CHECK(c.group().complete == Osds{c.first[0]});
}

TEST_CASE("shards: of two in the target with one shard the better one keeps it") {
  ClusterMap map;
  Pool pool;
  pool.ecData = 2;
  pool.ecParity = 2;
  pool.minSize = 3;
  for (uint32_t i = 1; i <= 6; ++i) map.osds[OsdId(i)].up = true;
  const OsdId a(1), b(2), c(3), d(4), e(5), f(6);
  const Osds target = {a, b, c, d};
  PlacementGroup group;
  Osds away;
  auto settle = [&] { ops::settle(map, pool, target, group, away); };
  SUBCASE("both in sync: the first in the target's order") {
    group.osds = {b, a, e, f};
    group.shards = {{b, 1}, {a, 1}, {e, 0}, {f, 2}};
    settle();
    CHECK(group.osds == Osds{a, e, f});
    CHECK(group.inSync() == 3);
    CHECK(group.joining == Osds{b, c, d});
    CHECK(group.shards == Shards{{a, 1}, {b, 3}, {c, 0}, {d, 2}, {e, 0}, {f, 2}});
  }
  SUBCASE("one joins: who is in sync") {
    group.osds = {b, e, f};
    group.joining = {a};
    group.shards = {{a, 1}, {b, 1}, {e, 0}, {f, 2}};
    settle();
    CHECK(group.osds == Osds{b, e, f});
    CHECK(group.shardOf(b) == 1);
    CHECK(group.shardOf(a) == 3);
  }
  SUBCASE("one is complete: it keeps it before one that joins, not before one in sync") {
    map.osds[b].up = false;
    map.osds[c].up = false;
    group.osds = {d, e};
    group.joining = {a};
    group.complete = {b, c};
    group.shards = {{a, 1}, {b, 1}, {c, 0}, {d, 0}, {e, 2}};
    settle();
    CHECK(group.complete == Osds{b});
    CHECK(group.shards == Shards{{a, 3}, {b, 1}, {c, 2}, {d, 0}, {e, 2}});
  }
  SUBCASE("none: a shard that is missing is made by one that is up, before any moves") {
    map.osds[b].up = false;
    group.osds = {e, f, d};
    group.shards = {{e, 0}, {f, 1}, {d, 2}};
    settle();
    CHECK(group.shards == Shards{{a, 3}, {b, 1}, {c, 0}, {d, 2}, {e, 0}, {f, 1}});
  }
  SUBCASE("nobody in sync is up: nothing that is in sync is lost") {
    for (OsdId id : {a, b, e, f}) map.osds[id].up = false;
    group.osds = {a, b, e, f};
    group.shards = {{a, 0}, {b, 0}, {e, 1}, {f, 2}};
    settle();
    CHECK(group.inSync() == 3);
    CHECK(group.shardOf(a) == 0);
  }
}

TEST_CASE("shards: what left while nothing could be acknowledged returns when too few are up") {
  Placed c(6, 4, 2);
  const auto& f = c.first;
  c.down(f[5]);
  CHECK(c.group().complete.empty());
  c.down(f[4]);
  CHECK(c.group().complete == Osds{f[4]});
  c.down(f[3]);
  CHECK(c.group().osds == Osds{f[0], f[1], f[2]});
  CHECK(c.group().complete == Osds{f[4], f[3]});
  c.up(f[5]);  // it may lack what the others acknowledged
  CHECK(c.group().osds == Osds{f[0], f[1], f[2]});
  CHECK(c.group().joining == Osds{f[5]});
  SUBCASE("one by one") {
    c.up(f[4]);
    CHECK(c.group().osds == Osds{f[0], f[1], f[2], f[4]});
    CHECK(c.group().inSync() == 4);
    c.up(f[3]);  // the group is read again: it may have gone on
    CHECK(c.group().osds == Osds{f[0], f[1], f[2], f[4]});
    CHECK(c.group().joining == Osds{f[3], f[5]});
    c.synced(f[3]);
    CHECK(c.group().complete.empty());
  }
  SUBCASE("after the last ones went, too") {
    for (int i : {0, 1, 2}) c.down(f[i]);
    CHECK(c.group().osds == Osds{f[2]});
    c.mds.reopen();
    c.up(f[3]);
    c.up(f[4]);
    c.up(f[0]);
    CHECK(c.group().inSync() == 3);
    c.up(f[1]);
    CHECK(c.group().inSync() == 4);
    CHECK(c.group().complete == Osds{f[2]});
  }
}

TEST_CASE("shards: nobody is reported away without whom nothing could be read") {
  Placed c(4, 2, 2);
  const auto& f = c.first;
  c.failed(f[3]);
  CHECK(c.group().osds == Osds{f[0], f[1], f[2]});
  CHECK(c.group().joining == Osds{f[3]});
  CHECK(c.group().shardOf(f[3]) == 3);
  c.failed(f[1]);
  CHECK(c.group().osds == Osds{f[0], f[2]});
  const auto epoch = c.mds->map().epoch;
  c.failed(f[2]);
  CHECK(c.group().osds == Osds{f[0], f[2]});
  CHECK(c.mds->map().epoch == epoch);
}

TEST_CASE("shards: who is reported is trusted no longer, in whichever lists it is") {
  Placed c(6, 4, 2);
  const auto& f = c.first;
  c.down(f[5]);
  c.down(f[4]);
  SUBCASE("down") {
    CHECK(c.group().joining.empty());
  }
  SUBCASE("up, and joining") {
    c.up(f[4]);
    CHECK(c.group().joining == Osds{f[4]});
  }
  CHECK(c.group().complete == Osds{f[4]});
  const auto joining = c.group().joining;
  c.failed(f[4]);
  CHECK(c.group().complete.empty());
  CHECK(c.group().joining == joining);
  c.down(f[3]);
  c.up(f[4]);
  CHECK(c.group().osds == Osds{f[0], f[1], f[2]});
}

TEST_CASE("shards: an OSD is not removed if too few shards would be left") {
  Placed c(4, 2, 2);
  const auto& f = c.first;
  SUBCASE("all went one after another") {
    for (int i : {3, 2, 1, 0}) c.down(f[i]);
    // f[3] may lack what the three acknowledged.
    CHECK(c.group().osds == Osds{f[0]});
    CHECK(c.group().complete == Osds{f[2], f[1]});
    CHECK(c.remove(f[0], false) == Errc::kBusy);
    CHECK(c.remove(f[0]) == Errc::kOk);
    CHECK(c.group().inSync() == 2);
    CHECK(c.group().shardOf(f[1]) == 1);
    CHECK(c.group().shardOf(f[2]) == 2);
    CHECK_FALSE(c.group().shards.contains(f[0]));
    CHECK(c.remove(f[1]) == Errc::kBusy);
    CHECK(c.remove(f[2]) == Errc::kBusy);
    CHECK(c.remove(f[3]) == Errc::kOk);
    c.up(f[2]);
    c.up(f[1]);
    CHECK(c.group().osds == Osds{f[2], f[1]});
  }
  SUBCASE("some are up") {
    c.down(f[3]);
    c.down(f[2]);
    c.down(f[1]);
    CHECK(c.group().osds == Osds{f[0]});
    CHECK(c.remove(f[3], false) == Errc::kOk);
    CHECK(c.remove(f[2]) == Errc::kOk);
    CHECK(c.remove(f[1]) == Errc::kBusy);
  }
}

// Random events, with a model of the data: which shard of which writes who holds.
TEST_CASE("shards: whatever happens, who is in sync holds its shard of all that was acknowledged") {
  struct Held {
    uint8_t shard = 0;
    uint64_t writes = 0;  // they are numbered, and applied in order
  };
  constexpr uint32_t kGroups = 4;
  constexpr std::pair<uint16_t, uint16_t> kCodes[] = {{2, 1}, {2, 2}, {3, 1}, {4, 2}};
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    CAPTURE(seed);
    uint64_t random = seed;
    auto below = [&random](uint64_t n) {
      return static_cast<uint32_t>((random = mix64(random)) % n);
    };
    const auto [data, parity] = kCodes[seed % std::size(kCodes)];
    const uint32_t count = data + parity + below(4);
    Mds mds(0, {}, 1);
    setUp(mds, count, data, parity, kGroups,
          static_cast<uint16_t>(below(2) == 0 ? 0 : data + below(parity + 1)));
    Osds all;
    for (uint32_t i = 2; i <= count + 1; ++i) all.emplace_back(i);
    std::vector<uint64_t> acknowledged(kGroups);
    std::vector<std::map<OsdId, Held>> held(kGroups);
    for (uint32_t i = 0; i < kGroups; ++i)
      for (auto [id, shard] : mds->map().pool(kPool)->pgs[i].shards) held[i][id] = {shard, 0};
    uint64_t writes = 0;
    for (int step = 0; step < 400; ++step) {
      CAPTURE(step);
      const ClusterMap before = mds->map();
      std::vector<Osds> awayBefore;
      for (uint32_t i = 0; i < kGroups; ++i) awayBefore.push_back(mds.away(PgIndex(i), kPool));
      const Pool pool = *before.pool(kPool);
      const uint32_t pg = below(kGroups);
      const PlacementGroup& group = pool.pgs[pg];
      const bool serves = before.osd(group.osds[0])->up && group.inSync() >= pool.needed();
      OsdId it = all[below(all.size())];
      bool ofOne = true;     // an event of the OSD `it` alone
      bool shrinks = false;  // fewer shards may be in sync after it
      switch (below(17)) {
        case 0:
          shrinks = before.osd(it)->up;
          CHECK(mds.osdState(it.value, !shrinks).ok());
          break;
        case 1:
        case 2:
        case 3:
          CHECK(mds.osdState(it.value, true).ok());
          break;
        case 4:
          CHECK(mds.osdIn(it.value, !before.osd(it)->in).ok());
          break;
        case 5:
          CHECK(mds.osdIn(it.value, true).ok());
          break;
        case 6:
          CHECK(mds.run([&](auto m) { m.initOsdsLost(1).set(0, it.value); }).ok());
          break;
        case 7: {
          if (below(3) != 0) break;
          shrinks = true;
          auto removed = mds.run([&](auto m) {
            auto r = m.initOsdRemove();
            r.setId(it.value);
            r.setForce(true);
          });
          if (!removed.ok()) break;
          std::erase(all, it);
          for (auto& h : held) h.erase(it);
          break;
        }
        case 8:
          if (all.size() >= count) break;
          it = OsdId(static_cast<uint32_t>(mds.addOsd(1000 + static_cast<uint64_t>(step)).id()));
          all.push_back(it);
          break;
        case 9:
        case 10:
        case 11: {
          ofOne = false;
          if (!serves || group.joining.empty()) break;
          const OsdId member = group.joining[below(group.joining.size())];
          held[pg][member] = {group.shardOf(member), held[pg][group.osds[0]].writes};
          CHECK(mds.report({{member, true, pg, kPool}}).ok());
          break;
        }
        case 12: {
          ofOne = false;
          if (!serves || group.osds.size() < 2) break;
          // A write that did not reach one member.
          shrinks = true;
          const OsdId member = group.osds[1 + below(group.osds.size() - 1)];
          ++writes;
          for (OsdId id : group.osds)
            if (id != member) held[pg][id].writes = writes;
          CHECK(mds.report({{member, false, pg, kPool}}).ok());
          const PlacementGroup& now = mds->map().pool(kPool)->pgs[pg];
          CHECK(now.osds.front() == group.osds.front());
          if (std::ranges::count(now.osds, member) == 0 && now.inSync() >= pool.minSize)
            acknowledged[pg] = writes;
          break;
        }
        case 13:
          ofOne = false;
          CHECK(mds.pause(below(2) == 0).ok());
          break;
        default: {
          ofOne = false;
          if (!serves || group.inSync() < pool.minSize) break;
          ++writes;
          for (OsdId id : group.osds) held[pg][id].writes = writes;
          acknowledged[pg] = writes;
        }
      }

      const ClusterMap& after = mds->map();
      const Placer placedBefore(before, pool), placedAfter(after, *after.pool(kPool));
      for (uint32_t i = 0; i < kGroups; ++i) {
        const PlacementGroup &a = pool.pgs[i], &b = after.pool(kPool)->pgs[i];
        auto targetOf = [i](const ClusterMap& map, const Placer& placed, const PlacementGroup& g,
                            const Osds& away) {
          const Osds usual = placed.target(PgIndex(i));
          return map.rebalancePaused ? ops::pausedTarget(map, *map.pool(kPool), usual, g, away)
                                     : usual;
        };
        const Osds was = targetOf(before, placedBefore, a, awayBefore[i]);
        const Osds target = targetOf(after, placedAfter, b, mds.away(PgIndex(i), kPool));
        auto in = [](const Osds& list, OsdId id) { return std::ranges::count(list, id) != 0; };

        // The data.
        std::set<uint8_t> known, reachable;
        for (const auto* list : {&b.osds, &b.complete})
          for (OsdId id : *list) {
            REQUIRE(held[i].contains(id));
            REQUIRE(held[i][id].shard == b.shardOf(id));
            REQUIRE(held[i][id].writes >= acknowledged[i]);
            known.insert(b.shardOf(id));
            if (after.osd(id)->up) reachable.insert(b.shardOf(id));
          }
        CHECK(known.size() >= pool.needed());
        if (reachable.size() >= pool.needed()) {
          CHECK(b.inSync() >= pool.needed());
          CHECK(after.osd(b.osds[0])->up);
        }
        if (!shrinks && before.osd(a.osds[0])->up) CHECK(b.inSync() >= a.inSync());

        // The shards of the target differ, and everybody keeps what it has.
        std::set<uint8_t> ofTarget;
        for (OsdId id : target) {
          REQUIRE(b.shards.contains(id));
          CHECK(ofTarget.insert(b.shardOf(id)).second);
        }
        for (auto [id, shard] : a.shards) {
          const bool stays = in(b.osds, id) || in(b.complete, id) || in(target, id);
          CHECK(b.shards.contains(id) == (stays && after.osd(id) != nullptr));
          if (!b.shards.contains(id) || b.shardOf(id) == shard) continue;
          CHECK(target != was);
          CHECK_FALSE(in(b.osds, id));
          // Another one of the target has it now, and is in sync if this one was.
          CHECK(std::ranges::any_of(target, [&, shard = shard](OsdId other) {
            return other != id && b.shardOf(other) == shard &&
                   (in(b.osds, other) || !in(a.osds, id));
          }));
        }

        // Who joins: whoever belongs there.
        std::set<OsdId> joins;
        for (OsdId id : target)
          if (after.osd(id)->up && !in(b.osds, id)) joins.insert(id);
        CHECK(std::set(b.joining.begin(), b.joining.end()) == joins);
        if (after.rebalancePaused) CHECK(b.inSync() + b.joining.size() <= pool.width());

        bool changed = a.osds != b.osds || a.joining != b.joining;
        for (const auto* list : {&b.osds, &b.joining})
          for (OsdId id : *list) changed = changed || a.shardOf(id) != b.shardOf(id);
        if (changed) CHECK(b.epoch == after.epoch);
        // Groups that have nothing to do with the OSD do not notice.
        if (!ofOne || !changed) continue;
        Osds concerned = was;
        for (const Osds& list : {target, a.osds, a.joining, a.complete})
          concerned.insert(concerned.end(), list.begin(), list.end());
        CHECK(in(concerned, it));
      }
      if (step % 40 == 0) {
        const auto groups = after.pool(kPool)->pgs;
        mds.reopen();
        CHECK(mds->map().pool(kPool)->pgs == groups);
      }
    }
  }
}
