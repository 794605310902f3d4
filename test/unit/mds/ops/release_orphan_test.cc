#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("releaseOrphan: only holders count, and repeating it does no harm") {
  Mds mds;
  auto s = mds.session(), t = mds.session();
  auto f = mds.file("f");
  mds.unlink("f", {.openBy = {s}});
  CHECK(mds.releaseOrphan(f, t).ok());
  CHECK(mds.exists(f));
  CHECK(mds.releaseOrphan(f, s).ok());
  CHECK_FALSE(mds.exists(f));
  CHECK(mds.releaseOrphan(f, s).ok());
  auto linked = mds.file("g");
  CHECK(mds.releaseOrphan(linked, s).ok());
  CHECK(mds.exists(linked));
}

TEST_CASE("releaseOrphan: a large file is left to purge") {
  Mds mds;
  auto s = mds.session();
  auto f = mds.file("f");
  mds.alloc(f, 0, 65);
  mds.unlink("f", {.openBy = {s}});
  CHECK(mds.releaseOrphan(f, s).ok());
  REQUIRE(mds.orphans().size() == 1);
  CHECK(mds.orphans()[0].holders.empty());
  CHECK(mds.garbage().empty());
}
