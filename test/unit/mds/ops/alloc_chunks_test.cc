#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("allocChunks: missing chunks are made with growing ids, existing ones stay") {
  Mds mds;
  auto f = mds.file("f");
  auto middle = mds.alloc(f, 2, 1).chunks();
  auto all = mds.alloc(f, 0, 5).chunks();
  REQUIRE(all.size() == 5);
  for (uint32_t i = 0; i < 5; ++i) CHECK(all[i].index == i);
  CHECK(all[2].id == middle[0].id);
  CHECK(all[0].id > middle[0].id);
  CHECK(all[4].id > all[3].id);
  auto again = mds.alloc(f, 0, 5).chunks();
  for (uint32_t i = 0; i < 5; ++i) CHECK(again[i].id == all[i].id);
  CHECK(mds.inode(f).chunkCount == 5);
  CHECK(mds->counts().chunks == 5);
  auto some = mds->chunks(f, 1, 3);
  REQUIRE(some->size() == 3);
  CHECK(some->front().index == 1);
}

TEST_CASE("allocChunks: a full answer is one flat segment") {
  Mds mds;
  auto f = mds.file("f");
  auto chunks = mds.alloc(f, 0, 1024).chunks();
  REQUIRE(chunks.size() == 1024);
  CHECK(chunks[1023].index == 1023);
}

TEST_CASE("allocChunks: it changes no time, for no data has changed") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.inode(f);
  mds.alloc(f, 0, 1);
  auto after = mds.inode(f);
  CHECK(after.ctimeNs == before.ctimeNs);
  CHECK(after.mtimeNs == before.mtimeNs);
  CHECK(after.changeVersion > before.changeVersion);
}

TEST_CASE("allocChunks: limits") {
  Mds mds;
  auto f = mds.file("f");
  constexpr uint32_t kLast = (1u << 24) - 1;  // 2^50 bytes
  CHECK(mds.alloc(f, 0, 0).code() == Errc::kInvalid);
  CHECK(mds.alloc(f, 0, 1025).code() == Errc::kInvalid);
  CHECK(mds.alloc(f, kLast, 1).ok());
  CHECK(mds.alloc(f, kLast, 2).code() == Errc::kTooBig);
  CHECK(mds.alloc(f, UINT32_MAX, 1024).code() == Errc::kTooBig);
  CHECK(mds.alloc(kRootInode, 0, 1).code() == Errc::kIsDirectory);
  CHECK(mds.alloc(InodeId(99), 0, 1).code() == Errc::kStale);
  CHECK(mds->chunks(f, kLast, UINT32_MAX)->size() == 1);
  CHECK(mds->chunks(f, UINT32_MAX, UINT32_MAX)->empty());
  auto p = mds.make(kRootInode, "p", S_IFIFO).ino();
  CHECK(mds.alloc(p, 0, 1).code() == Errc::kInvalid);
}
