// What clients ask of a group of an erasure-coded pool.
#include <algorithm>
#include <bit>
#include <cstring>

#include "common/crc/crc32c.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/request_checks.h"
#include "osd/service/service.h"

namespace cairn::osd {

namespace {

// Data of one change, so that what each shard is sent fits into a message.
constexpr auto kMostBlocks = static_cast<uint32_t>(kMaxIoBytes / kBlockSize);

uint32_t bytesOf(uint32_t blocks) {
  return static_cast<uint32_t>(blocks * kBlockSize);
}

bool isDamage(const Error& e) {
  return e.code == Errc::kCorrupt || e.code == Errc::kIo;
}

// The part of a change that is within `piece`.
StripeWriter::Change cut(const StripeWriter::Change& all, BlockRange piece) {
  StripeWriter::Change part{piece, {}, {}, all.source};
  if (all.data.empty()) return part;
  const uint32_t from = piece.from - all.blocks.from, count = piece.to - piece.from;
  part.data = all.data.slice(bytesOf(from), bytesOf(count));
  part.crcs.assign(all.crcs.begin() + from, all.crcs.begin() + from + count);
  return part;
}

}  // namespace

struct Service::RowLock {
  ChunkTable::Ref chunk;
  RangeLock::Guard guard;
};

const Pool* Service::erasurePool(const Context& ctx) const {
  const Pool* pool = map_.map() ? map_.map()->pool(ctx.target.pool) : nullptr;
  return pool != nullptr && pool->erasureCoded() ? pool : nullptr;
}

// Admits the request and locks the rows that hold its blocks.
Task<Result<std::shared_ptr<Service::RowLock>>> Service::lockRows(const Context& ctx, ChunkId chunk,
                                                                  BlockRange blocks, bool exclusive,
                                                                  Served& served) {
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  const Pool* pool = erasurePool(ctx);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  const BlockRange rows = ShardLayout::of(*pool).rowsOf(blocks);
  auto lock = std::make_shared<RowLock>(chunks_.use(chunk), RangeLock::Guard());
  lock->guard = co_await lock->chunk->lock.lock(rows.from, rows.to, exclusive);
  auto now = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(now);
  served = std::move(*now);
  co_return lock;
}

// ---- Reading ----

ReadData Service::joined(const ShardLayout& layout, BlockRange blocks, const ShardRows& shards,
                         BlockRange rows) {
  ReadData out;
  out.hole = true;
  for (const auto& [shard, data] : shards) {
    out.version = std::max(out.version, data.version);
    if (shard < layout.data) out.hole &= data.hole;
  }
  if (out.hole) return out;
  out.data = env_.buffers.get(bytesOf(blocks.to - blocks.from));
  out.crcs.resize(blocks.to - blocks.from, crc32cZeroBlock());
  for (uint32_t block = blocks.from; block < blocks.to;) {
    // To the end of the unit.
    const uint32_t to = std::min(blocks.to, block - block % layout.unit + layout.unit);
    const uint32_t at = block - blocks.from, row = layout.rowOf(block) - rows.from;
    const ReadData& from = shards.at(layout.shardOf(block));
    uint8_t* into = out.data.data() + bytesOf(at);
    if (from.hole) {
      std::memset(into, 0, bytesOf(to - block));
    } else {
      std::memcpy(into, from.data.data() + bytesOf(row), bytesOf(to - block));
      std::copy_n(from.crcs.begin() + row, to - block, out.crcs.begin() + at);
    }
    block = to;
  }
  return out;
}

Task<Result<ReadData>> Service::readBlocks(GroupRef group, ChunkId chunk, BlockRange blocks) {
  const Pool* pool = shards_.pool(group->id);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  const ShardLayout layout = ShardLayout::of(*pool);
  const BlockRange rows = layout.rowsOf(blocks);
  const ShardSet wanted = layout.shardsOf(blocks);
  // What lies in one unit is asked of one shard, and passed on as it comes.
  if (std::popcount(wanted) == 1) {
    auto one = co_await shards_.direct(group, chunk, layout.shardOf(blocks.from), rows);
    if (one || isDamage(one.error())) co_return one;
  }
  auto decoded = co_await shards_.rows(group, chunk, wanted, rows);
  CO_TRY(decoded);
  if (decoded->damaged != 0) co_return fail(Errc::kCorrupt, "some shards are damaged");
  co_return joined(layout, blocks, decoded->rows, rows);
}

Task<Result<ReadData>> Service::readHealed(GroupRef group, ChunkId chunk, BlockRange blocks) {
  auto data = co_await readBlocks(group, chunk, blocks);
  if (data || !isDamage(data.error())) co_return data;
  const Pool* pool = shards_.pool(group->id);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  CO_TRY(co_await rebuilder_.heal(group, chunk, ShardLayout::of(*pool).rowsOf(blocks)));
  co_return co_await readBlocks(group, chunk, blocks);
}

Task<Result<OutMessage>> Service::readStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                              uint32_t length) {
  const BlockRange blocks = blocksOf(offset, length);
  Served served;
  auto lock = co_await lockRows(ctx, chunk, blocks, false, served);
  CO_TRY(lock);
  auto data = co_await readBlocks(served.group, chunk, blocks);
  if (!data && isDamage(data.error())) {
    lock->reset();
    lock = co_await lockRows(ctx, chunk, blocks, true, served);
    CO_TRY(lock);
    data = co_await readHealed(served.group, chunk, blocks);
  }
  CO_TRY(data);
  OutMessage out = reply(ctx.target);
  fillRead(out, std::move(*data));
  probe_.bytesRead += length;
  co_return out;
}

