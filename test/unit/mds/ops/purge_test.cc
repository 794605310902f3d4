#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("purge: so many chunks a step, then the inode") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 100);
  mds.alloc(f, 1000, 100);
  mds.setxattr(f, "user.a", "1");
  mds.unlink("f");
  CHECK(mds.purge(f, 0).code() == Errc::kInvalid);
  uint64_t before = 0;
  while (mds.exists(f)) {
    REQUIRE(mds.purge(f, 64).ok());
    auto now = mds->counts().garbage;
    CHECK(now - before <= 64);
    before = now;
    mds.reopen();  // it goes on after a restart
  }
  CHECK(mds->counts().garbage == 200);
  CHECK(mds->counts().chunks == 0);
  CHECK(mds.orphans().empty());
  CHECK(mds.purge(f).code() == Errc::kNotFound);
}

TEST_CASE("purge: not of what has a name or a holder") {
  Mds mds;
  auto s = mds.session();
  auto f = mds.file("f");
  CHECK(mds.purge(f).code() == Errc::kNotFound);
  mds.unlink("f", {.openBy = {s}});
  CHECK(mds.purge(f).code() == Errc::kBusy);
}
