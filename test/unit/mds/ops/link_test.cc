#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("link: both names are the file, and it lives until the last goes") {
  Mds mds;
  auto d = mds.dir("d");
  auto f = mds.file("f");
  auto linked = mds.link(f, d, "g");
  CHECK(linked.ino() == f);
  CHECK(linked.attr().getNlink() == 2);
  CHECK(linked.attr().getCtimeNs() == mds.now);
  CHECK(mds.inode(d).size == 1);
  CHECK(mds.inode(d).nlink == 2);
  CHECK(mds.inode(d).mtimeNs == mds.now);
  CHECK(mds.unlink("f").ok());
  CHECK(mds.inode(f).nlink == 1);
  CHECK(mds.inode(f).ctimeNs == mds.now);
  CHECK(mds.remove(d, "g", false).ok());
  CHECK_FALSE(mds.exists(f));
}

TEST_CASE("link: symlinks and special files may have several names, directories not") {
  Mds mds;
  auto l = mds.make(kRootInode, "l", S_IFLNK, {.target = "x"}).ino();
  auto p = mds.make(kRootInode, "p", S_IFIFO).ino();
  auto d = mds.dir("d");
  CHECK(mds.link(l, d, "l2").ok());
  CHECK(mds.link(p, d, "p2").ok());
  CHECK(mds.link(d, kRootInode, "d2").code() == Errc::kPermission);
}

TEST_CASE("link: refusals") {
  Mds mds;
  auto f = mds.file("f");
  auto g = mds.file("g");
  auto s = mds.session();
  CHECK(mds.link(f, kRootInode, "g").code() == Errc::kExists);
  CHECK(mds.link(f, g, "x").code() == Errc::kNotDirectory);
  CHECK(mds.link(f, kRootInode, "..").code() == Errc::kInvalid);
  CHECK(mds.link(InodeId(999), kRootInode, "x").code() == Errc::kStale);
  // An unlinked file that somebody holds open stays without a name.
  CHECK(mds.unlink("g", {.openBy = {s}}).ok());
  CHECK(mds.link(g, kRootInode, "x").code() == Errc::kNotFound);
}

TEST_CASE("link: a file that was made without a name gets one, once") {
  Mds mds;
  const uint64_t s = mds.session();
  auto unnamed = [&] {
    return mds.make(kRootInode, "", S_IFREG | 0600, {.open = true, .unnamed = true}, {.session = s})
        .ino();
  };
  const InodeId f = unnamed();
  auto linked = mds.link(f, kRootInode, "f");
  REQUIRE(linked.ok());
  CHECK(linked.attr().getNlink() == 1);
  CHECK(mds.orphans().empty());
  CHECK(mds->verify().empty());
  CHECK(mds.releaseOrphan(f, s).ok());
  CHECK(mds.exists(f));
  // From here on it is a file like others.
  REQUIRE(mds.unlink("f", {.openBy = {s}}).ok());
  CHECK(mds.link(f, kRootInode, "g").code() == Errc::kNotFound);

  // One that still has chunks of a truncation to free stays on that list.
  const InodeId g = unnamed();
  for (uint32_t i = 0; i < 5; ++i) REQUIRE(mds.alloc(g, i * 1024, 1024, {.session = s}).ok());
  REQUIRE(mds.commit(g, 5120 * kChunkSize, false, {.session = s}).ok());
  REQUIRE(mds.truncate(g, 0, {.session = s}).ok());
  REQUIRE_FALSE(mds.inode(g).condemned.empty());
  REQUIRE(mds.link(g, kRootInode, "g").ok());
  CHECK(mds->verify().empty());
  while (!mds.orphans().empty() && mds.inode(g).chunkCount != 0) REQUIRE(mds.purge(g).ok());
  CHECK(mds->verify().empty());
  CHECK(mds.inode(g).nlink == 1);
}
