#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("tailCleaned: it counts only for the size that was cleaned, and moves no time") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 1);
  mds.commit(f, 1000);
  CHECK(mds.truncate(f, 10).attr().getTailUnclean());
  auto cleaned = [&](uint64_t size) { return mds.tailCleaned(f, size).attr().getTailUnclean(); };
  auto before = mds.inode(f);
  CHECK(cleaned(1000));
  CHECK(cleaned(9));
  CHECK_FALSE(cleaned(10));
  CHECK(mds.inode(f).ctimeNs == before.ctimeNs);
  CHECK(mds.inode(f).dataVersion == before.dataVersion);
}

TEST_CASE("tailCleaned: what an expired writer may have left is the next one's to clean, once") {
  Mds mds;
  const uint64_t s = mds.session(), t = mds.session();
  auto f = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}, {.session = s}).ino();
  mds.commit(f, 1000, false, {.session = s});
  mds.alloc(f, 1, 2, {.session = s});
  mds.expire(s);
  CHECK(mds.inode(f).chunkCount == 3);
  CHECK_FALSE(mds.inode(f).tailUnclean);
  CHECK(mds.inode(f).tailUncleanFor(SessionId(t)));
  auto before = mds.inode(f);
  CHECK(mds.tailCleaned(f, 999, {.session = t}).ok());
  CHECK(mds.inode(f).tailUncleanFor(SessionId(t)));
  CHECK(mds.tailCleaned(f, 1000, {.session = t}).ok());
  CHECK_FALSE(mds.inode(f).tailUncleanFor(SessionId(t)));
  CHECK(mds.inode(f).chunkCount == 1);  // what was behind the end went with it
  CHECK(mds.inode(f).writer == SessionId(t));
  CHECK(mds.inode(f).ctimeNs == before.ctimeNs);
  CHECK(mds.inode(f).dataVersion == before.dataVersion);
  mds.reopen();
  CHECK(mds.inode(f).writer == SessionId(t));
}
