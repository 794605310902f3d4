#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("commitWrite: the file grows and never shrinks") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.inode(f);
  auto grown = mds.commit(f, 100);
  auto a = grown.attr();
  CHECK(a.getSize() == 100);
  CHECK(a.getDataVersion() == before.dataVersion + 1);
  CHECK(a.getCtimeNs() == mds.now);
  auto kept = mds.commit(f, 50);
  auto b = kept.attr();
  CHECK(b.getSize() == 100);
  CHECK(b.getDataVersion() == before.dataVersion + 2);
  CHECK(mds.commit(f, (1ull << 50) + 1).code() == Errc::kTooBig);
  CHECK(mds.commit(f, 1ull << 50).ok());
  CHECK(mds.commit(kRootInode, 1).code() == Errc::kIsDirectory);
  CHECK(mds.commit(InodeId(99), 1).code() == Errc::kStale);
}

TEST_CASE("commitWrite: mtime is the writer's, and stays if it says none") {
  Mds mds;
  auto f = mds.file("f");
  auto run = [&](bool set) {
    return mds
        .run([&](auto m) {
          auto c = m.initCommitWrite();
          c.setIno(f.value);
          c.setMtimeNs(4711);
          c.setSetMtime(set);
        })
        .attr()
        .getMtimeNs();
  };
  auto before = mds.inode(f).mtimeNs;
  CHECK(run(false) == before);
  CHECK(run(true) == 4711);
}

TEST_CASE("commitWrite: ctime is when it was written, moves on, and is not ahead of our clock") {
  Mds mds;
  auto f = mds.file("f");
  auto ctimeOf = [&](int64_t mtime) {
    return mds
        .run([&](auto m) {
          auto c = m.initCommitWrite();
          c.setIno(f.value);
          c.setMtimeNs(mtime);
          c.setSetMtime(true);
        })
        .attr()
        .getCtimeNs();
  };
  const int64_t before = mds.inode(f).ctimeNs;
  mds.now += 1'000'000;
  CHECK(ctimeOf(before + 500) == before + 500);
  CHECK(ctimeOf(before + 400) == before + 501);
  CHECK(mds.inode(f).mtimeNs == before + 400);
  CHECK(ctimeOf(mds.now + 1'000'000'000) == mds.now);
}

TEST_CASE("commitWrite: it cleans the tail and drops setuid when the client did so") {
  Mds mds;
  auto f = mds.make(kRootInode, "f", S_IFREG | 06755).ino();
  mds.alloc(f, 0, 1);
  mds.commit(f, 1000);
  CHECK(mds.truncate(f, 10).attr().getTailUnclean());
  CHECK(mds.commit(f, 5).attr().getTailUnclean());
  CHECK_FALSE(mds.commit(f, 20, true).attr().getTailUnclean());
  CHECK((mds.inode(f).mode & 07777) == 06755);
  mds.run([&](auto m) {
    auto c = m.initCommitWrite();
    c.setIno(f.value);
    c.setClearSuid(true);
  });
  CHECK((mds.inode(f).mode & 07777) == 0755);
}

TEST_CASE("commitWrite: a session that does not extend a file does not vouch for its tail") {
  Mds mds;
  const uint64_t s = mds.session(), t = mds.session(), u = mds.session();
  auto f = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}, {.session = s}).ino();
  auto unclean = [&](uint64_t id) { return mds.inode(f).tailUncleanFor(SessionId(id)); };
  CHECK(mds.inode(f).writer == SessionId(s));
  mds.commit(f, 1000, false, {.session = s});
  CHECK_FALSE(unclean(s));
  CHECK(unclean(t));
  // It wrote inside: what `s` may have left behind the end is still there.
  mds.commit(f, 0, false, {.session = t});
  CHECK(unclean(t));
  CHECK_FALSE(unclean(s));
  SUBCASE("cleaned on the way") {
    mds.commit(f, 2000, true, {.session = t});
    CHECK_FALSE(unclean(t));
    CHECK(unclean(s));
    CHECK(unclean(u));
  }
  SUBCASE("cut: the new tail is marked for all") {
    mds.truncate(f, 10, {.session = t});
    CHECK(mds.inode(f).writer == SessionId(t));
    CHECK(unclean(t));
    CHECK(mds.tailCleaned(f, 10, {.session = t}).ok());
    CHECK_FALSE(unclean(t));
    CHECK(unclean(u));
  }
  SUBCASE("cut to nothing: there is no tail, until somebody makes a chunk") {
    mds.truncate(f, 0, {.session = t});
    for (uint64_t id : {s, t, u}) CHECK_FALSE(unclean(id));
    mds.alloc(f, 0, 1, {.session = u});
    CHECK_FALSE(unclean(u));
    CHECK(unclean(s));
    CHECK(unclean(t));
  }
}