// Where the data shards have data. Of one that nobody holds it is taken to be where any other shard
// of the row has some: where all the others are holes, it is one.
Task<Result<OutMessage>> Service::extentsOfStripes(Context ctx, ChunkId chunk, uint32_t offset) {
  const auto first = static_cast<uint32_t>(offset / kBlockSize);
  Served served;
  auto lock = co_await lockRows(ctx, chunk, {first, kBlocksPerChunk}, false, served);
  CO_TRY(lock);
  const ShardLayout layout = ShardLayout::of(*erasurePool(ctx));
  const PlacementGroup& lists = *served.at.group;
  std::map<uint8_t, OsdId> holders;  // the primary rather than another
  for (OsdId id : lists.osds) holders.try_emplace(lists.shardOf(id), id);
  std::vector<uint8_t> ask, missing;
  for (uint8_t s = 0; s < layout.data; ++s) (holders.contains(s) ? ask : missing).push_back(s);
  if (!missing.empty())
    for (uint32_t s = layout.data; s < layout.shards(); ++s)
      if (holders.contains(static_cast<uint8_t>(s))) ask.push_back(static_cast<uint8_t>(s));
  if (ask.size() < layout.data)
    co_return fail(Errc::kUnavailable, "too few shards are in sync; try again");
  std::vector<bool> data(kBlocksPerChunk);
  const uint32_t fromRow = layout.rowsOf({first, kBlocksPerChunk}).from;
  for (uint8_t shard : ask) {
    const OsdId holder = holders.at(shard);
    auto found = holder == map_.self()
                     ? store_.extents(inStore(chunk, shard), bytesOf(fromRow), kBlocksPerChunk)
                     : co_await members_.extents(holder, served.group->id, chunk, bytesOf(fromRow));
    CO_TRY(found);
    for (auto [at, length] : *found)
      for (uint64_t row = at / kBlockSize; row < (uint64_t{at} + length) / kBlockSize; ++row) {
        auto mark = [&](uint8_t of) {
          const uint32_t block = layout.blockAt(of, static_cast<uint32_t>(row));
          if (block < kBlocksPerChunk) data[block] = true;
        };
        if (shard < layout.data) mark(shard);
        for (uint8_t of : missing) mark(of);
      }
  }
  std::vector<std::pair<uint32_t, uint32_t>> runs;
  uint32_t end = static_cast<uint32_t>(kBlocksPerChunk);
  for (uint32_t block = first; block < kBlocksPerChunk;) {
    uint32_t to = block;
    while (to < kBlocksPerChunk && data[to] == data[block]) ++to;
    if (data[block]) {
      runs.emplace_back(block, to);
      if (runs.size() == kMaxExtents) {
        end = to;
        break;
      }
    }
    block = to;
  }
  OutMessage out = reply(ctx.target);
  auto e = out.body<schema::OsdReply>().initExtents();
  auto list = e.initData(static_cast<uint32_t>(runs.size()));
  for (uint32_t i = 0; i < runs.size(); ++i) {
    const uint32_t from = std::max(bytesOf(runs[i].first), offset);
    list[i].setOffset(from);
    list[i].setLength(bytesOf(runs[i].second) - from);
  }
  e.setEnd(bytesOf(end));
  co_return out;
}

