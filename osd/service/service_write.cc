// The requests that change chunks.
#include <algorithm>
#include <cstring>

#include "osd/service/request_checks.h"
#include "osd/service/service.h"
#include "osd/service/whole_blocks.h"

namespace cairn::osd {

namespace {

std::vector<uint32_t> toCrcs(Bytes wire) {
  std::vector<uint32_t> crcs(wire.size() / sizeof(uint32_t));
  std::copy(wire.begin(), wire.end(), reinterpret_cast<uint8_t*>(crcs.data()));
  return crcs;
}

Mutation writeOf(const WholeBlocks& b, uint32_t from, uint32_t length) {
  const size_t firstCrc = from / kBlockSize;
  return {Mutation::Kind::kWrite, b.offset + from, length, b.data.slice(from, length),
          std::vector<uint32_t>(
              b.crcs.begin() + static_cast<ptrdiff_t>(firstCrc),
              b.crcs.begin() + static_cast<ptrdiff_t>(firstCrc + length / kBlockSize))};
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
    pieces.push_back(writeOf(b, at, to - at));
    at = to;
  }
  return pieces;
}

Error removedChunk(ChunkId chunk) {
  return Error(Errc::kStale, "chunk " + std::to_string(chunk.value) + " was removed");
}

}  // namespace

