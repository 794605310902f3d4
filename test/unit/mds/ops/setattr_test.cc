#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("setattr: what is named changes, ctime too, the rest stays") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.inode(f);
  CHECK(mds.setattr(f,
                    [](auto s) {
                      s.setSetMode(true);
                      s.setMode(07755 | S_IFDIR);  // the type cannot change
                      s.setUid(9);                 // not asked for
                    })
            .ok());
  auto after = mds.inode(f);
  CHECK(after.mode == (S_IFREG | 07755));
  CHECK(after.uid == before.uid);
  CHECK(after.ctimeNs == mds.now);
  CHECK(after.mtimeNs == before.mtimeNs);
  CHECK(after.changeVersion == before.changeVersion + 1);
  CHECK(after.dataVersion == before.dataVersion);
  CHECK(mds.setattr(f, [](auto) {}).ok());
  CHECK(mds.inode(f).ctimeNs == after.ctimeNs);
}

TEST_CASE("setattr: times are as given or as now; ctime never goes back") {
  Mds mds;
  auto f = mds.file("f");
  mds.setattr(f, [](auto s) {
    s.setSetAtime(true);
    s.setAtimeNs(-5);
    s.setSetMtime(true);
    s.setMtimeNs(123456789);
  });
  CHECK(mds.inode(f).atimeNs == -5);
  CHECK(mds.inode(f).mtimeNs == 123456789);
  auto ctime = mds.inode(f).ctimeNs;
  CHECK(ctime == mds.now);
  mds.setattr(f,
              [](auto s) {
                s.setSetAtime(true);
                s.setAtimeNow(true);
                s.setSetMtime(true);
                s.setMtimeNow(true);
              },
              {.timeNs = 77});
  CHECK(mds.inode(f).atimeNs == 77);
  CHECK(mds.inode(f).mtimeNs == 77);
  CHECK(mds.inode(f).ctimeNs == ctime);
}

TEST_CASE("setattr: chown drops setuid and setgid when asked to") {
  Mds mds;
  auto suid = [&](uint32_t type, uint32_t mode) {
    auto f = mds.make(kRootInode, "x" + std::to_string(mode | type), type | mode).ino();
    mds.setattr(f, [](auto s) {
      s.setSetUid(true);
      s.setUid(5);
      s.setSetGid(true);
      s.setGid(6);
      s.setClearSuid(true);
    });
    CHECK(mds.inode(f).uid == 5);
    CHECK(mds.inode(f).gid == 6);
    return mds.inode(f).mode & 07777;
  };
  CHECK(suid(S_IFREG, 06755) == 0755);
  CHECK(suid(S_IFREG, 06745) == 02745);  // setgid without group execution is locking, not power
  CHECK(suid(S_IFDIR, 06755) == 06755);
}

TEST_CASE("truncate: chunks beyond the new end go, the one with the end is unclean") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.alloc(f, 0, 5).ok());
  CHECK(mds.commit(f, 5 * kChunkSize).ok());
  auto truncated = mds.truncate(f, 2 * kChunkSize + 1);
  auto a = truncated.attr();
  CHECK(a.getSize() == 2 * kChunkSize + 1);
  CHECK(a.getTailUnclean());
  CHECK(a.getChunkCount() == 3);
  CHECK(mds.garbage().size() == 2);
  CHECK(mds.truncate(f, 2 * kChunkSize).attr().getTailUnclean() == false);
  CHECK(mds.chunks(f).size() == 2);
  CHECK(mds.truncate(f, 1).attr().getTailUnclean());
  // Growing does not clean it.
  CHECK(mds.truncate(f, 10).attr().getTailUnclean());
  CHECK(mds.truncate(f, 0).attr().getTailUnclean() == false);
  CHECK(mds.chunks(f).empty());
  CHECK(mds.garbage().size() == 5);
}

TEST_CASE("truncate: a tail without a chunk is clean") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.alloc(f, 3, 1).ok());
  CHECK(mds.commit(f, 4 * kChunkSize).ok());
  CHECK_FALSE(mds.truncate(f, kChunkSize + 5).attr().getTailUnclean());
  CHECK(mds.chunks(f).empty());
}

TEST_CASE("truncate: mtime and ctime move even if the size stays") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.inode(f);
  mds.truncate(f, 0);
  auto after = mds.inode(f);
  CHECK(after.mtimeNs == mds.now);
  CHECK(after.ctimeNs == mds.now);
  CHECK(after.dataVersion == before.dataVersion + 1);
}

TEST_CASE("truncate: only files, and only up to the largest") {
  Mds mds;
  auto f = mds.file("f");
  auto d = mds.dir("d");
  auto p = mds.make(kRootInode, "p", S_IFIFO).ino();
  CHECK(mds.truncate(d, 0).code() == Errc::kIsDirectory);
  CHECK(mds.truncate(p, 0).code() == Errc::kInvalid);
  CHECK(mds.truncate(f, (1ull << 50) + 1).code() == Errc::kTooBig);
  CHECK(mds.truncate(f, 1ull << 50).ok());
  CHECK(mds.truncate(InodeId(999), 0).code() == Errc::kStale);
}

