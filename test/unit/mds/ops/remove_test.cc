#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("remove: a file's chunks and attributes go with it") {
  Mds mds;
  auto f = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true});
  mds.setxattr(f.ino(), "user.a", "1");
  auto chunk = f.chunks()[0];
  CHECK(mds.unlink("f").ok());
  CHECK_FALSE(mds.exists(f.ino()));
  CHECK(mds->lookup(kRootInode, "f").error().code == Errc::kNotFound);
  CHECK(mds->getxattr(f.ino(), "user.a").error().code == Errc::kStale);
  auto garbage = mds.garbage();
  REQUIRE(garbage.size() == 1);
  CHECK(garbage[0].chunk == chunk.id);
  CHECK(garbage[0].pool == chunk.pool);
  CHECK(mds->counts().inodes == 1);
  CHECK(mds->counts().chunks == 0);
  CHECK(mds->counts().garbage == 1);
  CHECK(mds.inode(kRootInode).mtimeNs == mds.now);
}

TEST_CASE("remove: rmdir takes empty directories only, unlink everything else") {
  Mds mds;
  auto d = mds.dir("d");
  mds.dir("e", d);
  mds.file("f");
  CHECK(mds.remove(kRootInode, "d", true).code() == Errc::kNotEmpty);
  CHECK(mds.remove(kRootInode, "d", false).code() == Errc::kIsDirectory);
  CHECK(mds.remove(kRootInode, "f", true).code() == Errc::kNotDirectory);
  CHECK(mds.remove(kRootInode, "x", true).code() == Errc::kNotFound);
  CHECK(mds.remove(kRootInode, "x", false).code() == Errc::kNotFound);
  CHECK(mds.remove(kRootInode, "..", true).code() == Errc::kInvalid);
  CHECK(mds.remove(d, "e", true).ok());
  CHECK(mds.inode(d).nlink == 2);
  CHECK(mds.remove(kRootInode, "d", true).ok());
  CHECK(mds.inode(kRootInode).nlink == 2);
  CHECK_FALSE(mds.exists(d));
}

TEST_CASE("remove: an open file lives on without a name until its last holder lets go") {
  Mds mds;
  auto s = mds.session(), t = mds.session();
  auto f = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}).ino();
  CHECK(mds.unlink("f", {.openBy = {t, s, t, 777}}).ok());  // repeated and unknown ones too
  CHECK(mds.inode(f).nlink == 0);
  auto orphans = mds.orphans();
  REQUIRE(orphans.size() == 1);
  CHECK(orphans[0].ino == f);
  CHECK(orphans[0].holders == std::vector{SessionId(s), SessionId(t)});
  // It still is a file: written, truncated, looked at.
  CHECK(mds.alloc(f, 3, 1).ok());
  CHECK(mds.commit(f, 4 * kChunkSize).ok());
  CHECK(mds.setattr(f, [](auto a) { a.setSetMode(true); }).ok());
  mds.reopen();
  CHECK(mds.releaseOrphan(f, s).ok());
  CHECK(mds.exists(f));
  CHECK(mds.releaseOrphan(f, t).ok());
  CHECK_FALSE(mds.exists(f));
  CHECK(mds.garbage().size() == 2);
  CHECK(mds.orphans().empty());
}

TEST_CASE("remove: holders whose sessions ended meanwhile do not count") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.unlink("f", {.openBy = {12345}}).ok());
  CHECK_FALSE(mds.exists(f));
}

TEST_CASE("remove: a removed directory that is open is empty and takes nothing new") {
  Mds mds;
  auto s = mds.session();
  auto d = mds.dir("d");
  CHECK(mds.remove(kRootInode, "d", true, {.openBy = {s}}).ok());
  CHECK(mds.inode(d).nlink == 0);
  CHECK(mds->readdir(d, 0, 100)->empty());
  CHECK(mds.make(d, "x", S_IFREG).code() == Errc::kNotFound);
  CHECK(mds.rename(d, "x", kRootInode, "y").code() == Errc::kNotFound);
  CHECK(mds.releaseOrphan(d, s).ok());
  CHECK_FALSE(mds.exists(d));
}

TEST_CASE("remove: a large file is freed in steps") {
  Mds mds;
  auto f = mds.file("f");
  for (uint32_t i = 0; i < 200; i += 100) CHECK(mds.alloc(f, i, 100).ok());
  CHECK(mds.unlink("f").ok());
  REQUIRE(mds.orphans().size() == 1);
  CHECK(mds.orphans()[0].holders.empty());
  CHECK(mds.garbage().empty());
  // Nobody can reach it any more.
  CHECK(mds.alloc(f, 500, 1).code() == Errc::kStale);
  CHECK(mds.truncate(f, 0).code() == Errc::kStale);
  CHECK(mds.purge(f, 64).ok());
  CHECK(mds.garbage().size() == 64);
  CHECK(mds.exists(f));
}
