#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("make: a new file has the mode, owner and times of its command") {
  Mds mds;
  auto made = mds.make(kRootInode, "a", S_IFREG | 04640, {.uid = 7, .gid = 8});
  auto a = made.attr();
  CHECK(a.getMode() == (S_IFREG | 04640));
  CHECK(a.getUid() == 7);
  CHECK(a.getGid() == 8);
  CHECK(a.getNlink() == 1);
  CHECK(a.getSize() == 0);
  CHECK(a.getPool() == 1);
  for (int64_t t : {a.getAtimeNs(), a.getMtimeNs(), a.getCtimeNs(), a.getBtimeNs()})
    CHECK(t == mds.now);
  auto found = mds->lookup(kRootInode, "a");
  REQUIRE(found.has_value());
  CHECK(found->ino == made.ino());
  auto root = mds.inode(kRootInode);
  CHECK(root.size == 1);
  CHECK(root.nlink == 2);
  CHECK(root.mtimeNs == mds.now);
  CHECK(root.ctimeNs == mds.now);
}

TEST_CASE("make: directories count as links of their parent") {
  Mds mds;
  auto d = mds.dir("d");
  CHECK(mds.inode(kRootInode).nlink == 3);
  CHECK(mds.inode(d).nlink == 2);
  CHECK(mds.inode(d).parent == kRootInode);
  CHECK(mds->lookup(d, "..")->ino == kRootInode);
  CHECK(mds->lookup(d, ".")->ino == d);
}

TEST_CASE("make: every type is kept, with what belongs to it") {
  Mds mds;
  CHECK(mds.make(kRootInode, "n", 0644).attr().getMode() == (S_IFREG | 0644));
  CHECK(mds.make(kRootInode, "c", S_IFCHR | 0600, {.rdev = 0x1234500067ull}).attr().getRdev() ==
        0x1234500067ull);
  CHECK(mds.make(kRootInode, "b", S_IFBLK | 0600, {.rdev = 3}).attr().getRdev() == 3);
  CHECK(mds.make(kRootInode, "p", S_IFIFO | 0600, {.rdev = 3}).attr().getRdev() == 0);
  CHECK(mds.make(kRootInode, "s", S_IFSOCK | 0600).attr().getMode() == (S_IFSOCK | 0600));
  auto l = mds.make(kRootInode, "l", S_IFLNK | 0600, {.target = "../x"});
  CHECK(l.attr().getMode() == (S_IFLNK | 0777));
  CHECK(l.attr().getSize() == 4);
  CHECK(mds.inode(l.ino()).target == "../x");
  auto entries = mds->readdir(kRootInode, 2, 100);
  for (auto& e : *entries) CHECK(e.type == mds.inode(e.ino).mode >> 12);
}

TEST_CASE("make: a setgid directory hands on its group, and to directories the bit") {
  Mds mds;
  auto d = mds.make(kRootInode, "d", S_IFDIR | 02775, {.gid = 55}).ino();
  auto f = mds.make(d, "f", S_IFREG | 0644, {.gid = 1}).attr().getIno();
  CHECK(mds.inode(InodeId(f)).gid == 55);
  CHECK(mds.inode(InodeId(f)).mode == (S_IFREG | 0644));
  auto sub = mds.make(d, "s", S_IFDIR | 0700, {.gid = 1}).ino();
  CHECK(mds.inode(sub).gid == 55);
  CHECK(mds.inode(sub).mode == (S_IFDIR | 02700));
}

TEST_CASE("make with open: the first chunk comes along") {
  Mds mds;
  auto made = mds.make(kRootInode, "a", S_IFREG | 0644, {.open = true});
  auto chunks = made.chunks();
  REQUIRE(chunks.size() == 1);
  CHECK(chunks[0].index == 0);
  CHECK(chunks[0].pool == PoolId(1));
  CHECK(made.attr().getChunkCount() == 1);
  auto stored = mds.chunks(made.ino());
  REQUIRE(stored.size() == 1);
  CHECK(stored[0].id == chunks[0].id);
  CHECK(mds->counts().chunks == 1);
  CHECK(mds->poolChunks()[PoolId(1)] == 1);
  CHECK(mds.make(kRootInode, "d", S_IFDIR | 0755, {.open = true}).code() == Errc::kInvalid);
}

