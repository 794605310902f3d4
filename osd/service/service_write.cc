// The requests that change chunks.
#include <algorithm>
#include <cstring>

#include "osd/service/erasure/shard_ids.h"
#include "osd/service/request_checks.h"
#include "osd/service/service.h"
#include "osd/service/whole_blocks.h"

namespace cairn::osd {

namespace {

Mutation writeOf(ChunkId chunk, const WholeBlocks& b, uint32_t from, uint32_t length) {
  const auto crcs = b.crcs.begin() + static_cast<ptrdiff_t>(from / kBlockSize);
  Mutation m;
  m.chunk = chunk;
  m.offset = b.offset + from;
  m.length = length;
  m.data = b.data.slice(from, length);
  m.crcs.assign(crcs, crcs + static_cast<ptrdiff_t>(length / kBlockSize));
  return m;
}

Mutation rangeOf(Mutation::Kind kind, ChunkId chunk, uint64_t from, uint64_t to) {
  Mutation m;
  m.kind = kind;
  m.chunk = chunk;
  m.offset = static_cast<uint32_t>(from);
  m.length = static_cast<uint32_t>(to - from);
  return m;
}

// Pieces that fit into a message: an unaligned 4 MiB becomes two. Cut also where data ends and a
// hole begins: a piece that finds no room on some member is taken back only if it went into a hole,
// and what was there before must not share its fate.
Result<std::vector<Mutation>> writesOf(Store& store, ChunkId chunk, const WholeBlocks& b) {
  std::vector<Mutation> pieces;
  const auto bytes = static_cast<uint32_t>(b.data.size());
  auto allHole = store.isHole(chunk, b.offset, bytes);
  TRY(allHole);
  for (uint32_t at = 0; at < bytes;) {
    uint32_t to = std::min<uint32_t>(bytes, at + kMaxIoBytes);
    if (!*allHole) {
      auto first = store.isHole(chunk, b.offset + at, kBlockSize);
      TRY(first);
      for (uint32_t next = at + kBlockSize; next < to; next += kBlockSize) {
        auto same = store.isHole(chunk, b.offset + next, kBlockSize);
        TRY(same);
        if (*same != *first) to = next;
      }
    }
    pieces.push_back(writeOf(chunk, b, at, to - at));
    at = to;
  }
  return pieces;
}

Error removedChunk(ChunkId chunk) {
  return Error(Errc::kStale, "chunk " + std::to_string(chunk.value) + " was removed");
}

}  // namespace

Task<Service::Locked> Service::lock(const Mutation& m) {
  struct Part {
    ChunkId chunk;
    BlockRange range;
    bool exclusive;
  };
  std::vector<Part> parts;
  if (m.kind == Mutation::Kind::kRemove) {
    for (ChunkId id : m.removed) parts.push_back({id, {0, kBlocksPerChunk}, true});
  } else {
    parts.push_back({m.chunk, blocksOf(m.offset, m.length), true});
  }
  if (m.kind == Mutation::Kind::kClone) {
    const BlockRange read = blocksOf(m.sourceOffset, m.length);
    BlockRange& changed = parts.front().range;
    // Within one chunk both ranges, and what lies between, in one step: a second lock could wait
    // behind somebody who waits for the first.
    if (m.source == m.chunk)
      changed = {std::min(changed.from, read.from), std::max(changed.to, read.to)};
    else
      parts.push_back({m.source, read, false});
  }
  std::ranges::sort(parts, {}, &Part::chunk);
  Locked locked;
  locked.chunks.reserve(parts.size());
  locked.guards.reserve(parts.size());
  for (const Part& p : parts) {
    locked.chunks.push_back(chunks_.use(p.chunk));
    locked.guards.push_back(
        co_await locked.chunks.back()->lock.lock(p.range.from, p.range.to, p.exclusive));
  }
  co_return locked;
}

Task<Result<OutMessage>> Service::mutateAll(Context ctx, Served served,
                                            std::vector<Mutation> pieces) {
  ChunkVersion version;
  for (Mutation& piece : pieces) {
    // Reading the edges or storing the piece before took time: the fence may have come meanwhile,
    // or another map. From here to where the mutation is numbered and sent nothing waits.
    auto now = recheck(ctx, Need::kPrimary, std::nullopt);
    CO_TRY(now);
    if (now->group != served.group) co_return fail(Errc::kUnavailable, "the group began anew");
    auto done = co_await replicator_.mutate(std::move(now->at), served.group, std::move(piece));
    CO_TRY(done);
    version = *done;
  }
  OutMessage out = reply(ctx.target);
  out.body<schema::OsdReply>().setVersion(version.value);
  co_return out;
}

Task<Result<OutMessage>> Service::write(Context ctx, ChunkId chunk, uint32_t offset,
                                        uint32_t length, Buffer payload, Bytes crcs) {
  CO_TRY(checkRange(offset, length, false));
  CO_TRY(checkPayload(offset, length, payload, crcs));
  if (erasurePool(ctx) != nullptr)
    co_return co_await writeStripes(ctx, chunk, offset, length, std::move(payload), crcs);
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  const Locked locked =
      co_await lock(rangeOf(Mutation::Kind::kWrite, chunk, offset, uint64_t{offset} + length));
  auto served = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(served);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  const BlockReader stored = [&](uint32_t at) {
    return store_.read(chunk, at, static_cast<uint32_t>(kBlockSize));
  };
  auto blocks = co_await completeBlocks(env_, stored, offset, payload, crcs);
  if (!blocks && blocks.error().code == Errc::kCorrupt) {
    CO_TRY(co_await healer_.heal(served->group, chunk, blocksOf(offset, length)));
    blocks = co_await completeBlocks(env_, stored, offset, std::move(payload), crcs);
  }
  CO_TRY(blocks);
  auto pieces = writesOf(store_, chunk, *blocks);
  CO_TRY(pieces);
  auto done = co_await mutateAll(ctx, std::move(*served), std::move(*pieces));
  if (done) probe_.bytesWritten += length;
  co_return done;
}

Task<Result<OutMessage>> Service::zero(Context ctx, ChunkId chunk, uint32_t offset,
                                       uint32_t length) {
  CO_TRY(checkRange(offset, length, false));
  if (erasurePool(ctx) != nullptr) co_return co_await zeroStripes(ctx, chunk, offset, length);
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  const Locked locked =
      co_await lock(rangeOf(Mutation::Kind::kZero, chunk, offset, uint64_t{offset} + length));
  auto served = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(served);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  const BlockReader stored = [&](uint32_t at) {
    return store_.read(chunk, at, static_cast<uint32_t>(kBlockSize));
  };
  auto edges = co_await zeroEdges(env_, stored, offset, length);
  if (!edges && edges.error().code == Errc::kCorrupt) {
    CO_TRY(co_await healer_.heal(served->group, chunk, blocksOf(offset, length)));
    edges = co_await zeroEdges(env_, stored, offset, length);
  }
  CO_TRY(edges);
  std::vector<Mutation> pieces;
  for (const WholeBlocks& edge : *edges)
    pieces.push_back(writeOf(chunk, edge, 0, static_cast<uint32_t>(kBlockSize)));
  const uint64_t from = roundUp(offset, kBlockSize);
  const uint64_t to = roundDown(uint64_t{offset} + length, kBlockSize);
  if (from < to) pieces.push_back(rangeOf(Mutation::Kind::kZero, chunk, from, to));
  co_return co_await mutateAll(ctx, std::move(*served), std::move(pieces));
}

Task<Result<OutMessage>> Service::allocate(Context ctx, ChunkId chunk, uint32_t offset,
                                           uint32_t length) {
  CO_TRY(checkRange(offset, length, false));
  if (erasurePool(ctx) != nullptr)
    co_return co_await allocateStripes(ctx, chunk, blocksOf(offset, length));
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  std::vector<Mutation> pieces;
  pieces.push_back(rangeOf(Mutation::Kind::kAllocate, chunk, roundDown(offset, kBlockSize),
                           roundUp(uint64_t{offset} + length, kBlockSize)));
  const Locked locked = co_await lock(pieces.front());
  auto served = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(served);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  co_return co_await mutateAll(ctx, std::move(*served), std::move(pieces));
}

Task<Result<OutMessage>> Service::clone(Context ctx, Mutation what) {
  const ChunkId source = what.source, target = what.chunk;
  const uint64_t bytes = what.length;
  if (erasurePool(ctx) != nullptr) co_return co_await cloneStripes(ctx, std::move(what));
  CO_TRY(co_await admit(ctx, Need::kPrimary, target));
  const Locked locked = co_await lock(what);
  auto served = recheck(ctx, Need::kPrimary, target);
  CO_TRY(served);
  CO_TRY(MapState::checkChunk(served->at, ctx.target, source));
  for (ChunkId id : {source, target})
    if (chunks_.buried(id)) co_return fail(removedChunk(id));
  // Removed ids are not remembered for ever. Who asks knows the chunk from the MDS and asks again.
  auto there = store_.stat(source);
  CO_TRY(there);
  if (!*there) co_return fail(removedChunk(source));
  std::vector<Mutation> pieces;
  pieces.push_back(std::move(what));
  auto done = co_await mutateAll(ctx, std::move(*served), std::move(pieces));
  if (done) probe_.bytesCloned += bytes;
  co_return done;
}

Task<Result<OutMessage>> Service::remove(Context ctx, std::vector<ChunkId> chunks) {
  CO_TRY(co_await admit(ctx, Need::kPrimary, std::nullopt));
  Mutation m;
  m.kind = Mutation::Kind::kRemove;
  m.removed = std::move(chunks);
  if (erasurePool(ctx) != nullptr)
    for (size_t i = 0, n = m.removed.size(); i < n; ++i) m.removed.push_back(staged(m.removed[i]));
  // From here on nobody makes them anew; whoever is at work on them is waited for.
  for (ChunkId id : m.removed) chunks_.bury(id);
  const Locked locked = co_await lock(m);
  auto served = recheck(ctx, Need::kPrimary, std::nullopt);
  CO_TRY(served);
  for (ChunkId id : m.removed) CO_TRY(MapState::checkChunk(served->at, ctx.target, unstaged(id)));
  std::vector<Mutation> pieces;
  if (!m.removed.empty()) pieces.push_back(std::move(m));
  co_return co_await mutateAll(ctx, std::move(*served), std::move(pieces));
}

}  // namespace cairn::osd
