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

TEST_CASE("allocChunks: near a chunk means in its group, with an id that is new like any other") {
  Mds mds;
  auto from = mds.file("from"), to = mds.file("to");
  auto source = mds.alloc(from, 0, 20).chunks();
  const Pool pool = *mds->map().pool(source[0].pool);
  REQUIRE(pool.pgs.size() > 8);
  std::vector<uint64_t> near;
  for (const Chunk& c : source) near.push_back(c.id.value);
  near[7] = 0;
  auto made = mds.allocNear(to, 0, 21, near).chunks();
  REQUIRE(made.size() == 21);
  for (uint32_t i = 0; i < 20; ++i)
    if (i != 7) CHECK(pool.pgOf(made[i].id) == pool.pgOf(source[i].id));
  CHECK(made[0].id > source[19].id);
  for (uint32_t i = 1; i < 21; ++i) CHECK(made[i].id > made[i - 1].id);
  CHECK(mds.alloc(mds.file("later"), 0, 1).chunks()[0].id > made[20].id);
  // About as many ids as there are groups were passed over for each.
  CHECK(made[20].id.value - source[19].id.value < 19 * 4 * pool.pgs.size());
}

TEST_CASE("allocChunks: near: what the file shows stays, what lies behind its end is replaced") {
  Mds mds;
  auto from = mds.file("from"), to = mds.file("to");
  auto source = mds.alloc(from, 0, 1).chunks();
  const Pool pool = *mds->map().pool(source[0].pool);
  auto there = mds.alloc(to, 0, 3).chunks();
  REQUIRE(mds.commit(to, kChunkSize + 1).ok());
  for (const Chunk& c : there) REQUIRE(pool.pgOf(c.id) != pool.pgOf(source[0].id));
  const uint64_t s = source[0].id.value;
  auto now = mds.allocNear(to, 0, 3, {s, s, s}).chunks();
  CHECK(now[0].id == there[0].id);
  CHECK(now[1].id == there[1].id);
  CHECK(now[2].id != there[2].id);
  CHECK(pool.pgOf(now[2].id) == pool.pgOf(source[0].id));
  auto garbage = mds.garbage();
  REQUIRE(garbage.size() == 1);
  CHECK(garbage[0].chunk == there[2].id);
  CHECK(mds.inode(to).chunkCount == 3);
  // Once it is there it stays, and without a wish everything does.
  CHECK(mds.allocNear(to, 0, 3, {s, s, s}).chunks()[2].id == now[2].id);
  CHECK(mds.alloc(to, 0, 3).chunks()[2].id == now[2].id);
  CHECK(mds.garbage().size() == 1);
}

TEST_CASE("allocChunks: near: limits, and ids that never were") {
  Mds mds;
  auto f = mds.file("f");
  CHECK(mds.allocNear(f, 0, 64, std::vector<uint64_t>(64, 5)).ok());
  CHECK(mds.allocNear(f, 0, 65, std::vector<uint64_t>(65, 5)).code() == Errc::kInvalid);
  CHECK(mds.allocNear(f, 0, 1, {5, 6}).code() == Errc::kInvalid);
  CHECK(mds.allocNear(f, 100, 2, {UINT64_MAX, 1'000'000'007}).chunks().size() == 2);
}

TEST_CASE("allocChunks: near: the same commands give the same ids") {
  Mds one, other;
  for (Mds* mds : {&one, &other}) {
    auto f = mds->file("f"), g = mds->file("g");
    auto source = mds->alloc(f, 0, 3).chunks();
    mds->allocNear(g, 0, 2, {source[2].id.value, source[0].id.value});
  }
  CHECK(one.records() == other.records());
}