Task<Result<OutMessage>> Service::mutateAll(Context ctx, Placement at, const ChunkTable::Ref& chunk,
                                            std::vector<Mutation> pieces) {
  ChunkVersion version = chunk->last;
  for (Mutation& piece : pieces) {
    // Reading the edges or storing the piece before took time: the fence may have come meanwhile.
    // From here to where the mutation is numbered and sent nothing waits.
    CO_TRY(checkFence(ctx));
    auto done = co_await replicator_.mutate(at, ctx.target, chunk, std::move(piece));
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
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  auto entry = chunks_.use(chunk);
  const BlockRange range = blocksOf(offset, length);
  auto guard = co_await entry->lock.lock(range.from, range.to, true);
  auto at = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(at);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  auto blocks = co_await completeBlocks(env_, store_, chunk, offset, std::move(payload), crcs);
  CO_TRY(blocks);
  auto pieces = writesOf(store_, chunk, *blocks);
  CO_TRY(pieces);
  auto done = co_await mutateAll(ctx, *at, entry, std::move(*pieces));
  if (done) probe_.bytesWritten += length;
  co_return done;
}

Task<Result<OutMessage>> Service::zero(Context ctx, ChunkId chunk, uint32_t offset,
                                       uint32_t length) {
  CO_TRY(checkRange(offset, length, false));
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  auto entry = chunks_.use(chunk);
  const BlockRange range = blocksOf(offset, length);
  auto guard = co_await entry->lock.lock(range.from, range.to, true);
  auto at = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(at);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  auto edges = co_await zeroEdges(env_, store_, chunk, offset, length);
  CO_TRY(edges);
  std::vector<Mutation> pieces;
  for (const WholeBlocks& edge : *edges)
    pieces.push_back(writeOf(edge, 0, static_cast<uint32_t>(kBlockSize)));
  const uint64_t from = roundUp(offset, kBlockSize);
  const uint64_t to = roundDown(uint64_t{offset} + length, kBlockSize);
  if (from < to)
    pieces.push_back({Mutation::Kind::kZero,
                      static_cast<uint32_t>(from),
                      static_cast<uint32_t>(to - from),
                      {},
                      {}});
  co_return co_await mutateAll(ctx, *at, entry, std::move(pieces));
}

Task<Result<OutMessage>> Service::allocate(Context ctx, ChunkId chunk, uint32_t offset,
                                           uint32_t length) {
  CO_TRY(checkRange(offset, length, false));
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  auto entry = chunks_.use(chunk);
  const BlockRange range = blocksOf(offset, length);
  auto guard = co_await entry->lock.lock(range.from, range.to, true);
  auto at = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(at);
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  std::vector<Mutation> pieces;
  pieces.push_back({Mutation::Kind::kAllocate,
                    static_cast<uint32_t>(range.from * kBlockSize),
                    static_cast<uint32_t>((range.to - range.from) * kBlockSize),
                    {},
                    {}});
  co_return co_await mutateAll(ctx, *at, entry, std::move(pieces));
}

Task<Service::Locked> Service::lock(ChunkId chunk, const Mutation& m) {
  const bool clones = m.kind == Mutation::Kind::kClone;
  const bool two = clones && m.source != chunk;
  BlockRange changed = blocksOf(m.offset, m.length);
  Locked locked{chunks_.use(chunk), two ? chunks_.use(m.source) : ChunkTable::Ref(), {}, {}};
  if (!two) {
    // Within one chunk both ranges, and what lies between, in one step: a second lock could wait
    // behind somebody who waits for the first.
    if (clones) {
      const BlockRange read = blocksOf(m.sourceOffset, m.length);
      changed = {std::min(changed.from, read.from), std::max(changed.to, read.to)};
    }
    locked.targetLock = co_await locked.target->lock.lock(changed.from, changed.to, true);
    co_return locked;
  }
  const BlockRange read = blocksOf(m.sourceOffset, m.length);
  if (m.source < chunk)
    locked.sourceLock = co_await locked.source->lock.lock(read.from, read.to, false);
  locked.targetLock = co_await locked.target->lock.lock(changed.from, changed.to, true);
  if (chunk < m.source)
    locked.sourceLock = co_await locked.source->lock.lock(read.from, read.to, false);
  co_return locked;
}

Task<Result<OutMessage>> Service::clone(Context ctx, ChunkId target, Mutation what) {
  const ChunkId source = what.source;
  const uint64_t bytes = what.length;
  CO_TRY(co_await admit(ctx, Need::kPrimary, target));
  const Locked locked = co_await lock(target, what);
  auto at = recheck(ctx, Need::kPrimary, target);
  CO_TRY(at);
  CO_TRY(MapState::checkChunk(*at, ctx.target, source));
  for (ChunkId id : {source, target})
    if (chunks_.buried(id)) co_return fail(removedChunk(id));
  const ChunkTable::Ref& read = source == target ? locked.target : locked.source;
  if (ChunkTable::uncertain(*read, blocksOf(what.sourceOffset, what.length))) {
    ++probe_.refusedUncertain;
    co_return fail(Errc::kUnavailable, "a write here has not reached every replica of chunk " +
                                           std::to_string(source.value) + " yet; try again");
  }
  // Removed ids are not remembered for ever. Who asks knows the chunk from the MDS and asks again.
  auto there = store_.stat(source);
  CO_TRY(there);
  if (!*there) co_return fail(removedChunk(source));
  std::vector<Mutation> pieces;
  pieces.push_back(std::move(what));
  auto done = co_await mutateAll(ctx, *at, locked.target, std::move(pieces));
  if (done) probe_.bytesCloned += bytes;
  co_return done;
}

Task<Result<OutMessage>> Service::replicate(Context ctx, schema::Replicate::Reader request,
                                            Buffer payload, const Identity& sender) {
  ChunkId chunk;
  Mutation m;
  auto takeRange = [&](schema::Zero::Reader z, Mutation::Kind kind) {
    chunk = ChunkId{z.getChunk()};
    m.kind = kind;
    m.offset = z.getOffset();
    m.length = z.getLength();
  };
  Bytes crcs;
  switch (request.which()) {
    case schema::Replicate::WRITE: {
      auto w = request.getWrite();
      chunk = ChunkId{w.getChunk()};
      m.offset = w.getOffset();
      m.length = w.getLength();
      crcs = asBytes(w.getCrcs());
      break;
    }
    case schema::Replicate::ZERO:
      takeRange(request.getZero(), Mutation::Kind::kZero);
      break;
    case schema::Replicate::ALLOCATE:
      takeRange(request.getAllocate(), Mutation::Kind::kAllocate);
      break;
    case schema::Replicate::CLONE:
      CO_TRY(checkClone(request.getClone()));
      chunk = ChunkId{request.getClone().getTarget()};
      m = cloneOf(request.getClone());
      break;
    default:
      co_return fail(Errc::kNotSupported, "a mutation that this release does not know");
  }
  const ChunkVersion version{request.getVersion()};
  CO_TRY(checkRange(m.offset, m.length, true));
  if (m.kind == Mutation::Kind::kWrite) {
    CO_TRY(checkPayload(m.offset, m.length, payload, crcs));
    m.crcs = toCrcs(crcs);
    m.data = std::move(payload);
  }
  CO_TRY(co_await admit(ctx, Need::kMember, chunk));
  const Locked locked = co_await lock(chunk, m);
  auto at = recheck(ctx, Need::kMember, chunk);
  CO_TRY(at);
  const bool clones = m.kind == Mutation::Kind::kClone;
  if (clones) CO_TRY(MapState::checkChunk(*at, ctx.target, m.source));
  if (sender.role != schema::Hello::Role::OSD || sender.peer != at->group->osds.front().value ||
      at->group->osds.front() == map_.self())
    co_return fail(Errc::kStaleEpoch, "mutations come from the primary, osd." +
                                          std::to_string(at->group->osds.front().value) +
                                          ", in map epoch " + std::to_string(map_.epoch().value));
  if (chunks_.buried(chunk)) co_return fail(removedChunk(chunk));
  if (clones && chunks_.buried(m.source)) co_return fail(removedChunk(m.source));
  const uint64_t bytes = m.data.size();
  CO_TRY(co_await replicator_.apply(locked.target, std::move(m),
                                    {{ctx.target.pool, ctx.target.pg}, version, {}}));
  probe_.bytesReplicated += bytes;
  OutMessage out = reply(ctx.target);
  out.body<schema::OsdReply>().setVersion(version.value);
  co_return out;
}

Task<Result<OutMessage>> Service::remove(GroupId group, std::vector<ChunkId> chunks) {
  std::erase(chunks, ChunkId{});
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  // From here on nobody makes them anew; whoever is at work on them is waited for.
  for (ChunkId id : chunks) chunks_.bury(id);
  {
    std::vector<ChunkTable::Ref> refs;
    std::vector<RangeLock::Guard> guards;  // after refs: released first
    refs.reserve(chunks.size());
    guards.reserve(chunks.size());
    for (ChunkId id : chunks) {
      refs.push_back(chunks_.use(id));
      guards.push_back(co_await refs.back()->lock.lock(0, kBlocksPerChunk, true));
      chunks_.settleAll(refs.back(), {0, kBlocksPerChunk});
      refs.back()->lastKnown = false;
    }
    CO_TRY(co_await store_.remove(chunks, {group, {}, {}}));
  }
  OutMessage out;
  out.body<schema::OsdReply>().setNone();
  co_return out;
}

}  // namespace cairn::osd
