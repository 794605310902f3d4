#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

struct Changes {
  Changes(uint32_t osds, uint16_t replicas) : mds(osds, {}, replicas) {
    auto f = mds.file("f");
    CHECK(mds.alloc(f, 0, 1).ok());
  }
  Errc set(const std::function<void(schema::PoolSet::Builder)>& fill) {
    return mds
        .run([&](auto m) {
          auto p = m.initPoolSet();
          p.setName("default");
          fill(p);
        })
        .code();
  }
  Errc replicas(uint16_t n) {
    return set([n](auto p) {
      p.setSetReplicas(true);
      p.setReplicas(n);
    });
  }
  Errc minSize(uint16_t n) {
    return set([n](auto p) {
      p.setSetMinSize(true);
      p.setMinSize(n);
    });
  }
  const Pool& pool() { return *mds->map().pool(PoolId(1)); }
  void syncAll() {
    std::vector<Mds::Report> reports;
    for (uint32_t pg = 0; pg < pool().pgs.size(); ++pg)
      for (OsdId id : pool().pgs[pg].joining) reports.push_back({id, true, pg});
    CHECK(mds.report(reports).ok());
  }
  Mds mds;
};

}  // namespace

TEST_CASE("poolSet: more copies join, fewer leave") {
  Changes c(4, 2);
  CHECK(c.replicas(3) == Errc::kOk);
  CHECK(c.pool().minSize == 2);
  for (const auto& g : c.pool().pgs) {
    CHECK(g.osds.size() == 2);
    CHECK(g.joining.size() == 1);
  }
  c.syncAll();
  for (const auto& g : c.pool().pgs) {
    CHECK(g.osds.size() == 3);
    CHECK(g.joining.empty());
  }
  c.mds.reopen();
  CHECK(c.pool().redundancy() == "3x");
  const auto before = c.pool().pgs;
  CHECK(c.replicas(1) == Errc::kOk);
  for (size_t i = 0; i < before.size(); ++i)
    CHECK(c.pool().pgs[i].osds == std::vector{before[i].osds[0]});
  CHECK(c.pool().minSize == 1);
}

TEST_CASE("poolSet: nothing that takes writes is stopped, and nothing is promised in vain") {
  Changes c(4, 1);
  const auto epoch = c.mds->map().epoch;
  CHECK(c.replicas(5) == Errc::kNoSpace);  // hosts
  CHECK(c.replicas(3) == Errc::kInvalid);  // two of three, and there is one
  CHECK(c.minSize(2) == Errc::kInvalid);
  CHECK(c.replicas(0) == Errc::kInvalid);
  CHECK(c.replicas(9) == Errc::kInvalid);
  CHECK(c.set([](auto p) {
    p.setSetClass(true);
    p.setDeviceClass(schema::DeviceClass::HDD);
  }) == Errc::kNoSpace);
  CHECK(c.set([](auto p) { p.setName("other"); }) == Errc::kNotFound);
  CHECK(c.replicas(1) == Errc::kOk);  // as it is
  CHECK(c.mds->map().epoch == epoch);
  // In steps.
  CHECK(c.set([](auto p) {
    p.setSetReplicas(true);
    p.setReplicas(3);
    p.setSetMinSize(true);
    p.setMinSize(1);
  }) == Errc::kOk);
  CHECK(c.minSize(2) == Errc::kInvalid);
  c.syncAll();
  CHECK(c.minSize(0) == Errc::kOk);
  CHECK(c.pool().minSize == 2);
  CHECK(c.minSize(4) == Errc::kInvalid);
}

TEST_CASE("poolSet: another class moves the data there") {
  Changes c(2, 2);
  auto hdd = [&] {
    return c.set([](auto p) {
      p.setSetClass(true);
      p.setDeviceClass(schema::DeviceClass::HDD);
    });
  };
  c.mds.addOsd(11, [](auto o) {
    o.setDeviceClass(schema::DeviceClass::HDD);
    o.setHost("x");
  });
  c.mds.addOsd(12, [](auto o) {
    o.setDeviceClass(schema::DeviceClass::HDD);
    o.setHost("y");
  });
  CHECK(hdd() == Errc::kOk);
  c.syncAll();
  for (const auto& g : c.pool().pgs)
    for (OsdId id : g.osds) CHECK(id.value >= 3);
}

