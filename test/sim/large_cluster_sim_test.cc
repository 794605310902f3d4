// A cluster of up to 30 OSDs on ten hosts in five racks, with pools of copies and of shards spread
// over hosts and over racks. Whole hosts go; OSDs are put out and in, removed and added.
#include <doctest/doctest.h>

#include <array>
#include <set>
#include <string>

#include "common/cluster/health.h"
#include "test/sim/failures.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {
namespace {

constexpr size_t kHosts = 10;

struct PoolOf {
  const char* name;
  uint16_t copies, data, parity;
  schema::FailureDomain domain;
};

// One for each worker.
constexpr std::array<PoolOf, 4> kPools{{{"copies", 3, 0, 0, schema::FailureDomain::HOST},
                                        {"shards", 0, 4, 2, schema::FailureDomain::HOST},
                                        {"racks", 3, 0, 0, schema::FailureDomain::RACK},
                                        {"wide", 0, 6, 3, schema::FailureDomain::HOST}}};

void makePools(Run& run) {
  SimCluster& c = run.cluster;
  for (size_t i = 0; i < kPools.size(); ++i) {
    const PoolOf& pool = kPools[i];
    c.administer([&pool](schema::Mutation::Builder m) {
      auto p = m.initPoolCreate();
      p.setName(pool.name);
      p.setReplicas(pool.copies);
      p.setEcData(pool.data);
      p.setEcParity(pool.parity);
      p.setStripeUnit(pool.copies != 0 ? 0 : 8 * kKiB);
      p.setAnyClass(true);
      p.setFailureDomain(pool.domain);
      p.setPgCount(16);
    });
    c.administer([&](schema::Mutation::Builder m) {
      auto s = m.initSetLayout();
      s.setIno(run.worker(i).directory().value);
      s.setPool(pool.name);
    });
  }
  c.waitForService();
}

// No host, or rack, has two members of a group.
void checkDomains(SimCluster& c) {
  const ClusterMap& map = c.mds().state().map();
  for (const PoolOf& pool : kPools) {
    const Pool* p = map.poolByName(pool.name);
    REQUIRE(p != nullptr);
    for (const PlacementGroup& group : p->pgs) {
      std::set<std::string> domains;
      for (OsdId id : group.osds) {
        const OsdEntry& osd = *map.osd(id);
        domains.insert(pool.domain == schema::FailureDomain::RACK ? osd.rack : osd.host);
      }
      CHECK_MESSAGE(domains.size() == group.osds.size(), pool.name,
                    ": two members of a group share a failure domain");
    }
  }
}

// All OSDs of a host are away for longer than their lease; every pool that spreads over hosts goes
// on.
void loseHost(Run& run, size_t host) {
  SimCluster& c = run.cluster;
  std::vector<size_t> there;
  for (size_t i = 0; i < c.osds(); ++i)
    if (c.hostOf(i) == host) there.push_back(i);
  sendAway(c, there, [&] {
    run.go(6s);  // they are called down, and others have taken over
    const ClusterMap& map = c.mds().state().map();
    for (const PoolOf& pool : kPools)
      CHECK_MESSAGE(countPgs(map, *map.poolByName(pool.name)).unavailable == 0, pool.name,
                    ": not served without host ", host);
    run.go(upTo(c.world, 3s));
  });
  c.waitForService();
}

// Drained, removed, and in its place a new one.
void replaceOsd(Run& run, size_t which) {
  SimCluster& c = run.cluster;
  const OsdId old = c.osd(which).id();
  c.putIn(old, false);
  REQUIRE_MESSAGE(c.world.runUntil([&] { return c.whole() && !c.uses(old); }, 120s),
                  "it is not drained");
  c.loseOsd(which);
  REQUIRE_MESSAGE(c.world.runUntil([&] { return !c.mds().state().map().osd(old)->up; }, 30s),
                  "it is not called down");
  c.removeOsd(old);
  c.startOsd(which);
  c.waitForService();
}

}  // namespace

TEST_CASE("large: hosts go and OSDs come, with pools of every kind") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, {.osds = 28, .replicas = 3, .osdsPerHost = 3, .hostsPerRack = 2});
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    makePools(run);
    run.begin(80);
    while (run.go(upTo(world, 1500ms))) {
      switch (world.random().below(5)) {
        case 0:
        case 1:
          loseHost(run, world.random().below(kHosts));
          break;
        case 2:
          replaceOsd(run, world.random().below(c.osds()));
          break;
        case 3:
          if (c.osds() < 3 * kHosts) c.addOsd();
          c.waitForService();
          break;
        default:
          disturb(run, 3s);
      }
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    checkDomains(c);
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
