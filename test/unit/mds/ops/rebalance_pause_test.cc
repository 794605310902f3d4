// While rebalancing is paused nothing moves, and what is missing is made (mds/ops/groups.h).
#include <set>

#include "common/cluster/health.h"
#include "mds/cluster/placement.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Osds = std::vector<OsdId>;
using Groups = std::vector<PlacementGroup>;

// A cluster in which something is stored.
struct Stored {
  Stored(uint32_t osds, uint16_t replicas) : mds(osds, {}, replicas) {
    CHECK(mds.alloc(mds.file("f"), 0, 1).ok());
  }
  const Pool& pool() { return *mds->map().pool(PoolId(1)); }
  std::vector<Osds> inSync() {
    std::vector<Osds> out;
    for (const auto& g : pool().pgs) out.push_back(g.osds);
    return out;
  }
  size_t joining() {
    size_t n = 0;
    for (const auto& g : pool().pgs) n += g.joining.size();
    return n;
  }
  // All who join are equal, until nobody joins.
  void syncAll() {
    while (joining() > 0) {
      std::vector<Mds::Report> reports;
      for (uint32_t pg = 0; pg < pool().pgs.size(); ++pg)
        for (OsdId id : pool().pgs[pg].joining) reports.push_back({id, true, pg});
      CHECK(mds.report(reports).ok());
    }
  }
  void lose(OsdId id) {
    CHECK(mds.osdState(id.value, false).ok());
    CHECK(mds.run([&](auto m) { m.initOsdsLost(1).set(0, id.value); }).ok());
  }
  PgCounts counts() { return countPgs(mds->map(), pool()); }

  Mds mds;
};

}  // namespace

TEST_CASE("rebalancePause: groups that are whole do not move, until it goes on") {
  Stored c(3, 2);
  const auto placed = c.inSync();
  CHECK(c.mds.pause(true).ok());
  c.mds.addOsd(4);
  SUBCASE("to an OSD that is new") {}
  SUBCASE("from one that is out and serves") {
    CHECK(c.mds.osdIn(2, false).ok());
  }
  SUBCASE("by weight") {
    CHECK(c.mds
              .run([](auto m) {
                auto set = m.initOsdSet();
                set.setId(4);
                set.setSetWeight(true);
                set.setWeight(1u << 20);
              })
              .ok());
  }
  CHECK(c.inSync() == placed);
  CHECK(c.joining() == 0);
  CHECK(c.counts().clean == c.pool().pgs.size());
  c.mds.reopen();
  CHECK(c.mds->map().rebalancePaused);
  CHECK(c.mds.osdState(4, false).ok());
  CHECK(c.mds.osdState(4, true).ok());
  CHECK(c.joining() == 0);

  CHECK(c.mds.pause(false).ok());
  CHECK(c.joining() > 0);
  c.syncAll();
  CHECK(c.inSync() == placePool(c.mds->map(), c.pool()));
  c.mds.reopen();
  CHECK_FALSE(c.mds->map().rebalancePaused);
}

TEST_CASE("rebalancePause: who was on the way is let go, and comes again") {
  Stored c(3, 2);
  c.mds.addOsd(4);
  const size_t moving = c.joining();
  REQUIRE(moving > 1);
  const Groups before = c.pool().pgs;
  CHECK(c.mds.pause(true).ok());
  CHECK(c.joining() == 0);
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(c.pool().pgs[i].osds == before[i].osds);
    // Whoever sent it something under the old lists must learn of the new ones.
    const bool moved = !before[i].joining.empty();
    CHECK((c.pool().pgs[i].epoch == c.mds->map().epoch) == moved);
  }
  const MapEpoch epoch = c.mds->map().epoch;
  CHECK(c.mds.pause(true).ok());
  CHECK(c.mds->map().epoch == epoch);
  CHECK(c.mds.pause(false).ok());
  CHECK(c.joining() == moving);
}

TEST_CASE("rebalancePause: copies that are missing are made") {
  Stored c(3, 2);
  CHECK(c.mds.pause(true).ok());
  c.mds.addOsd(4);
  SUBCASE("of an OSD that is lost") {
    c.lose(OsdId(1));
  }
  SUBCASE("of one that was out and served, and is down") {
    CHECK(c.mds.osdIn(1, false).ok());
    CHECK(c.joining() == 0);
    CHECK(c.mds.osdState(1, false).ok());
  }
  const auto left = c.inSync();
  CHECK(c.counts().degraded > 0);
  for (const auto& g : c.pool().pgs) CHECK(g.joining.empty() == (g.osds.size() == 2));
  c.syncAll();
  CHECK(c.counts().clean == c.pool().pgs.size());
  for (size_t i = 0; i < left.size(); ++i)
    if (left[i].size() == 2) CHECK(c.inSync()[i] == left[i]);
}