// ---- Changing ----

// Pieces lie in different stripes, so they run at once; each is whole or not at all.
Task<Result<OutMessage>> Service::changeAll(Context ctx, Served served, ChunkId chunk,
                                            std::vector<StripeWriter::Change> changes, Held lock) {
  const ShardLayout layout = ShardLayout::of(*erasurePool(ctx));
  auto allowed = [&]() -> Result<void> {
    auto now = recheck(ctx, Need::kPrimary, std::nullopt);
    TRY(now);
    if (now->group != served.group) return fail(Errc::kUnavailable, "the group began anew");
    return {};
  };
  std::vector<Task<Result<ChunkVersion>>> tasks;
  for (const StripeWriter::Change& change : changes) {
    const uint32_t most =
        change.data.empty() ? static_cast<uint32_t>(kBlocksPerChunk) : kMostBlocks;
    for (BlockRange piece : layout.pieces(change.blocks, most))
      tasks.push_back(stripes_.change(served.group, chunk, cut(change, piece), allowed, lock));
  }
  changes.clear();
  ChunkVersion version;
  for (auto& done : co_await whenAll(env_.reactor, std::move(tasks))) {
    CO_TRY(done);
    version = std::max(version, *done);
  }
  OutMessage out = reply(ctx.target);
  out.body<schema::OsdReply>().setVersion(version.value);
  co_return out;
}

Task<Result<OutMessage>> Service::writeStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                               uint32_t length, Buffer payload, Bytes crcs) {
  Served served;
  auto lock = co_await lockRows(ctx, chunk, blocksOf(offset, length), true, served);
  CO_TRY(lock);
  if (chunks_.buried(chunk)) co_return fail(Errc::kStale, "the chunk was removed");
  const BlockReader stored = [&](uint32_t at) {
    return readHealed(served.group, chunk, blocksOf(at, kBlockSize));
  };
  auto blocks = co_await completeBlocks(env_, stored, offset, std::move(payload), crcs);
  CO_TRY(blocks);
  std::vector<StripeWriter::Change> changes;
  changes.push_back(
      {blocksOf(offset, length), std::move(blocks->data), std::move(blocks->crcs), {}});
  auto done =
      co_await changeAll(ctx, std::move(served), chunk, std::move(changes), std::move(*lock));
  if (done) probe_.bytesWritten += length;
  co_return done;
}

