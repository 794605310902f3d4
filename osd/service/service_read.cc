// The requests that change nothing.
#include <algorithm>

#include "common/crc/crc32c.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/request_checks.h"
#include "osd/service/service.h"

namespace cairn::osd {

namespace {
constexpr size_t kMaxListed = 4096;
constexpr size_t kMaxDamaged = 256;
}  // namespace

void fillRead(OutMessage& out, ReadData data) {
  auto r = out.body<schema::OsdReply>().initRead();
  r.setVersion(data.version.value);
  r.setHole(data.hole);
  if (data.hole) return;
  Bytes crcs = crcBytes(data.crcs);
  r.setCrcs(capnp::Data::Reader(crcs.data(), crcs.size()));
  out.addPayload(std::move(data.data));
}

Task<Result<OutMessage>> Service::read(Context ctx, ChunkId chunk, uint32_t offset,
                                       uint32_t length) {
  CO_TRY(checkRange(offset, length, true));
  if (length > kMaxIoBytes) co_return fail(Errc::kInvalid, "a read of more than 4 MiB");
  if (erasurePool(ctx) != nullptr) co_return co_await readStripes(ctx, chunk, offset, length);
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  auto entry = chunks_.use(chunk);
  const BlockRange range = blocksOf(offset, length);
  auto guard = co_await entry->lock.lock(range.from, range.to, false);
  auto served = recheck(ctx, Need::kPrimary, chunk);
  CO_TRY(served);
  auto data = co_await store_.read(chunk, offset, length);
  if (!data && data.error().code == Errc::kCorrupt) {
    guard.unlock();
    guard = co_await entry->lock.lock(range.from, range.to, true);
    served = recheck(ctx, Need::kPrimary, chunk);
    CO_TRY(served);
    CO_TRY(co_await healer_.heal(served->group, chunk, range));
    data = co_await store_.read(chunk, offset, length);
  }
  CO_TRY(data);
  OutMessage out = reply(ctx.target);
  fillRead(out, std::move(*data));
  probe_.bytesRead += length;
  co_return out;
}

Task<Result<OutMessage>> Service::extents(Context ctx, ChunkId chunk, uint32_t offset) {
  CO_TRY(checkRange(offset, 1, false));
  if (erasurePool(ctx) != nullptr) co_return co_await extentsOfStripes(ctx, chunk, offset);
  CO_TRY(co_await admit(ctx, Need::kPrimary, chunk));
  auto entry = chunks_.use(chunk);
  const BlockRange range{static_cast<uint32_t>(offset / kBlockSize), kBlocksPerChunk};
  auto guard = co_await entry->lock.lock(range.from, range.to, false);
  CO_TRY(recheck(ctx, Need::kPrimary, chunk));
  co_return answerExtents(ctx.target, chunk, offset);
}

Result<OutMessage> Service::answerExtents(const Target& target, ChunkId stored, uint32_t offset) {
  auto found = store_.extents(stored, offset, kMaxExtents);
  TRY(found);
  OutMessage out = reply(target);
  auto e = out.body<schema::OsdReply>().initExtents();
  auto list = e.initData(static_cast<uint32_t>(found->size()));
  for (uint32_t i = 0; i < found->size(); ++i) {
    list[i].setOffset((*found)[i].first);
    list[i].setLength((*found)[i].second);
  }
  const bool all = found->size() < kMaxExtents;
  e.setEnd(all ? static_cast<uint32_t>(kChunkSize) : found->back().first + found->back().second);
  return out;
}

Task<Result<OutMessage>> Service::stat(Context ctx, ChunkId chunk) {
  auto served = co_await admit(ctx, Need::kMember, chunk);
  CO_TRY(served);
  auto info = store_.stat(inStore(chunk, served->at.group->shardOf(map_.self())));
  CO_TRY(info);
  OutMessage out = reply(ctx.target);
  auto s = out.body<schema::OsdReply>().initStat();
  s.setExists(info->has_value());
  if (*info) {
    s.setVersion((*info)->version.value);
    s.setBlocks((*info)->blocks);
  }
  co_return out;
}

Result<OutMessage> Service::list(schema::Inventory::Reader what) {
  const size_t limit = std::clamp<size_t>(what.getLimit(), 1, kMaxListed);
  const ChunkId first{what.getAfter()};
  const uint8_t shard = what.getShard();
  auto found = store_.list(inStore(what.getStaged() ? staged(first) : first, shard), limit);
  TRY(found);
  const bool more = found->size() == limit;
  // In the order of their names in the store, those of one kind are neighbours.
  const size_t all = found->size();
  std::erase_if(*found, [&](const ListedChunk& c) {
    return shardOf(c.info.group) != shard || isStaged(c.id) != what.getStaged();
  });
  OutMessage out;
  auto l = out.body<schema::OsdReply>().initList();
  auto chunks = l.initChunks(static_cast<uint32_t>(found->size()));
  for (uint32_t i = 0; i < found->size(); ++i) {
    const ListedChunk& c = (*found)[i];
    chunks[i].setChunk(unstaged(onWire(c.id)).value);
    chunks[i].setVersion(c.info.version.value);
    chunks[i].setBlocks(c.info.blocks);
    chunks[i].setPool(c.info.group.pool.value);
    chunks[i].setPg(onWire(c.info.group).pg.value);
  }
  l.setMore(more && found->size() == all);
  return out;
}

Result<OutMessage> Service::damaged(schema::Inventory::Reader what) {
  const size_t limit = std::clamp<size_t>(what.getLimit(), 1, kMaxDamaged);
  const auto& all = scrubber_.damaged();
  auto at = all.upper_bound(ChunkId{what.getAfter()});
  const auto count = std::min<size_t>(limit, static_cast<size_t>(std::distance(at, all.end())));
  OutMessage out;
  auto reply = out.body<schema::OsdReply>().initDamaged();
  auto chunks = reply.initChunks(static_cast<uint32_t>(count));
  for (uint32_t i = 0; i < count; ++i, ++at) {
    const auto& [id, damage] = *at;
    chunks[i].setChunk(id.value);
    chunks[i].setPool(damage.group.pool.value);
    chunks[i].setPg(damage.group.pg.value);
    auto ranges = chunks[i].initRanges(static_cast<uint32_t>(damage.blocks.size()));
    for (uint32_t r = 0; r < damage.blocks.size(); ++r) {
      const BlockRange& blocks = damage.blocks[r];
      ranges[r].setOffset(static_cast<uint32_t>(blocks.from * kBlockSize));
      ranges[r].setLength(static_cast<uint32_t>((blocks.to - blocks.from) * kBlockSize));
    }
  }
  reply.setMore(at != all.end());
  return out;
}

// Says whether this OSD would serve.
Result<OutMessage> Service::ping() {
  if (!map_.leased())
    return fail(Errc::kUnavailable, "osd." + std::to_string(map_.self().value) + ": has no lease");
  OutMessage out;
  out.body<schema::OsdReply>().setNone();
  return out;
}

}  // namespace cairn::osd
