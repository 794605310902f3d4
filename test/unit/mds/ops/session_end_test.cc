#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("sessionEnd: it holds nothing any longer and may do nothing any longer") {
  Mds mds;
  auto s = mds.session(), t = mds.session();
  auto f = mds.file("f"), g = mds.file("g");
  mds.unlink("f", {.openBy = {s, t}});
  mds.unlink("g", {.openBy = {s}});
  CHECK(mds.make(kRootInode, "x", S_IFREG, {}, {.session = s, .seq = 1}).ok());
  CHECK(mds.endSession(s).ok());
  auto orphans = mds.orphans();
  REQUIRE(orphans.size() == 2);
  CHECK(orphans[0].ino == f);
  CHECK(orphans[0].holders == std::vector{SessionId(t)});
  CHECK(orphans[1].holders.empty());
  CHECK(mds.purge(f).code() == Errc::kBusy);
  CHECK(mds.purge(g).ok());
  CHECK_FALSE(mds.exists(g));
  CHECK(mds.make(kRootInode, "y", S_IFREG, {}, {.session = s, .seq = 2}).code() ==
        Errc::kSessionExpired);
  CHECK(mds.make(kRootInode, "y", S_IFREG, {}, {.session = s}).code() == Errc::kSessionExpired);
  // Its remembered answers went with it.
  CHECK(mds.records().find("\nR") == std::string::npos);
  CHECK(mds.endSession(s).ok());
}

TEST_CASE("sessionEnd: a session may end itself") {
  Mds mds;
  auto s = mds.session();
  CHECK(mds.endSession(s, {.session = s, .seq = 1}).ok());
  CHECK(mds->sessions().empty());
  CHECK(mds.endSession(s, {.session = s, .seq = 1}).code() == Errc::kSessionExpired);
}

TEST_CASE("sessionEnd: one that closed makes no epoch, one that expired is fenced in a new one") {
  Mds mds;
  const uint64_t a = mds.session(), b = mds.session(), c = mds.session(), d = mds.session();
  const MapEpoch before = mds->map().epoch;
  CHECK(mds.endSession(b).ok());
  CHECK(mds->map().epoch == before);
  CHECK(mds->fenceEpoch() == MapEpoch());
  CHECK_FALSE(mds->map().fenced(SessionId(b)));

  CHECK(mds.expire(c).ok());
  CHECK(mds->map().epoch.value == before.value + 1);
  CHECK(mds->fenceEpoch() == mds->map().epoch);
  CHECK(mds->map().fence == Fence{SessionId(c + 1), {SessionId(a)}});
  CHECK(mds->map().fenced(SessionId(c)));
  CHECK_FALSE(mds->map().fenced(SessionId(a)));
  CHECK_FALSE(mds->map().fenced(SessionId(d)));

  SUBCASE("it is durable, and other epochs come and go") {
    CHECK(mds.osdState(1, false).ok());
    CHECK(mds->map().epoch.value == before.value + 2);
    mds.reopen();
    CHECK(mds->map().fence == Fence{SessionId(c + 1), {SessionId(a)}});
    CHECK(mds->fenceEpoch().value == before.value + 1);
    CHECK(mds->map().epoch.value == before.value + 2);
  }
  SUBCASE("an older one that expires later leaves those that live") {
    CHECK(mds.expire(a).ok());
    CHECK(mds->map().fence == Fence{SessionId(c + 1), {}});
    CHECK(mds.expire(d).ok());
    CHECK(mds->map().fence == Fence{SessionId(d + 1), {}});
    CHECK_FALSE(mds->map().fenced(SessionId(mds.session())));
  }
  SUBCASE("once: what is over does not expire") {
    CHECK(mds.expire(c).ok());
    CHECK(mds.expire(b).ok());
    CHECK(mds.expire(99).ok());
    CHECK(mds->map().epoch.value == before.value + 1);
  }
}