TEST_CASE("make: names that no filesystem may have are refused, odd ones are not") {
  Mds mds;
  auto code = [&](std::string_view name) {
    return mds.make(kRootInode, name, S_IFREG | 0644).code();
  };
  CHECK(code("") == Errc::kInvalid);
  CHECK(code(".") == Errc::kInvalid);
  CHECK(code("..") == Errc::kInvalid);
  CHECK(code("a/b") == Errc::kInvalid);
  CHECK(code(std::string_view("a\0b", 3)) == Errc::kInvalid);
  CHECK(code(std::string(256, 'x')) == Errc::kNameTooLong);
  CHECK(code(std::string(255, 'x')) == Errc::kOk);
  CHECK(code("...") == Errc::kOk);
  CHECK(code("\xff\xfe\n") == Errc::kOk);
  CHECK(code(" ") == Errc::kOk);
  CHECK(mds.names(kRootInode).size() == 4);
}

TEST_CASE("make: refusals leave nothing behind") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.records();
  auto counts = mds->counts();
  CHECK(mds.make(kRootInode, "f", S_IFREG | 0644).code() == Errc::kExists);
  CHECK(mds.make(f, "x", S_IFREG | 0644).code() == Errc::kNotDirectory);
  CHECK(mds.make(InodeId(999), "x", S_IFREG | 0644).code() == Errc::kStale);
  CHECK(mds.make(kRootInode, "x", 0170000).code() == Errc::kInvalid);
  CHECK(mds.make(kRootInode, "x", S_IFLNK, {.target = ""}).code() == Errc::kInvalid);
  CHECK(mds.make(kRootInode, "x", S_IFLNK, {.target = std::string(4096, 'x')}).code() ==
        Errc::kNameTooLong);
  CHECK(mds.make(kRootInode, "x", S_IFLNK, {.target = std::string(4095, 'x')}).ok());
  CHECK(mds.unlink("x").ok());
  CHECK(mds->counts() == counts);
  CHECK(mds.names(kRootInode) == std::vector<std::string>{"f"});
  // Only the root's times have changed, by the two that succeeded.
  CHECK(mds.records().size() == before.size());
}

TEST_CASE("make: time never goes backwards for a directory") {
  Mds mds;
  auto before = mds.inode(kRootInode).ctimeNs;
  mds.make(kRootInode, "a", S_IFREG | 0644, {}, {.timeNs = 5});
  CHECK(mds.inode(kRootInode).ctimeNs == before);
  CHECK(mds.inode(kRootInode).mtimeNs == before);
}

TEST_CASE("make: numbers and generations are never used twice") {
  Mds mds;
  auto a = mds.make(kRootInode, "a", S_IFREG | 0644);
  mds.unlink("a");
  auto b = mds.make(kRootInode, "a", S_IFREG | 0644);
  CHECK(b.ino().value > a.ino().value);
  CHECK(b.attr().getGeneration() != a.attr().getGeneration());
}

TEST_CASE("make: a file without a name is held by who made it, and gone with the holder") {
  Mds mds;
  const uint64_t s = mds.session();
  const int64_t rootChanged = mds.inode(kRootInode).mtimeNs;
  mds.now += 1000;
  auto made =
      mds.make(kRootInode, "", S_IFREG | 0600, {.open = true, .unnamed = true}, {.session = s});
  REQUIRE(made.ok());
  const InodeId f = made.ino();
  CHECK(made.attr().getNlink() == 0);
  CHECK(mds.inode(kRootInode).mtimeNs == rootChanged);
  CHECK(mds.inode(kRootInode).size == 0);
  REQUIRE(mds.orphans().size() == 1);
  CHECK(mds.orphans()[0].holders == std::vector{SessionId(s)});
  CHECK(mds->verify().empty());
  mds.reopen();
  CHECK(mds.releaseOrphan(f, s).ok());
  CHECK_FALSE(mds.exists(f));
  CHECK(mds->verify().empty());
}

TEST_CASE("make: only an open file can be without a name") {
  Mds mds;
  for (auto [mode, open] : {std::pair{S_IFREG | 0600, false}, {S_IFDIR | 0700, false}})
    CHECK(mds.make(kRootInode, "", static_cast<uint32_t>(mode), {.open = open, .unnamed = true})
              .code() == Errc::kInvalid);
}
