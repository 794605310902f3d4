#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("removeChunks: the chunks of a hole go, the file keeps its size") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 6);
  mds.commit(f, 6 * kChunkSize);
  auto before = mds.inode(f);
  auto removed = mds.removeChunks(f, 1, 3);
  auto a = removed.attr();
  CHECK(a.getSize() == 6 * kChunkSize);
  CHECK(a.getChunkCount() == 3);
  CHECK(a.getDataVersion() == before.dataVersion + 1);
  CHECK(a.getMtimeNs() == mds.now);
  CHECK(mds.garbage().size() == 3);
  auto left = mds.chunks(f);
  REQUIRE(left.size() == 3);
  CHECK(left[1].index == 4);
  CHECK(mds.removeChunks(f, 1, 3).ok());
  CHECK(mds.garbage().size() == 3);
}

TEST_CASE("removeChunks: without its chunk the tail is clean") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 2);
  mds.commit(f, 2 * kChunkSize);
  CHECK(mds.truncate(f, kChunkSize + 1).attr().getTailUnclean());
  CHECK(mds.removeChunks(f, 0, 1).attr().getTailUnclean());
  CHECK_FALSE(mds.removeChunks(f, 1, 1).attr().getTailUnclean());
}

TEST_CASE("removeChunks: refusals") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.removeChunks(f, 0, 0).code() == Errc::kInvalid);
  CHECK(mds.removeChunks(f, 0, 1025).code() == Errc::kInvalid);
  CHECK(mds.removeChunks(kRootInode, 0, 1).code() == Errc::kIsDirectory);
}
