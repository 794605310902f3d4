#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Ids = std::vector<uint64_t>;

Answer leaked(Mds& mds, const Ids& ids, uint64_t below, PoolId pool = PoolId(1)) {
  return mds.run([&](auto m) {
    auto l = m.initChunksLeaked();
    l.setBelow(below);
    auto list = l.initChunks(static_cast<uint32_t>(ids.size()));
    for (uint32_t i = 0; i < ids.size(); ++i) {
      list[i].setChunk(ids[i]);
      list[i].setPool(pool.value);
    }
  });
}

// Chunk ids that were given out and are nowhere any more: of a file that is gone for good.
Ids lost(Mds& mds, uint32_t count) {
  auto f = mds.file("gone");
  CHECK(mds.alloc(f, 0, count).ok());
  Ids ids;
  for (const auto& c : mds.chunks(f)) ids.push_back(c.id.value);
  CHECK(mds.unlink("gone").ok());
  auto queue = mds.garbage();
  CHECK(mds.run([&](auto m) {
             auto list = m.initGarbageDone(static_cast<uint32_t>(queue.size()));
             for (uint32_t i = 0; i < queue.size(); ++i) list.set(i, queue[i].id);
           })
            .ok());
  return ids;
}

Ids queued(Mds& mds) {
  Ids ids;
  for (const auto& g : mds.garbage()) ids.push_back(g.chunk.value);
  return ids;
}

}  // namespace

TEST_CASE("chunksLeaked: what is leaked goes to the garbage queue, and is counted there") {
  Mds mds;
  const Ids ids = lost(mds, 5);
  const uint64_t below = mds->nextChunk().value;
  CHECK(leaked(mds, {ids[0], ids[2], ids[4]}, below).ok());
  CHECK(queued(mds) == Ids{ids[0], ids[2], ids[4]});
  CHECK(mds->counts().garbage == 3);
  for (const auto& g : mds.garbage()) CHECK(g.pool == PoolId(1));
  mds.reopen();
  CHECK(queued(mds) == Ids{ids[0], ids[2], ids[4]});
  // What is given out afterwards is not below what was said.
  auto f = mds.file("f");
  CHECK(mds.alloc(f, 0, 1).ok());
  CHECK(mds.chunks(f)[0].id.value >= below);
}

TEST_CASE("chunksLeaked: ids that may have been given out since somebody looked are refused") {
  Mds mds;
  const Ids ids = lost(mds, 3);
  const uint64_t below = mds->nextChunk().value;
  auto f = mds.file("f");
  CHECK(mds.alloc(f, 0, 4).ok());
  const uint64_t used = mds.chunks(f)[0].id.value;
  CHECK(leaked(mds, {ids[0], used}, below).code() == Errc::kInvalid);
  CHECK(leaked(mds, {below}, below).code() == Errc::kInvalid);
  CHECK(leaked(mds, {ids[0]}, mds->nextChunk().value + 1).code() == Errc::kInvalid);
  CHECK(leaked(mds, {ids[1], ids[0]}, below).code() == Errc::kInvalid);
  CHECK(leaked(mds, {ids[1], ids[1]}, below).code() == Errc::kInvalid);
  CHECK(leaked(mds, {0}, below).code() == Errc::kInvalid);
  CHECK(queued(mds).empty());
  CHECK(mds.chunks(f).size() == 4);
}

TEST_CASE("chunksLeaked: chunks of a pool that is gone are skipped") {
  Mds mds;
  const Ids ids = lost(mds, 2);
  CHECK(leaked(mds, ids, mds->nextChunk().value, PoolId(77)).ok());
  CHECK(queued(mds).empty());
  CHECK(mds->counts().garbage == 0);
}
