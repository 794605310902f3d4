#include "osd/service/map_state.h"

#include <doctest/doctest.h>

using namespace cairn;
using namespace cairn::osd;

namespace {

struct ManualClock final : Clock {
  TimePoint at{1h};
  [[nodiscard]] TimePoint now() const override { return at; }
  [[nodiscard]] WallNs wallNow() const override { return 0; }
};

ClusterMap mapOf(uint64_t epoch, uint64_t groupEpoch, std::vector<OsdId> osds) {
  ClusterMap m;
  m.epoch = MapEpoch{epoch};
  Pool p;
  p.id = PoolId{1};
  p.replicas = 2;
  p.pgs.push_back({MapEpoch{groupEpoch}, std::move(osds), {}, {}});
  m.pools[p.id] = p;
  return m;
}

constexpr Target target(uint64_t epoch) {
  return {PoolId{1}, PgIndex{0}, MapEpoch{epoch}};
}

}  // namespace

TEST_CASE("an OSD acts on its map only while the lease lasts, counted from when it asked") {
  ManualClock clock;
  MapState state(clock);
  state.setSelf(OsdId{2});
  CHECK(state.check(target(3), Need::kMember).error().code == Errc::kUnavailable);
  state.adopt(mapOf(5, 3, {OsdId{1}, OsdId{2}}));
  CHECK(state.check(target(3), Need::kMember).error().code == Errc::kUnavailable);

  const TimePoint sent = clock.at;
  clock.at += 800ms;  // the answer took its time
  state.renew(MapEpoch{5}, sent, 1s, {});
  CHECK(state.check(target(3), Need::kMember));
  clock.at = sent + 949ms;
  CHECK(state.leased());
  clock.at = sent + 951ms;  // less than the lease: our clock may be the slow one
  CHECK_FALSE(state.leased());
  CHECK(state.check(target(3), Need::kMember).error().code == Errc::kUnavailable);

  SUBCASE("a lease on another epoch's map is none on ours") {
    state.renew(MapEpoch{6}, clock.at, 1s, {});
    CHECK_FALSE(state.leased());
  }
  SUBCASE("an older answer that comes late does not shorten it") {
    state.renew(MapEpoch{5}, clock.at, 1s, {});
    state.renew(MapEpoch{5}, sent, 1s, {});
    CHECK(state.leased());
  }
}

TEST_CASE("a request is served only for the right group, epoch and place in it") {
  ManualClock clock;
  MapState state(clock);
  state.setSelf(OsdId{2});
  state.adopt(mapOf(5, 3, {OsdId{1}, OsdId{2}}));
  state.renew(MapEpoch{5}, clock.at, 1s, {});
  CHECK(state.check(target(3), Need::kMember));
  CHECK(state.check(target(2), Need::kMember).error().code == Errc::kStaleEpoch);
  CHECK(state.check(target(4), Need::kMember).error().code == Errc::kStaleEpoch);
  CHECK(state.check(target(3), Need::kPrimary).error().code == Errc::kStaleEpoch);
  CHECK(state.check({PoolId{9}, PgIndex{0}, MapEpoch{3}}, Need::kMember).error().code ==
        Errc::kStaleEpoch);
  CHECK(state.check({PoolId{1}, PgIndex{1}, MapEpoch{3}}, Need::kMember).error().code ==
        Errc::kStaleEpoch);
  // The sender learns what to ask for.
  CHECK(state.check(target(2), Need::kMember).error().message.find("map epoch 5") !=
        std::string::npos);

  state.adopt(mapOf(6, 6, {OsdId{2}, OsdId{1}}));
  state.renew(MapEpoch{6}, clock.at, 1s, {});
  CHECK(state.check(target(6), Need::kPrimary));
  state.adopt(mapOf(7, 7, {OsdId{1}, OsdId{3}}));
  state.renew(MapEpoch{7}, clock.at, 1s, {});
  CHECK(state.check(target(7), Need::kMember).error().code == Errc::kStaleEpoch);
}

TEST_CASE("an older map never replaces a newer one") {
  ManualClock clock;
  MapState state(clock);
  state.adopt(mapOf(5, 3, {OsdId{1}}));
  state.adopt(mapOf(4, 3, {OsdId{1}}));
  CHECK(state.epoch() == MapEpoch{5});
}
