#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

struct Groups {
  Groups() : mds(3, {}, 3) {
    auto f = mds.file("f");
    CHECK(mds.alloc(f, 0, 1).ok());
    first = at(0).osds;
  }
  const PlacementGroup& at(uint32_t pg) { return mds->map().pool(PoolId(1))->pgs[pg]; }
  Mds mds;
  std::vector<OsdId> first;
};

}  // namespace

TEST_CASE("groupReport: who failed leaves and joins at once, in a new epoch; the rest stays") {
  Groups g;
  const auto epoch = g.mds->map().epoch;
  const auto others = g.at(1);
  CHECK(g.mds.report({{g.first[1]}}).ok());
  CHECK(g.mds->map().epoch.value == epoch.value + 1);
  CHECK(g.at(0).osds == std::vector{g.first[0], g.first[2]});
  CHECK(g.at(0).joining == std::vector{g.first[1]});
  CHECK(g.at(0).epoch == g.mds->map().epoch);
  CHECK(g.at(1) == others);
  // Failing again while it joins: the same lists in a new epoch.
  CHECK(g.mds.report({{g.first[1]}}).ok());
  CHECK(g.at(0).joining == std::vector{g.first[1]});
  CHECK(g.at(0).epoch.value == epoch.value + 2);
  CHECK(g.mds.report({{g.first[1], true}}).ok());
  CHECK(g.at(0).osds == g.first);
  CHECK(g.at(0).joining.empty());
}

TEST_CASE("groupReport: the primary can be the one that leaves; the next in line takes over") {
  Groups g;
  CHECK(g.mds.report({{g.first[0]}}).ok());
  CHECK(g.at(0).osds == std::vector{g.first[1], g.first[2]});
  CHECK(g.at(0).joining == std::vector{g.first[0]});
}

TEST_CASE("groupReport: never the last one") {
  Groups g;
  CHECK(g.mds.report({{g.first[2]}, {g.first[1]}, {g.first[0]}}).ok());
  CHECK(g.at(0).osds == std::vector{g.first[0]});
  CHECK(g.at(0).joining == std::vector{g.first[1], g.first[2]});
  const auto epoch = g.mds->map().epoch;
  CHECK(g.mds.report({{g.first[0]}}).ok());
  CHECK(g.mds->map().epoch == epoch);
}

TEST_CASE("groupReport: what does not count is skipped, and makes no epoch") {
  Groups g;
  const auto epoch = g.mds->map().epoch;
  const uint64_t now = g.at(0).epoch.value;
  CHECK(g.mds.report({{g.first[1], false, 0, PoolId(1), now - 1}}).ok());
  CHECK(g.mds.report({{g.first[1], false, 0, PoolId(1), now + 1}}).ok());
  CHECK(g.mds.report({{g.first[1], true}}).ok());  // it does not join
  CHECK(g.mds.report({{OsdId(77)}}).ok());
  CHECK(g.mds
            .run([&](auto m) {
              auto list = m.initGroupReport(2);
              list[0].setPool(9);
              list[1].setPool(1);
              list[1].setPg(1u << 30);
            })
            .ok());
  CHECK(g.mds.report({}).ok());
  CHECK(g.mds->map().epoch == epoch);
  // What counts is done beside it, in one epoch for all groups.
  CHECK(g.mds.report({{g.at(0).osds[1]}, {OsdId(77)}, {g.at(1).osds[2], false, 1}}).ok());
  CHECK(g.mds->map().epoch.value == epoch.value + 1);
  CHECK(g.at(0).osds.size() == 2);
  CHECK(g.at(1).osds.size() == 2);
  CHECK(g.at(0).epoch == g.at(1).epoch);
}

TEST_CASE("groupReport: who is down by then leaves and does not join") {
  Groups g;
  CHECK(g.mds.osdState(g.first[1].value, false).ok());
  CHECK(g.mds.report({{g.first[2]}}).ok());
  CHECK(g.at(0).osds == std::vector{g.first[0]});
  CHECK(g.at(0).joining == std::vector{g.first[2]});
}
