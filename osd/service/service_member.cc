// What the primary of a group asks of this OSD as another member; digests also administrators.
#include <algorithm>
#include <cstring>

#include "osd/service/erasure/shard_ids.h"
#include "osd/service/request_checks.h"
#include "osd/service/service.h"

namespace cairn::osd {

namespace {
constexpr uint32_t kMaxChanges = 4096;
}

Result<void> Service::checkPrimary(const Placement& at, const Identity& sender) const {
  const OsdId primary = at.group->osds.empty() ? OsdId{} : at.group->osds.front();
  if (sender.role == schema::Hello::Role::OSD && sender.peer == primary.value &&
      primary != map_.self())
    return {};
  return fail(Errc::kStaleEpoch, "this is for the primary to ask, osd." +
                                     std::to_string(primary.value) + ", in map epoch " +
                                     std::to_string(map_.epoch().value));
}

Task<Result<OutMessage>> Service::replicate(Context ctx, schema::Replicate::Reader request,
                                            Buffer payload, Identity sender) {
  auto m = parseMutation(request);
  CO_TRY(m);
  if (m->kind == Mutation::Kind::kWrite) {
    const Bytes crcs = asBytes(request.getWrite().getCrcs());
    CO_TRY(checkPayload(m->offset, m->length, payload, crcs));
    m->crcs = toCrcs(crcs);
    m->data = std::move(payload);
  }
  const Stamp stamp{{ctx.target.pool, ctx.target.pg},
                    ChunkVersion{request.getVersion()},
                    ChunkVersion{request.getCommitted()}};
  if (stamp.committed) throttle_.noteMember();  // it is no recovery
  CO_TRY(co_await admit(ctx, Need::kMember, std::nullopt));
  const Locked locked = co_await lock(*m);
  auto served = recheck(ctx, Need::kMember, std::nullopt);
  CO_TRY(served);
  for (const ChunkTable::Ref& chunk : locked.chunks)
    CO_TRY(MapState::checkChunk(served->at, ctx.target, unstaged(chunk.id())));
  CO_TRY(checkPrimary(served->at, sender));
  const uint64_t bytes = m->data.size();
  const uint8_t shard = served->at.group->shardOf(map_.self());
  CO_TRY(co_await replicator_.apply(std::move(*m), stamp, shard));
  probe_.bytesReplicated += bytes;
  OutMessage out = reply(ctx.target);
  out.body<schema::OsdReply>().setVersion(stamp.version.value);
  co_return out;
}

Task<Result<OutMessage>> Service::changes(Context ctx, Changed after, uint32_t limit,
                                          Identity sender) {
  auto served = co_await admit(ctx, Need::kMember, std::nullopt);
  CO_TRY(served);
  CO_TRY(checkPrimary(served->at, sender));
  const GroupId group{ctx.target.pool, ctx.target.pg};
  co_await replicator_.applied(group);
  limit = std::clamp<uint32_t>(limit, 1, kMaxChanges);
  const uint8_t shard = served->at.group->shardOf(map_.self());
  auto state = store_.groupState(inStore(group, shard));
  CO_TRY(state);
  after.chunk = inStore(after.chunk, shard);
  auto found = store_.changes(inStore(group, shard), after, limit);
  CO_TRY(found);
  OutMessage out = reply(ctx.target);
  auto r = out.body<schema::OsdReply>().initChanges();
  r.setCommitted(state->committed.value);
  r.setLast(state->last.value);
  r.setTrimmed(state->trimmed.value);
  auto list = r.initChanges(static_cast<uint32_t>(found->size()));
  for (uint32_t i = 0; i < found->size(); ++i) {
    list[i].setChunk(onWire((*found)[i].chunk).value);
    list[i].setVersion((*found)[i].version.value);
    list[i].setRemoved((*found)[i].removed);
  }
  r.setMore(found->size() == limit);
  co_return out;
}

Task<Result<Service::MemberRange>> Service::lockForRead(const Context& ctx, ChunkId chunk,
                                                        uint32_t offset, uint32_t length,
                                                        Identity sender, bool admins) {
  CO_TRY(checkRange(offset, length, true));
  if (length > kMaxIoBytes) co_return fail(Errc::kInvalid, "more than 4 MiB at once");
  CO_TRY(co_await admit(ctx, Need::kMember, chunk));
  const BlockRange range = blocksOf(offset, length);
  MemberRange held{chunks_.use(chunk), {}, {}};
  held.guard = co_await held.chunk->lock.lock(range.from, range.to, false);
  auto served = recheck(ctx, Need::kMember, chunk);
  CO_TRY(served);
  if (!admins || sender.role != schema::Hello::Role::ADMIN)
    CO_TRY(checkPrimary(served->at, sender));
  held.stored = inStore(chunk, served->at.group->shardOf(map_.self()));
  co_return Result<MemberRange>(std::move(held));
}

Task<Result<OutMessage>> Service::digest(Context ctx, ChunkId chunk, uint32_t offset,
                                         uint32_t length, Identity sender) {
  // A check of the whole asks it, too.
  auto held = co_await lockForRead(ctx, chunk, offset, length, sender, true);
  CO_TRY(held);
  const BlockRange range = blocksOf(offset, length);
  auto info = store_.stat(held->stored);
  CO_TRY(info);
  auto end = endOf(store_, held->stored);
  CO_TRY(end);
  std::vector<BlockHash> hashes;
  auto data = co_await store_.read(held->stored, offset, length);
  if (data) {
    hashes = hashesOf(*data, range.to - range.from);
  } else if (data.error().code == Errc::kCorrupt) {
    // Block by block: one that is damaged says nothing of the others.
    for (uint32_t block = range.from; block < range.to; ++block) {
      auto one = co_await store_.read(held->stored, static_cast<uint32_t>(block * kBlockSize),
                                      static_cast<uint32_t>(kBlockSize));
      hashes.push_back(one ? hashesOf(*one, 1).front() : kDamagedHash);
    }
  } else {
    co_return fail(data.error());
  }
  OutMessage out = reply(ctx.target);
  auto r = out.body<schema::OsdReply>().initDigest();
  r.setExists(info->has_value());
  if (*info) r.setVersion((*info)->version.value);
  r.setEnd(*end);
  auto bytes = r.initHashes(static_cast<uint32_t>(hashes.size() * sizeof(BlockHash)));
  std::memcpy(bytes.begin(), hashes.data(), bytes.size());
  co_return out;
}

Task<Result<OutMessage>> Service::fetch(Context ctx, ChunkId chunk, uint32_t offset,
                                        uint32_t length, Identity sender) {
  auto held = co_await lockForRead(ctx, chunk, offset, length, sender, false);
  CO_TRY(held);
  auto data = co_await store_.read(held->stored, offset, length);
  CO_TRY(data);
  OutMessage out = reply(ctx.target);
  fillRead(out, std::move(*data));
  co_return out;
}

Task<Result<OutMessage>> Service::stagedOps(Context ctx, ChunkId chunk, Identity sender) {
  auto served = co_await admit(ctx, Need::kMember, chunk);
  CO_TRY(served);
  CO_TRY(checkPrimary(served->at, sender));
  const ChunkId stored = inStore(staged(chunk), served->at.group->shardOf(map_.self()));
  co_await replicator_.applied({ctx.target.pool, ctx.target.pg});
  auto ops = co_await stagedIn(store_, stored, chunk);
  CO_TRY(ops);
  auto empty = store_.isHole(stored, 0, static_cast<uint32_t>(kChunkSize));
  CO_TRY(empty);
  CO_TRY(recheck(ctx, Need::kMember, chunk));
  OutMessage out = reply(ctx.target);
  auto r = out.body<schema::OsdReply>().initStaged();
  r.setAny(!*empty);
  auto list = r.initOps(static_cast<uint32_t>(ops->size()));
  for (uint32_t i = 0; i < ops->size(); ++i) {
    const StagedOp& op = (*ops)[i];
    list[i].setNumber(op.number.value);
    list[i].setFromRow(op.rows.from);
    list[i].setToRow(op.rows.to);
    list[i].setShards(op.shards);
    list[i].setSlot(op.slot);
    list[i].setZero(op.zero);
    list[i].setSource(op.source.value);
  }
  co_return out;
}

Task<Result<OutMessage>> Service::shardExtents(Context ctx, ChunkId chunk, uint32_t offset,
                                               Identity sender) {
  CO_TRY(checkRange(offset, 1, false));
  auto served = co_await admit(ctx, Need::kMember, chunk);
  CO_TRY(served);
  CO_TRY(checkPrimary(served->at, sender));
  const ChunkId stored = inStore(chunk, served->at.group->shardOf(map_.self()));
  co_return answerExtents(ctx.target, stored, offset);
}

}  // namespace cairn::osd