// A stripe at whose edge a block is zeroed in part is written, whole stripes between become holes.
Task<Result<OutMessage>> Service::zeroStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                              uint32_t length) {
  const BlockRange blocks = blocksOf(offset, length);
  Served served;
  auto lock = co_await lockRows(ctx, chunk, blocks, true, served);
  CO_TRY(lock);
  if (chunks_.buried(chunk)) co_return fail(Errc::kStale, "the chunk was removed");
  const BlockReader stored = [&](uint32_t at) {
    return readHealed(served.group, chunk, blocksOf(at, kBlockSize));
  };
  auto edges = co_await zeroEdges(env_, stored, offset, length);
  CO_TRY(edges);
  const uint32_t stripe = ShardLayout::of(*erasurePool(ctx)).stripe();
  std::vector<StripeWriter::Change> changes;
  auto add = [&](uint32_t from, uint32_t to) {
    StripeWriter::Change change{{from, to}, {}, {}, {}};
    for (const WholeBlocks& edge : *edges) {
      const auto at = static_cast<uint32_t>(edge.offset / kBlockSize);
      if (at < from || at >= to) continue;
      if (change.data.empty()) {
        change.data = env_.buffers.zeroed(bytesOf(to - from));
        change.crcs.assign(to - from, crc32cZeroBlock());
      }
      std::memcpy(change.data.data() + bytesOf(at - from), edge.data.data(), kBlockSize);
      change.crcs[at - from] = edge.crcs.front();
    }
    changes.push_back(std::move(change));
  };
  for (uint32_t from = blocks.from; from < blocks.to;) {
    const uint32_t stripeEnd = roundDown(from, stripe) + stripe;
    const auto lastStripe = static_cast<uint32_t>(roundDown(blocks.to - 1, stripe));
    // The first and the last stripe by themselves: they may have edges.
    const uint32_t to = from == blocks.from || from >= lastStripe
                            ? std::min<uint32_t>(stripeEnd, blocks.to)
                            : lastStripe;
    add(from, to);
    from = to;
  }
  co_return co_await changeAll(ctx, std::move(served), chunk, std::move(changes), std::move(*lock));
}

// Whole stripes are cloned on each shard; what is left of others at the edges is copied.
Task<Result<OutMessage>> Service::cloneStripes(Context ctx, Mutation what) {
  const ChunkId source = what.source, target = what.chunk;
  if (source == target || what.sourceOffset != what.offset)
    co_return fail(Errc::kNotSupported,
                   "in an erasure-coded pool only the same place of another chunk is cloned");
  const BlockRange blocks = blocksOf(what.offset, what.length);
  CO_TRY(co_await admit(ctx, Need::kPrimary, target));
  const Pool* pool = erasurePool(ctx);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  const ShardLayout layout = ShardLayout::of(*pool);
  const BlockRange rows = layout.rowsOf(blocks);
  auto lock = std::make_shared<Locked>();
  for (ChunkId id : {std::min(source, target), std::max(source, target)}) {
    lock->chunks.push_back(chunks_.use(id));
    lock->guards.push_back(
        co_await lock->chunks.back()->lock.lock(rows.from, rows.to, id == target));
  }
  auto served = recheck(ctx, Need::kPrimary, target);
  CO_TRY(served);
  CO_TRY(MapState::checkChunk(served->at, ctx.target, source));
  // Removed ids are not remembered for ever. Who asks knows the chunk from the MDS and asks again.
  auto there = co_await rebuilder_.exists(served->group, source);
  CO_TRY(there);
  if (!*there || chunks_.buried(source) || chunks_.buried(target))
    co_return fail(Errc::kStale, "a chunk was removed, or nothing was ever written to the source");
  std::vector<StripeWriter::Change> changes;
  for (BlockRange piece : layout.pieces(blocks, kBlocksPerChunk)) {
    StripeWriter::Change change{piece, {}, {}, {}};
    if (layout.wholeStripes(piece)) {
      change.source = source;
    } else {
      auto data = co_await readBlocks(served->group, source, piece);
      CO_TRY(data);
      change.data = std::move(data->data);
      change.crcs = std::move(data->crcs);
    }
    changes.push_back(std::move(change));
  }
  auto done = co_await changeAll(ctx, std::move(*served), target, std::move(changes), lock);
  if (done) probe_.bytesCloned += what.length;
  co_return done;
}

Task<Result<OutMessage>> Service::allocateStripes(Context ctx, ChunkId chunk, BlockRange blocks) {
  Served served;
  auto lock = co_await lockRows(ctx, chunk, blocks, true, served);
  CO_TRY(lock);
  if (chunks_.buried(chunk)) co_return fail(Errc::kStale, "the chunk was removed");
  CO_TRY(co_await stripes_.allocate(served.group, chunk, blocks));
  OutMessage out = reply(ctx.target);
  out.body<schema::OsdReply>().setVersion(0);
  co_return out;
}

}  // namespace cairn::osd