TEST_CASE("poolSet: a smaller smallest size lets writes in, and forgets who would miss them") {
  Changes c(3, 3);
  CHECK(c.mds.osdState(1, false).ok());
  CHECK(c.mds.osdState(2, false).ok());
  for (const auto& g : c.pool().pgs) {
    CHECK(g.osds == std::vector{OsdId(3)});
    CHECK(g.complete == std::vector{OsdId(2)});
  }
  CHECK(c.minSize(1) == Errc::kOk);
  for (const auto& g : c.pool().pgs) CHECK(g.complete.empty());
  CHECK(c.mds.osdState(3, false).ok());
  CHECK(c.mds.osdState(2, true).ok());
  for (const auto& g : c.pool().pgs) CHECK(g.osds == std::vector{OsdId(3)});
}

TEST_CASE("poolRemove: only a pool that nothing uses") {
  Mds mds(3);
  auto remove = [&](std::string name) {
    return mds.run([&](auto m) { m.setPoolRemove(name); }).code();
  };
  CHECK(mds.createPool("second", 2).ok());
  CHECK(remove("default") == Errc::kBusy);  // the root's
  CHECK(remove("third") == Errc::kNotFound);
  auto layout = [&](InodeId ino, std::string pool) {
    return mds.run([&](auto m) {
      auto s = m.initSetLayout();
      s.setIno(ino.value);
      s.setPool(pool);
    });
  };
  auto d = mds.dir("d");
  CHECK(layout(d, "second").ok());
  CHECK(remove("second") == Errc::kBusy);
  auto f = mds.file("f", d);
  CHECK(mds.alloc(f, 0, 2).ok());
  CHECK(layout(d, "default").ok());
  CHECK(remove("second") == Errc::kBusy);
  CHECK(mds.remove(d, "f", false).ok());
  mds.reopen();
  CHECK(remove("second") == Errc::kBusy);  // what was deleted lies there still
  while (!mds.orphans().empty()) CHECK(mds.purge(mds.orphans()[0].ino).ok());
  CHECK(remove("second") == Errc::kBusy);
  const auto garbage = mds.garbage();
  CHECK(mds.run([&](auto m) {
             auto list = m.initGarbageDone(static_cast<uint32_t>(garbage.size()));
             for (uint32_t i = 0; i < list.size(); ++i) list.set(i, garbage[i].id);
           })
            .ok());
  CHECK(remove("second") == Errc::kOk);
  CHECK(mds->map().poolByName("second") == nullptr);
  mds.reopen();
  CHECK(mds->map().pools.size() == 1);
  CHECK(mds.createPool("second", 2).id() == 3);
}

TEST_CASE("poolSet: of an erasure code the smallest size and the class change, the code stays") {
  Changes c(4, 1);
  REQUIRE(c.mds
              .createPool("ec", 0,
                          [](auto p) {
                            p.setEcData(2);
                            p.setEcParity(2);
                            p.setPgCount(8);
                          })
              .ok());
  auto pool = [&]() -> const Pool& { return *c.mds->map().poolByName("ec"); };
  auto set = [&](auto fill) {
    return c.set([&](auto p) {
      p.setName("ec");
      fill(p);
    });
  };
  auto minSize = [&](uint16_t n) {
    return set([n](auto p) {
      p.setSetMinSize(true);
      p.setMinSize(n);
    });
  };
  CHECK(set([](auto p) {
          p.setSetReplicas(true);
          p.setReplicas(3);
        }) == Errc::kInvalid);
  for (uint16_t n : {1, 5}) CHECK(minSize(n) == Errc::kInvalid);
  CHECK(minSize(4) == Errc::kOk);
  CHECK(minSize(2) == Errc::kOk);
  CHECK(c.mds.osdState(1, false).ok());
  CHECK(minSize(4) == Errc::kInvalid);  // three have it
  CHECK(minSize(3) == Errc::kOk);
  CHECK(c.mds.osdState(1, true).ok());

  for (uint64_t uuid = 11; uuid <= 14; ++uuid)
    c.mds.addOsd(uuid, [](auto o) { o.setDeviceClass(schema::DeviceClass::HDD); });
  CHECK(set([](auto p) {
          p.setSetClass(true);
          p.setDeviceClass(schema::DeviceClass::HDD);
        }) == Errc::kOk);
  for (int round = 0; round < 2; ++round) {
    std::vector<Mds::Report> reports;
    for (uint32_t pg = 0; pg < pool().pgs.size(); ++pg)
      for (OsdId id : pool().pgs[pg].joining) reports.push_back({id, true, pg, pool().id});
    CHECK(c.mds.report(reports).ok());
  }
  for (const auto& g : pool().pgs) {
    CHECK(g.inSync() == 4);
    CHECK(g.shards.size() == 4);
    for (OsdId id : g.osds) CHECK(id.value >= 5);
  }
}
