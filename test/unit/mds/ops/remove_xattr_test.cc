#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("removexattr: it is gone, the others stay") {
  Mds mds;
  auto f = mds.file("f");
  mds.setxattr(f, "user.a", "1");
  mds.setxattr(f, "user.ab", "2");
  CHECK(mds.removexattr(f, "user.a").ok());
  CHECK(mds.inode(f).ctimeNs == mds.now);
  CHECK(mds->getxattr(f, "user.a").error().code == Errc::kNoAttribute);
  CHECK(*mds->getxattr(f, "user.ab") == "2");
  CHECK(mds.removexattr(f, "user.a").code() == Errc::kNoAttribute);
  CHECK(mds.removexattr(f, "user.ab").ok());
  CHECK(mds->listxattr(f)->empty());
  CHECK(mds.removexattr(f, "user.ab").code() == Errc::kNoAttribute);
  CHECK(mds.removexattr(InodeId(99), "user.a").code() == Errc::kStale);
}
