#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {
constexpr uint32_t kNoReplace = 1, kExchange = 2, kWhiteout = 4;
}

TEST_CASE("rename: a file moves with its number and data; parents and ctime follow") {
  Mds mds;
  auto a = mds.dir("a"), b = mds.dir("b");
  auto f = mds.file("f", a);
  auto mtime = mds.inode(f).mtimeNs;
  CHECK(mds.rename(a, "f", b, "g").ok());
  CHECK(mds.names(a).empty());
  CHECK(mds->lookup(b, "g")->ino == f);
  CHECK(mds.inode(f).ctimeNs == mds.now);
  CHECK(mds.inode(f).mtimeNs == mtime);
  CHECK(mds.inode(a).mtimeNs == mds.now);
  CHECK(mds.inode(b).mtimeNs == mds.now);
  CHECK(mds.inode(a).size == 0);
  CHECK(mds.inode(b).size == 1);
}

TEST_CASE("rename: a directory takes its place below the new parent") {
  Mds mds;
  auto a = mds.dir("a"), b = mds.dir("b");
  auto d = mds.dir("d", a);
  CHECK(mds.rename(a, "d", b, "d").ok());
  CHECK(mds.inode(d).parent == b);
  CHECK(mds.inode(a).nlink == 2);
  CHECK(mds.inode(b).nlink == 3);
  CHECK(mds->lookup(d, "..")->ino == b);
}

TEST_CASE("rename: it replaces what may be replaced and nothing else") {
  Mds mds;
  auto f = mds.make(kRootInode, "f", S_IFREG, {.open = true}).ino();
  auto g = mds.make(kRootInode, "g", S_IFREG, {.open = true}).ino();
  auto d = mds.dir("d"), e = mds.dir("e");
  mds.dir("sub", e);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "d").code() == Errc::kIsDirectory);
  CHECK(mds.rename(kRootInode, "d", kRootInode, "f").code() == Errc::kNotDirectory);
  CHECK(mds.rename(kRootInode, "d", kRootInode, "e").code() == Errc::kNotEmpty);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g").ok());
  CHECK_FALSE(mds.exists(g));
  CHECK(mds->lookup(kRootInode, "g")->ino == f);
  CHECK(mds.garbage().size() == 1);
  CHECK(mds.rename(kRootInode, "e", kRootInode, "d").ok());
  CHECK_FALSE(mds.exists(d));
  CHECK(mds.names(kRootInode) == std::vector<std::string>{"d", "g"});
  CHECK(mds.inode(kRootInode).nlink == 3);
  CHECK(mds.inode(kRootInode).size == 2);
}

TEST_CASE("rename: a replaced file that is open becomes an orphan") {
  Mds mds;
  auto s = mds.session();
  mds.file("f");
  auto g = mds.file("g");
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", 0, {.openBy = {s}}).ok());
  CHECK(mds.inode(g).nlink == 0);
  CHECK(mds.orphans()[0].holders == std::vector{SessionId(s)});
}

TEST_CASE("rename: a directory cannot go below itself") {
  Mds mds;
  auto a = mds.dir("a");
  auto b = mds.dir("b", a);
  auto c = mds.dir("c", b);
  auto f = mds.file("f");
  CHECK(mds.rename(kRootInode, "a", a, "x").code() == Errc::kLoop);
  CHECK(mds.rename(kRootInode, "a", c, "x").code() == Errc::kLoop);
  CHECK(mds.rename(kRootInode, "a", b, "c").code() == Errc::kLoop);
  CHECK(mds.rename(kRootInode, "a", b, "c", kExchange).code() == Errc::kLoop);
  CHECK(mds.rename(b, "c", kRootInode, "a", kExchange).code() == Errc::kLoop);
  CHECK(mds.rename(b, "c", kRootInode, "a").code() == Errc::kNotEmpty);
  CHECK(mds.rename(kRootInode, "f", c, "x").ok());
  CHECK(mds.exists(f));
  CHECK(mds.rename(b, "c", kRootInode, "c").ok());
}

