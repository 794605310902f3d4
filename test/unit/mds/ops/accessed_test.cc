#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

constexpr int64_t kSecond = 1'000'000'000, kDay = 24 * 3600 * kSecond;

struct Access {
  InodeId ino;
  int64_t atNs;
};

Answer accessed(Mds& mds, const std::vector<Access>& accesses, bool always = false, By by = {}) {
  return mds.run(
      [&](auto m) {
        auto a = m.initAccessed();
        a.setAlways(always);
        auto list = a.initAccesses(static_cast<uint32_t>(accesses.size()));
        for (uint32_t i = 0; i < list.size(); ++i) {
          list[i].setIno(accesses[i].ino.value);
          list[i].setTimeNs(accesses[i].atNs);
        }
      },
      by);
}

// Gives the inode these times of access and modification, and a ctime before both.
InodeId fileWith(Mds& mds, int64_t atimeNs, int64_t mtimeNs) {
  auto f = mds.file("f" + std::to_string(mds.now), kRootInode);
  mds.setattr(f, [&](auto s) {
    s.setSetAtime(true);
    s.setAtimeNs(atimeNs);
    s.setSetMtime(true);
    s.setMtimeNs(mtimeNs);
  });
  return f;
}

}  // namespace

TEST_CASE("accessed: due while the last access is no later than the last change, or a day old") {
  Mds mds;
  const int64_t start = mds.now;
  struct {
    const char* what;
    int64_t atime, mtime, access;  // since `later`
    bool due;
  } rows[] = {
      {"read since it was modified", 10, 9, 20, false},
      {"modified since it was read", 10, 11, 20, true},
      {"modified when it was read", 10, 10, 20, true},
      {"changed otherwise since it was read", -3600 * kSecond, -7200 * kSecond, 20, true},
      {"a nanosecond less than a day ago", 10, 9, kDay + 9, false},
      {"a day ago", 10, 9, kDay + 10, true},
      {"back in time", 10, 11, 9, false},
      {"at the same time", 10, 11, 10, false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    const int64_t later = mds.now + 60 * kSecond;  // than its ctime
    auto f = fileWith(mds, later + row.atime, later + row.mtime);
    REQUIRE(mds.inode(f).ctimeNs < later);
    mds.now = later + 2 * kDay;
    CHECK(accessed(mds, {{f, later + row.access}}).ok());
    CHECK(mds.inode(f).atimeNs == later + (row.due ? row.access : row.atime));
  }
  CHECK(mds.now > start);
}

TEST_CASE("accessed: always means every later time, and none that goes back") {
  Mds mds;
  const int64_t later = mds.now + 60 * kSecond;
  auto f = fileWith(mds, later + 10, later);
  mds.now = later + kDay;
  CHECK(accessed(mds, {{f, later + 11}}, true).ok());
  CHECK(mds.inode(f).atimeNs == later + 11);
  CHECK(accessed(mds, {{f, later + 5}}, true).ok());
  CHECK(mds.inode(f).atimeNs == later + 11);
}

TEST_CASE("accessed: nothing else of the inode changes") {
  Mds mds;
  auto f = mds.file("f");
  auto expected = mds.inode(f);
  mds.now += 10 * kSecond;
  CHECK(accessed(mds, {{f, mds.now - 1}}).ok());
  auto after = mds.inode(f);
  CHECK(after.atimeNs == mds.now - 1 - kSecond);  // run() moved the clock on
  CHECK(after.ctimeNs == expected.ctimeNs);
  CHECK(after.mtimeNs == expected.mtimeNs);
  CHECK(after.changeVersion == expected.changeVersion);
  CHECK(after.dataVersion == expected.dataVersion);
  mds.reopen();
  CHECK(mds.inode(f).atimeNs == after.atimeNs);
}

TEST_CASE("accessed: a reader's clock that is ahead does not take the time ahead of ours") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(accessed(mds, {{f, INT64_MAX}}).ok());
  CHECK(mds.inode(f).atimeNs == mds.now);
  CHECK(accessed(mds, {{f, INT64_MIN}}, true).ok());
  CHECK(mds.inode(f).atimeNs == mds.now - kSecond);
}

TEST_CASE("accessed: what is gone is left out, the others count") {
  Mds mds;
  auto s = mds.session();
  auto gone = mds.file("gone"), held = mds.file("held"), d = mds.dir("d");
  auto link = mds.make(kRootInode, "link", S_IFLNK | 0777, {.target = "x"}).ino();
  CHECK(mds.unlink("gone").ok());
  CHECK(mds.unlink("held", {.openBy = {s}}).ok());
  mds.now += kSecond;
  const int64_t at = mds.now;
  CHECK(accessed(mds, {{gone, at}, {InodeId{4711}, at}, {held, at}, {d, at}, {link, at}}).ok());
  for (InodeId ino : {held, d, link}) CHECK(mds.inode(ino).atimeNs == at);
}

TEST_CASE("accessed: repeated, it does nothing, also where it would be due again") {
  Mds mds;
  auto s = mds.session();
  auto f = mds.file("f");
  mds.now += kSecond;
  const By by{.session = s, .seq = 1};
  const int64_t at = mds.now;
  CHECK(accessed(mds, {{f, at}}, false, by).ok());
  CHECK(mds.inode(f).atimeNs == at);
  mds.setattr(f, [](auto a) {
    a.setSetAtime(true);
    a.setAtimeNs(5);
  });
  CHECK(accessed(mds, {{f, at}}, false, by).ok());
  CHECK(mds.inode(f).atimeNs == 5);
}
