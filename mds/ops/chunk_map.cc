#include "mds/ops/chunk_map.h"

#include <algorithm>

#include "mds/state/keys.h"

namespace cairn::mds::ops {

namespace {

// The next id that is placed in the group of `near`. Where a chunk lies follows from its id alone
// and ids only grow, so ids are passed over until one fits: with n groups, n on average, of 2^64.
// An id costs a hash, 2 ns: 1 ms for a pool of the 333,333 groups of 10^4 OSDs. That it takes more
// than kTries * n happens once in e^kTries; the chunk then goes anywhere, which is always allowed.
ChunkId nextNear(uint64_t next, const Pool& pool, ChunkId near) {
  constexpr uint64_t kTries = 16;
  const PgIndex wanted = pool.pgOf(near);
  for (uint64_t id = next; id - next < kTries * pool.pgs.size(); ++id)
    if (pool.pgOf(ChunkId(id)) == wanted) return ChunkId(id);
  return ChunkId(next);
}

}  // namespace

bool isNear(OpContext& ctx, const Inode& file, const Chunk& chunk, ChunkId near) {
  const Pool* pool = ctx.cluster().map.pool(file.pool);
  return pool == nullptr || (chunk.pool == file.pool && pool->pgOf(chunk.id) == pool->pgOf(near));
}

Chunk allocate(OpContext& ctx, Inode& file, uint32_t index, ChunkId near) {
  uint64_t& next = ctx.counters().nextChunk;
  Chunk chunk{index, ChunkId(next), file.pool};
  if (const Pool* pool = ctx.cluster().map.pool(file.pool); near && pool != nullptr)
    chunk.id = nextNear(next, *pool, near);
  next = chunk.id.value + 1;
  ctx.state().txn.put(keys::chunk(file.ino, index), encodeChunk({chunk.id, chunk.pool}));
  ++file.chunkCount;
  ctx.countUse(chunk.pool, {.chunks = 1});
  ctx.touch(file);
  return chunk;
}

void discard(OpContext& ctx, Inode& file, const Chunk& chunk) {
  Counters& counters = ctx.counters();
  ctx.state().txn.del(keys::chunk(file.ino, chunk.index));
  ctx.state().txn.put(keys::garbage(counters.nextGarbage++), encodeChunk({chunk.id, chunk.pool}));
  ++counters.counts.garbage;
  --file.chunkCount;
  ctx.countUse(chunk.pool, {.chunks = -1, .garbage = 1});
  ctx.touch(file);
}

Result<void> discardFrom(OpContext& ctx, Inode& file, uint32_t from) {
  if (file.chunkCount == 0) return {};
  auto chunks = ctx.state().chunkRecords(file.ino, from, kMaxChunkIndex, kMaxDiscards + 1);
  TRY(chunks);
  const bool more = chunks->size() > kMaxDiscards;
  if (more) chunks->pop_back();
  for (const auto& chunk : *chunks) discard(ctx, file, chunk);

  const bool wasCondemned = !file.condemned.empty();
  std::erase_if(file.condemned, [&](const Condemned& c) { return c.from >= from; });
  if (more) {
    if (file.condemned.size() == kMaxCondemned)
      return fail(Errc::kBusyTryLater, "earlier truncations of this file are still being freed");
    file.condemned.push_back({chunks->back().index + 1, ctx.counters().nextChunk});
  }
  // An unlinked file is an orphan already, and purge frees all of it.
  if (file.nlink != 0 && wasCondemned != !file.condemned.empty()) {
    if (wasCondemned)
      ctx.dropOrphan(file.ino);
    else
      ctx.setOrphan(file.ino, {});
  }
  ctx.touch(file);
  return {};
}

Result<void> discardCondemned(OpContext& ctx, Inode& file, size_t& budget) {
  auto& steps = file.condemned;
  while (!steps.empty() && budget > 0) {
    const uint32_t end = steps.size() > 1 ? steps[1].from : kMaxChunkIndex;
    auto chunks = ctx.state().chunkRecords(file.ino, steps[0].from, end, budget);
    TRY(chunks);
    for (const auto& chunk : *chunks)
      if (chunk.id.value < steps[0].below) discard(ctx, file, chunk);
    // Starting behind what is done spares the next step a walk over LevelDB's tombstones.
    if (chunks->size() == budget)
      steps[0].from = chunks->back().index + 1;
    else
      steps.erase(steps.begin());
    budget -= chunks->size();
    ctx.touch(file);
  }
  return {};
}

Result<void> checkRange(uint32_t first, uint32_t count) {
  if (count == 0 || count > kMaxChunksPerCommand) return fail(Errc::kInvalid);
  if (first >= kMaxChunkIndex || count > kMaxChunkIndex - first) return fail(Errc::kTooBig);
  return {};
}

}  // namespace cairn::mds::ops
