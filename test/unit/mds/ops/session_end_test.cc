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