TEST_CASE("rename: two names of one file stay as they are") {
  Mds mds;
  auto f = mds.file("f");
  mds.link(f, kRootInode, "g");
  auto before = mds.records();
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g").ok());
  CHECK(mds.rename(kRootInode, "f", kRootInode, "f").ok());
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kExchange).ok());
  CHECK(mds.records() == before);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kNoReplace).code() == Errc::kExists);
}

TEST_CASE("rename NOREPLACE: it moves only to a free name") {
  Mds mds;
  auto f = mds.file("f");
  mds.file("g");
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kNoReplace).code() == Errc::kExists);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "h", kNoReplace).ok());
  CHECK(mds->lookup(kRootInode, "h")->ino == f);
}

TEST_CASE("rename EXCHANGE: any two things change places") {
  Mds mds;
  auto a = mds.dir("a"), b = mds.dir("b");
  auto f = mds.file("f", a);
  auto d = mds.dir("d", b);
  mds.file("inside", d);
  CHECK(mds.rename(a, "f", b, "d", kExchange).ok());
  CHECK(mds->lookup(a, "f")->ino == d);
  CHECK(mds->lookup(b, "d")->ino == f);
  CHECK(mds.inode(d).parent == a);
  CHECK(mds.inode(a).nlink == 3);
  CHECK(mds.inode(b).nlink == 2);
  CHECK(mds.inode(f).ctimeNs == mds.now);
  CHECK(mds.inode(d).ctimeNs == mds.now);
  CHECK(mds.rename(a, "f", b, "nothing", kExchange).code() == Errc::kNotFound);
  // Within one directory too.
  auto g = mds.file("g", a);
  CHECK(mds.rename(a, "f", a, "g", kExchange).ok());
  CHECK(mds->lookup(a, "f")->ino == g);
  CHECK(mds.inode(a).nlink == 3);
}

TEST_CASE("rename WHITEOUT: a character device 0:0 stays behind") {
  Mds mds;
  auto f = mds.file("f");
  mds.file("g");
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kWhiteout).ok());
  CHECK(mds->lookup(kRootInode, "g")->ino == f);
  auto w = mds->lookup(kRootInode, "f");
  REQUIRE(w.has_value());
  CHECK(w->mode == S_IFCHR);
  CHECK(w->rdev == 0);
  CHECK(mds.rename(kRootInode, "g", kRootInode, "h", kWhiteout | kNoReplace).ok());
  CHECK(mds.names(kRootInode) == std::vector<std::string>{"f", "g", "h"});
}

TEST_CASE("rename WHITEOUT: what is made in a set-group-ID directory has its group") {
  Mds mds;
  auto d = mds.make(kRootInode, "d", S_IFDIR | 02755).ino();
  mds.run([&](auto m) {
    auto s = m.initSetattr();
    s.setIno(d.value);
    s.setSetGid(true);
    s.setGid(34);
  });
  mds.file("f", d);
  CHECK(mds.rename(d, "f", kRootInode, "g", kWhiteout).ok());
  CHECK(mds->lookup(d, "f")->gid == 34);
}

TEST_CASE("rename: refusals") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.rename(kRootInode, "x", kRootInode, "y").code() == Errc::kNotFound);
  CHECK(mds.rename(f, "x", kRootInode, "y").code() == Errc::kNotDirectory);
  CHECK(mds.rename(kRootInode, "f", f, "y").code() == Errc::kNotDirectory);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "..").code() == Errc::kInvalid);
  CHECK(mds.rename(kRootInode, ".", kRootInode, "y").code() == Errc::kInvalid);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", 8).code() == Errc::kInvalid);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kExchange | kNoReplace).code() ==
        Errc::kInvalid);
  CHECK(mds.rename(kRootInode, "f", kRootInode, "g", kExchange | kWhiteout).code() ==
        Errc::kInvalid);
}
