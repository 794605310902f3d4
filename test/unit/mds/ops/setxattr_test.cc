#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("setxattr: what was set is read, listed and survives a restart") {
  Mds mds;
  auto f = mds.file("f");
  const std::string binary("\0\xff value", 8);
  CHECK(mds.setxattr(f, "user.a", "1").ok());
  CHECK(mds.setxattr(f, "user.b", binary).ok());
  CHECK(mds.setxattr(f, "user.empty", "").ok());
  CHECK(mds.setxattr(f, "user.a", "2").ok());
  CHECK(mds.inode(f).ctimeNs == mds.now);
  mds.reopen();
  CHECK(*mds->getxattr(f, "user.a") == "2");
  CHECK(*mds->getxattr(f, "user.b") == binary);
  CHECK(mds->getxattr(f, "user.empty")->empty());
  CHECK(mds->getxattr(f, "user.c").error().code == Errc::kNoAttribute);
  CHECK(*mds->listxattr(f) == std::vector<std::string>{"user.a", "user.b", "user.empty"});
  CHECK(mds->listxattr(kRootInode)->empty());
}

TEST_CASE("setxattr: CREATE and REPLACE") {
  enum : uint32_t { kCreate = 1, kReplace = 2 };
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.setxattr(f, "user.a", "1", kReplace).code() == Errc::kNoAttribute);
  CHECK(mds.setxattr(f, "user.a", "1", kCreate).ok());
  CHECK(mds.setxattr(f, "user.a", "2", kCreate).code() == Errc::kExists);
  CHECK(*mds->getxattr(f, "user.a") == "1");
  CHECK(mds.setxattr(f, "user.a", "3", kReplace).ok());
  CHECK(mds.setxattr(f, "user.a", "4", 4).code() == Errc::kInvalid);
  CHECK(*mds->getxattr(f, "user.a") == "3");
}

TEST_CASE("setxattr: limits of names, values and their list") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.setxattr(f, "", "1").code() == Errc::kNoBuffer);
  CHECK(mds.setxattr(f, std::string(256, 'n'), "1").code() == Errc::kNoBuffer);
  CHECK(mds.setxattr(f, std::string_view("a\0b", 3), "1").code() == Errc::kInvalid);
  CHECK(mds.setxattr(f, "user.big", std::string(65536, 'v')).ok());
  CHECK(mds->getxattr(f, "user.big")->size() == 65536);
  CHECK(mds.setxattr(f, "user.big", std::string(65537, 'v')).code() == Errc::kTooBig);
  CHECK(mds.removexattr(f, "user.big").ok());
  // 256 names of 255 bytes and their zero bytes fill 64 KiB.
  std::string name(255, 'n');
  for (int i = 0; i < 256; ++i) {
    name[0] = static_cast<char>('a' + i / 16);
    name[1] = static_cast<char>('a' + i % 16);
    CHECK(mds.setxattr(f, name, "").ok());
  }
  CHECK(mds.setxattr(f, "x", "").code() == Errc::kNoSpace);
  CHECK(mds.setxattr(f, name, "new value").ok());
  // That many are freed in steps when the file goes.
  CHECK(mds.unlink("f").ok());
  REQUIRE(mds.orphans().size() == 1);
  CHECK(mds.purge(f, 100).ok());
  CHECK(mds.exists(f));
  CHECK(mds.purge(f, 1000).ok());
  CHECK_FALSE(mds.exists(f));
}

TEST_CASE("setxattr: directories and symlinks have them too") {
  Mds mds;
  auto l = mds.make(kRootInode, "l", S_IFLNK, {.target = "x"}).ino();
  CHECK(mds.setxattr(l, "trusted.a", "1").ok());
  CHECK(mds.setxattr(kRootInode, "trusted.a", "1").ok());
  CHECK(mds.setxattr(InodeId(99), "trusted.a", "1").code() == Errc::kStale);
  CHECK(mds.unlink("l").ok());
}