namespace {
// A file of `n` chunks from index `first`.
InodeId bigFile(Mds& mds, std::string_view name, uint32_t first, uint32_t n) {
  auto f = mds.file(name);
  for (uint32_t i = 0; i < n; i += 1024)
    CHECK(mds.alloc(f, first + i, std::min(1024u, n - i)).ok());
  CHECK(mds.commit(f, (uint64_t{first} + n) * kChunkSize).ok());
  return f;
}
uint64_t purgeAll(Mds& mds, InodeId ino, uint32_t limit = 1000) {
  uint64_t steps = 0;
  while (!mds.orphans().empty()) {
    REQUIRE(mds.purge(ino, limit).ok());
    ++steps;
    REQUIRE(steps < 1000);
  }
  return steps;
}
}  // namespace

TEST_CASE("truncate of a huge file: the rest is out of sight at once and freed in steps") {
  Mds mds;
  auto f = bigFile(mds, "f", 10, 6000);
  CHECK(mds.truncate(f, 11 * kChunkSize).ok());
  CHECK(mds.garbage().size() == 4096);
  CHECK(mds.chunks(f).size() == 1);
  REQUIRE(mds.orphans().size() == 1);
  CHECK(mds.orphans()[0].ino == f);
  CHECK(mds.orphans()[0].holders.empty());
  mds.reopen();
  CHECK(mds.chunks(f).size() == 1);
  CHECK(purgeAll(mds, f) == 2);  // the second finds the end of the 1,903
  CHECK(mds.garbage().size() == 5999);
  CHECK(mds.inode(f).chunkCount == 1);
  CHECK(mds.inode(f).condemned.empty());
  CHECK(mds.purge(f).code() == Errc::kNotFound);
}

TEST_CASE("truncate of a huge file: what is written before the purge survives it") {
  Mds mds;
  auto f = bigFile(mds, "f", 0, 6000);
  CHECK(mds.truncate(f, 0).ok());
  // Over condemned chunks, and where there is none.
  auto fresh = mds.alloc(f, 5000, 3).chunks();
  auto beyond = mds.alloc(f, 7000, 1).chunks();
  CHECK(mds.commit(f, 7001 * kChunkSize).ok());
  CHECK(mds.chunks(f).size() == 4);
  CHECK(mds.alloc(f, 5001, 1).chunks()[0].id == fresh[1].id);  // not made twice
  purgeAll(mds, f, 100);
  auto left = mds.chunks(f);
  REQUIRE(left.size() == 4);
  CHECK(left[0].id == fresh[0].id);
  CHECK(left[3].id == beyond[0].id);
  CHECK(mds.garbage().size() == 6000);
}

TEST_CASE("truncate of a huge file: several may wait, in any order, and are told apart") {
  for (auto [first, second] : {std::pair{100u, 9000u}, {9000u, 100u}}) {
    CAPTURE(first);
    Mds mds;
    auto f = bigFile(mds, "f", 0, 15000);
    CHECK(mds.truncate(f, first * kChunkSize).ok());
    // Grow again, with new chunks on both sides of the second cut.
    auto low = mds.alloc(f, 8990, 5).chunks();
    for (uint32_t i = 0; i < 5000; i += 1000) CHECK(mds.alloc(f, 14000 + i, 1000).ok());
    CHECK(mds.commit(f, 19000 * kChunkSize).ok());
    CHECK(mds.truncate(f, second * kChunkSize).ok());
    auto expected = mds.chunks(f);
    CHECK(expected.size() == (first == 100 ? 105 : 100));
    purgeAll(mds, f, 777);
    auto left = mds.chunks(f);
    REQUIRE(left.size() == expected.size());
    for (size_t i = 0; i < left.size(); ++i) CHECK(left[i].id == expected[i].id);
    CHECK(mds.inode(f).chunkCount == left.size());
  }
}

TEST_CASE("truncate of a huge file: a file that is then removed is freed whole") {
  Mds mds;
  auto s = mds.session();
  auto f = bigFile(mds, "f", 0, 6000);
  auto g = bigFile(mds, "g", 0, 6000);
  CHECK(mds.truncate(f, 0).ok());
  CHECK(mds.truncate(g, 0).ok());
  CHECK(mds.unlink("f").ok());
  CHECK(mds.unlink("g", {.openBy = {s}}).ok());
  CHECK(mds.orphans().size() == 2);
  CHECK(mds.purge(g).code() == Errc::kBusy);
  CHECK(mds.alloc(g, 5000, 1).ok());
  CHECK(mds.endSession(s).ok());
  while (mds.exists(f)) REQUIRE(mds.purge(f, 4096).ok());
  while (mds.exists(g)) REQUIRE(mds.purge(g, 4096).ok());
  CHECK(mds.orphans().empty());
  CHECK(mds->counts().chunks == 0);
  CHECK(mds.garbage().size() == 12001);
}
