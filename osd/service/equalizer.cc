#include "osd/service/equalizer.h"

#include <algorithm>
#include <cstring>

#include "common/crc/crc32c.h"

namespace cairn::osd {

namespace {

bool isZero(Bytes block) {
  return block[0] == 0 && std::memcmp(block.data(), block.data() + 1, block.size() - 1) == 0;
}

}  // namespace

Result<uint32_t> endOf(Store& store, ChunkId chunk) {
  uint32_t end = 0;
  constexpr size_t kAtOnce = 1024;
  while (true) {
    auto more = store.extents(chunk, end, kAtOnce);
    TRY(more);
    if (!more->empty()) end = more->back().first + more->back().second;
    if (more->size() < kAtOnce || end >= kChunkSize) return end;
  }
}

std::vector<BlockHash> hashesOf(const ReadData& data, uint32_t blocks) {
  std::vector<BlockHash> hashes(blocks, kHoleHash);
  if (data.hole) return hashes;
  for (uint32_t i = 0; i < blocks; ++i) {
    const Bytes block = data.data.bytes().subspan(i * kBlockSize, kBlockSize);
    // Whether zeros are stored or not is not for a member to differ in.
    if (!isZero(block)) hashes[i] = hashOf(block);
  }
  return hashes;
}

Result<void> Equalizer::still(const GroupRef& group) const {
  if (group->over) return fail(Errc::kStaleEpoch, "not the primary any more");
  if (!map_.leased()) return fail(Errc::kUnavailable, "the lease is over");
  return {};
}

Task<Result<uint64_t>> Equalizer::send(const GroupRef& group, OsdId member, Mutation mutation,
                                       ChunkVersion version) {
  CO_TRY(still(group));
  const uint64_t bytes = mutation.data.size();
  // Says nothing of what is committed: the member is not done.
  CO_TRY(co_await members_.replicate(member, group->id, &mutation, version, {}));
  co_return bytes;
}

Task<Result<Equalizer::Progress>> Equalizer::compare(const GroupRef& group, ChunkId chunk,
                                                     OsdId member, BlockRange range) {
  const auto offset = static_cast<uint32_t>(range.from * kBlockSize);
  const uint32_t blocks = range.to - range.from;
  const auto length = static_cast<uint32_t>(blocks * kBlockSize);
  CO_TRY(still(group));
  auto info = store_.stat(chunk);
  CO_TRY(info);
  auto theirs = co_await members_.digest(member, group->id, chunk, offset, length);
  CO_TRY(theirs);
  auto ours = co_await store_.read(chunk, offset, length);
  CO_TRY(ours);
  co_return co_await differences(group, chunk, member, range, *theirs, *ours,
                                 *info ? (*info)->version : theirs->version);
}

Task<Result<Equalizer::Progress>> Equalizer::level(const GroupRef& group, ChunkId chunk,
                                                   OsdId member, BlockRange range,
                                                   const ReadData& ours, ChunkVersion version) {
  CO_TRY(still(group));
  auto theirs = co_await members_.digest(
      member, group->id, chunk, static_cast<uint32_t>(range.from * kBlockSize),
      static_cast<uint32_t>((range.to - range.from) * kBlockSize));
  CO_TRY(theirs);
  co_return co_await differences(group, chunk, member, range, *theirs, ours, version);
}

Task<Result<Equalizer::Progress>> Equalizer::differences(const GroupRef& group, ChunkId chunk,
                                                         OsdId member, BlockRange range,
                                                         const MemberDigest& theirs,
                                                         const ReadData& ours,
                                                         ChunkVersion version) {
  const auto offset = static_cast<uint32_t>(range.from * kBlockSize);
  const uint32_t blocks = range.to - range.from;
  // A member that has nothing there gets all that we have, whatever its hash.
  std::vector<BlockHash> hashes(blocks, kHoleHash);
  if (std::ranges::any_of(theirs.hashes, [](const BlockHash& h) { return h != kHoleHash; })) {
    hashes = hashesOf(ours, blocks);
  } else if (!ours.hole) {
    for (uint32_t i = 0; i < blocks; ++i)
      if (!isZero(ours.data.bytes().subspan(i * kBlockSize, kBlockSize))) hashes[i] = kDamagedHash;
  }
  Progress progress{0, false, theirs.end, theirs.exists ? theirs.version : ChunkVersion{}};
  for (uint32_t i = 0; i < blocks;) {
    if (hashes[i] == theirs.hashes[i]) {
      ++i;
      continue;
    }
    const bool hole = hashes[i] == kHoleHash;
    uint32_t to = i + 1;
    while (to < blocks && hashes[to] != theirs.hashes[to] && (hashes[to] == kHoleHash) == hole)
      ++to;
    Mutation m;
    m.kind = hole ? Mutation::Kind::kZero : Mutation::Kind::kWrite;
    m.chunk = chunk;
    m.offset = static_cast<uint32_t>(offset + i * kBlockSize);
    m.length = static_cast<uint32_t>((to - i) * kBlockSize);
    if (!hole) {
      m.data = ours.data.slice(i * kBlockSize, m.length);
      m.crcs.assign(ours.crcs.begin() + i, ours.crcs.begin() + to);
    }
    auto done = co_await send(group, member, std::move(m), version);
    CO_TRY(done);
    progress.sent += *done;
    progress.changed = true;
    i = to;
  }
  co_return progress;
}

Task<Result<Equalizer::Progress>> Equalizer::lose(const GroupRef& group, ChunkId chunk,
                                                  OsdId member, uint32_t block,
                                                  ChunkVersion version, Error why) {
  const auto offset = static_cast<uint32_t>(block * kBlockSize);
  auto theirs = co_await members_.digest(member, group->id, chunk, offset, kBlockSize);
  CO_TRY(theirs);
  Progress progress{0, false, theirs->end, theirs->exists ? theirs->version : ChunkVersion{}};
  if (theirs->hashes.front() == kDamagedHash) co_return progress;
  // What it has may be old, or the only good copy that is left: that is not for us to destroy.
  if (theirs->hashes.front() != kHoleHash) co_return fail(std::move(why));
  Mutation lost;
  lost.kind = Mutation::Kind::kLose;
  lost.chunk = chunk;
  lost.offset = offset;
  lost.length = kBlockSize;
  CO_TRY(co_await send(group, member, std::move(lost), version));
  progress.changed = true;
  co_return progress;
}

// Block by block: those that are lost here must be lost there too.
Task<Result<Equalizer::Progress>> Equalizer::compareDamaged(const GroupRef& group, ChunkId chunk,
                                                            OsdId member, BlockRange range) {
  Progress progress;
  for (uint32_t block = range.from; block < range.to; ++block) {
    auto one = co_await compare(group, chunk, member, {block, block + 1});
    if (!one && one.error().code == Errc::kCorrupt) {
      auto info = store_.stat(chunk);
      CO_TRY(info);
      one = co_await lose(group, chunk, member, block, *info ? (*info)->version : ChunkVersion{},
                          one.error());
    }
    CO_TRY(one);
    progress += *one;
  }
  co_return progress;
}

Task<Result<uint64_t>> Equalizer::range(GroupRef group, ChunkId chunk, OsdId member,
                                        BlockRange range) {
  uint64_t sent = 0;
  for (uint32_t from = range.from; from < range.to; from += kStretch) {
    const BlockRange stretch{from, std::min(range.to, from + kStretch)};
    auto some = co_await compare(group, chunk, member, stretch);
    if (!some && some.error().code == Errc::kCorrupt) {
      auto healed = co_await healer_.heal(group, chunk, stretch);
      if (!healed && healed.error().code != Errc::kCorrupt) co_return fail(healed.error());
      some = co_await compareDamaged(group, chunk, member, stretch);
    }
    CO_TRY(some);
    sent += some->sent;
  }
  co_return sent;
}

Task<Result<uint64_t>> Equalizer::chunk(GroupRef group, ChunkId chunk, OsdId member,
                                        Throttle* throttle) {
  auto entry = chunks_.use(chunk);
  uint64_t sent = 0;
  bool told = false;  // it has our number
  for (uint32_t from = 0;;) {
    std::optional<Throttle::Turn> turn;
    if (throttle != nullptr) turn.emplace(co_await throttle->turn());
    const BlockRange stretch{from, std::min<uint32_t>(from + kStretch, kBlocksPerChunk)};
    auto guard = co_await entry->lock.lock(stretch.from, stretch.to, false);
    auto info = store_.stat(chunk);
    CO_TRY(info);
    if (!*info) {
      guard.unlock();
      co_return co_await removeThere(group, entry, member);
    }
    auto some = co_await compare(group, chunk, member, stretch);
    if (!some && some.error().code == Errc::kCorrupt) {
      guard.unlock();
      guard = co_await entry->lock.lock(stretch.from, stretch.to, true);
      CO_TRY(still(group));
      auto healed = co_await healer_.heal(group, chunk, stretch);
      if (!healed && healed.error().code != Errc::kCorrupt) co_return fail(healed.error());
      some = co_await compareDamaged(group, chunk, member, stretch);
    }
    CO_TRY(some);
    sent += some->sent;
    told |= some->changed || some->theirVersion >= (*info)->version;
    auto ourEnd = endOf(store_, chunk);
    CO_TRY(ourEnd);
    from = stretch.to;
    if (uint64_t{from} * kBlockSize < std::max(*ourEnd, some->theirEnd)) continue;
    guard.unlock();
    if (!told) CO_TRY(co_await passVersion(group, entry, member));
    co_return sent;
  }
}

Task<Result<bool>> Equalizer::isNewer(GroupRef group, ChunkId chunk, OsdId member) {
  auto theirs = co_await members_.digest(member, group->id, chunk, 0, kBlockSize);
  CO_TRY(theirs);
  auto ours = store_.lastChange(chunk);
  CO_TRY(ours);
  const ChunkVersion known = *ours ? (*ours)->version : ChunkVersion{};
  co_return theirs->exists && theirs->version > known && !chunks_.buried(chunk);
}

// Under no number: until all of it has been taken the chunk is as old here as it was.
Task<Result<uint64_t>> Equalizer::takeStretch(const GroupRef& group, ChunkId chunk, OsdId member,
                                              uint32_t offset) {
  constexpr auto kLength = static_cast<uint32_t>(kStretch * kBlockSize);
  auto theirs = co_await members_.fetch(member, group->id, chunk, offset, kLength);
  CO_TRY(theirs);
  auto ours = co_await store_.read(chunk, offset, kLength);
  if (!ours && ours.error().code != Errc::kCorrupt) co_return fail(ours.error());
  if (ours && hashesOf(*ours, kStretch) == hashesOf(*theirs, kStretch)) co_return uint64_t{0};
  CO_TRY(still(group));
  const Stamp unchanged{group->id, {}, {}};
  if (theirs->hole)
    CO_TRY(co_await store_.zero(chunk, offset, kLength, unchanged));
  else
    CO_TRY(co_await store_.write(chunk, offset, std::move(theirs->data), std::move(theirs->crcs),
                                 unchanged));
  co_return uint64_t{kLength};
}

// All of it is here: the first block once more, with the number that the chunk has there.
Task<Result<void>> Equalizer::takeVersion(const GroupRef& group, ChunkId chunk,
                                          ChunkVersion version) {
  auto first = co_await store_.read(chunk, 0, kBlockSize);
  CO_TRY(first);
  CO_TRY(still(group));
  const Stamp stamp{group->id, version, {}};
  if (first->hole) co_return co_await store_.zero(chunk, 0, kBlockSize, stamp);
  co_return co_await store_.write(chunk, 0, std::move(first->data), std::move(first->crcs), stamp);
}

Task<Result<uint64_t>> Equalizer::takeNewer(GroupRef group, ChunkId chunk, OsdId member,
                                            Throttle& throttle) {
  auto newer = co_await isNewer(group, chunk, member);
  CO_TRY(newer);
  if (!*newer) co_return uint64_t{0};
  auto entry = chunks_.use(chunk);
  auto turn = co_await throttle.turn();
  // With all of it locked no change is under way that one of us has and the other one has not yet.
  auto guard = co_await entry->lock.lock(0, kBlocksPerChunk, true);
  CO_TRY(still(group));
  newer = co_await isNewer(group, chunk, member);
  CO_TRY(newer);
  if (!*newer) co_return uint64_t{0};
  uint64_t taken = 0;
  for (uint32_t offset = 0;; offset += static_cast<uint32_t>(kStretch * kBlockSize)) {
    auto theirs = co_await members_.digest(member, group->id, chunk, offset, kBlockSize);
    CO_TRY(theirs);
    auto ourEnd = endOf(store_, chunk);
    CO_TRY(ourEnd);
    if (offset >= std::max(*ourEnd, theirs->end)) {
      CO_TRY(co_await takeVersion(group, chunk, theirs->version));
      co_return taken;
    }
    auto some = co_await takeStretch(group, chunk, member, offset);
    CO_TRY(some);
    taken += *some;
  }
}

// We do not have the chunk. With all of it locked nobody is making it: so no mutation of it is
// committed but perhaps its removal, and they are not to have it either.
Task<Result<uint64_t>> Equalizer::removeThere(GroupRef group, const ChunkTable::Ref& chunk,
                                              OsdId member) {
  auto guard = co_await chunk->lock.lock(0, kBlocksPerChunk, false);
  CO_TRY(still(group));
  auto info = store_.stat(chunk.id());
  CO_TRY(info);
  if (*info) co_return fail(Errc::kBusyTryLater, "the chunk was made meanwhile");
  auto removal = store_.lastChange(chunk.id());
  CO_TRY(removal);
  auto theirs = co_await members_.digest(member, group->id, chunk.id(), 0, kBlockSize);
  CO_TRY(theirs);
  if (!theirs->exists && !*removal) co_return uint64_t{0};
  Mutation gone;
  gone.kind = Mutation::Kind::kRemove;
  gone.removed = {chunk.id()};
  co_return co_await send(group, member, std::move(gone),
                          *removal ? (*removal)->version : theirs->version);
}

// A member may be asked one day what changed: its history has this chunk's last change under our
// number, also if the bytes were equal before, or there are none.
Task<Result<void>> Equalizer::passVersion(GroupRef group, const ChunkTable::Ref& chunk,
                                          OsdId member) {
  auto guard = co_await chunk->lock.lock(0, 1, false);
  CO_TRY(still(group));
  auto info = store_.stat(chunk.id());
  CO_TRY(info);
  if (!*info) co_return Result<void>{};  // removed meanwhile, there too
  const ChunkVersion version = (*info)->version;
  auto theirs = co_await members_.digest(member, group->id, chunk.id(), 0, kBlockSize);
  CO_TRY(theirs);
  if (theirs->exists && theirs->version >= version) co_return Result<void>{};
  auto first = co_await store_.read(chunk.id(), 0, kBlockSize);
  // What is damaged is not sent; the chunk is looked at again one day.
  if (!first) co_return Result<void>{};
  co_return co_await touch(group, chunk.id(), member, std::move(*first), theirs->exists, version);
}

Task<Result<void>> Equalizer::touch(const GroupRef& group, ChunkId chunk, OsdId member,
                                    ReadData first, bool exists, ChunkVersion version) {
  Mutation m;
  m.chunk = chunk;
  m.length = kBlockSize;
  if (!first.hole) {
    m.data = std::move(first.data);
    m.crcs = std::move(first.crcs);
    CO_TRY(co_await send(group, member, std::move(m), version));
    co_return Result<void>{};
  }
  // A hole leaves no trace in a chunk that is not there; a block that comes and goes does.
  if (!exists) {
    Mutation block = m;
    block.data = buffers_.zeroed(kBlockSize);
    block.crcs = blockCrcs(0, block.data.bytes());
    CO_TRY(co_await send(group, member, std::move(block), version));
  }
  m.kind = Mutation::Kind::kZero;
  CO_TRY(co_await send(group, member, std::move(m), version));
  co_return Result<void>{};
}

}  // namespace cairn::osd
