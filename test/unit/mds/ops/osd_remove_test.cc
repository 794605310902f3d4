#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

struct Removals {
  Removals(uint32_t osds, uint16_t replicas) : mds(osds, {}, replicas) {
    auto f = mds.file("f");
    CHECK(mds.alloc(f, 0, 1).ok());
  }
  Errc remove(uint32_t id, bool force = false) {
    return mds
        .run([&](auto m) {
          auto r = m.initOsdRemove();
          r.setId(id);
          r.setForce(force);
        })
        .code();
  }
  const std::vector<PlacementGroup>& groups() { return mds->map().pool(PoolId(1))->pgs; }
  Mds mds;
};

}  // namespace

TEST_CASE("osdRemove: one that is down and that others stand in for; its id is not used again") {
  Removals c(4, 3);
  CHECK(c.remove(2) == Errc::kBusy);
  CHECK(c.remove(2, true) == Errc::kBusy);  // up
  CHECK(c.remove(9) == Errc::kNotFound);
  CHECK(c.mds.osdState(2, false).ok());
  CHECK(c.remove(2) == Errc::kOk);
  CHECK(c.mds->map().osd(OsdId(2)) == nullptr);
  for (const auto& g : c.groups())
    CHECK(g.osds.size() + g.joining.size() == 3);  // it was down: the fourth joins in its place
  c.mds.reopen();
  CHECK(c.mds->map().osds.size() == 3);
  CHECK(c.mds.addOsd(2).id() == 5);
}

TEST_CASE("osdRemove: never the last one in sync") {
  Removals c(3, 2);
  for (uint32_t id : {1, 2, 3}) CHECK(c.mds.osdState(id, false).ok());
  // The one of a group that went down last is all it has.
  CHECK(c.remove(3) == Errc::kBusy);
  CHECK(c.remove(3, true) == Errc::kBusy);
  CHECK(c.remove(1) == Errc::kOk);
}

TEST_CASE("osdRemove: by force from groups that are down, where they have another member") {
  Removals c(3, 3);
  CHECK(c.mds
            .run([](auto m) {
              auto list = m.initOsdState(3);
              for (uint32_t i = 0; i < 3; ++i) list[i].setId(i + 1);
            })
            .ok());
  CHECK(c.remove(2) == Errc::kBusy);
  const auto epoch = c.mds->map().epoch;
  CHECK(c.remove(2, true) == Errc::kOk);
  for (const auto& g : c.groups()) {
    CHECK(g.osds.size() == 2);
    CHECK(std::ranges::count(g.osds, OsdId(2)) == 0);
    CHECK(g.epoch.value == epoch.value + 1);
  }
}