TEST_CASE("rebalancePause: a short absence moves nothing") {
  Stored c(3, 2);
  const auto placed = c.inSync();
  CHECK(c.mds.pause(true).ok());
  c.mds.addOsd(4);
  c.mds.addOsd(5);
  SUBCASE("of who is called down") {
    CHECK(c.mds.osdState(1, false).ok());
  }
  SUBCASE("of who is reported first") {
    std::vector<Mds::Report> reports;
    for (uint32_t pg = 0; pg < placed.size(); ++pg)
      if (placed[pg][1] == OsdId(1)) reports.push_back({OsdId(1), false, pg});
    REQUIRE_FALSE(reports.empty());
    CHECK(c.mds.report(reports).ok());
    CHECK(c.joining() == reports.size());  // it is up
    CHECK(c.mds.osdState(1, false).ok());
  }
  CHECK(c.counts().degraded > 0);
  CHECK(c.joining() == 0);
  c.mds.reopen();
  CHECK(c.mds.osdState(1, true).ok());
  for (const auto& g : c.pool().pgs)
    CHECK(g.joining == (g.osds.size() == 2 ? Osds{} : Osds{OsdId(1)}));
  c.syncAll();
  for (size_t i = 0; i < placed.size(); ++i) {
    const auto& now = c.pool().pgs[i].osds;
    CHECK(std::set(now.begin(), now.end()) == std::set(placed[i].begin(), placed[i].end()));
    CHECK(c.mds.away(PgIndex(static_cast<uint32_t>(i))).empty());
  }
}

TEST_CASE("rebalancePause: who makes a group whole is in a failure domain that has nobody else") {
  // Two OSDs on each of four hosts.
  Mds mds(0, {}, 1);
  for (uint32_t i = 0; i < 8; ++i)
    mds.addOsd(i + 1, [i](auto o) { o.setHost("host" + std::to_string(i % 4)); });
  CHECK(mds.alloc(mds.file("f"), 0, 1).ok());
  REQUIRE(
      mds.createPool("p", 3, [](auto p) { p.setFailureDomain(schema::FailureDomain::HOST); }).ok());
  auto pool = [&]() -> const Pool& { return *mds->map().poolByName("p"); };
  CHECK(mds.pause(true).ok());
  // Everything belongs elsewhere now, as far as it can.
  for (uint32_t id : {1, 2, 3}) CHECK(mds.osdIn(id, false).ok());
  for (const auto& g : pool().pgs) CHECK(g.joining.empty());
  CHECK(mds.osdState(1, false).ok());
  size_t healing = 0;
  for (const auto& g : pool().pgs) {
    CHECK(g.osds.size() + g.joining.size() == 3);
    healing += g.joining.size();
    std::set<std::string> hosts;
    for (const auto* list : {&g.osds, &g.joining})
      for (OsdId id : *list) hosts.insert(mds->map().osd(id)->host);
    CHECK(hosts.size() == 3);
  }
  CHECK(healing > 0);
}

TEST_CASE("rebalancePause: copies that a pool is to have more of are made") {
  Stored c(3, 2);
  CHECK(c.mds.pause(true).ok());
  CHECK(c.mds
            .run([](auto m) {
              auto p = m.initPoolSet();
              p.setName("default");
              p.setSetReplicas(true);
              p.setReplicas(3);
            })
            .ok());
  CHECK(c.joining() == c.pool().pgs.size());
}

TEST_CASE("rebalancePause: of shards, who holds one that nobody has joins, and nobody else") {
  Mds mds(4, {}, 1);
  CHECK(mds.alloc(mds.file("f"), 0, 1).ok());
  REQUIRE(mds.createPool("ec", 0,
                         [](auto p) {
                           p.setEcData(2);
                           p.setEcParity(1);
                         })
              .ok());
  auto pool = [&]() -> const Pool& { return *mds->map().poolByName("ec"); };
  const Groups placed = pool().pgs;
  CHECK(mds.pause(true).ok());
  mds.addOsd(5);
  mds.addOsd(6);
  CHECK(mds.osdIn(1, false).ok());
  for (size_t i = 0; i < placed.size(); ++i) {
    CHECK(pool().pgs[i].osds == placed[i].osds);
    CHECK(pool().pgs[i].joining.empty());
  }
  CHECK(mds.osdState(1, false).ok());
  size_t healing = 0;
  for (size_t i = 0; i < placed.size(); ++i) {
    const PlacementGroup& g = pool().pgs[i];
    const bool lost = std::ranges::count(placed[i].osds, OsdId(1)) != 0;
    REQUIRE(g.joining.size() == (lost ? 1 : 0));
    if (!lost) continue;
    ++healing;
    CHECK(g.shardOf(g.joining[0]) == placed[i].shardOf(OsdId(1)));
    CHECK(mds.report({{g.joining[0], true, static_cast<uint32_t>(i), pool().id}}).ok());
  }
  CHECK(healing > 0);
  CHECK(countPgs(mds->map(), pool()).clean == placed.size());
  CHECK(mds.pause(false).ok());
  CHECK(countPgs(mds->map(), pool()).recovering > 0);
}
