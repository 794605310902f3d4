#include "osd/service/erasure/shard_rebuilder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "common/crc/crc32c.h"
#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"

namespace cairn::osd {

namespace {

// A turn reads from several members and writes to one.
constexpr int kTurnWeight = 3;

Error ended() {
  return Error(Errc::kStaleEpoch, "not the primary any more");
}

}  // namespace

// ---- What is there ----

Task<Result<MemberDigest>> ShardRebuilder::first(GroupRef group, ChunkId chunk, OsdId member) {
  if (member != map_.self())
    co_return co_await members_.digest(member, group->id, chunk, 0, kBlockSize);
  const ChunkId stored = inStore(chunk, groups_.lists(group->id)->shardOf(member));
  auto info = store_.stat(stored);
  CO_TRY(info);
  auto end = endOf(store_, stored);
  CO_TRY(end);
  co_return MemberDigest{info->has_value(), *info ? (*info)->version : ChunkVersion{}, *end, {}};
}

Task<Result<ShardRebuilder::Survey>> ShardRebuilder::survey(GroupRef group, ChunkId chunk,
                                                            OsdId without) {
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr) co_return fail(ended());
  std::vector<Task<Result<MemberDigest>>> asks;
  for (OsdId id : lists->osds)
    if (id != without) asks.push_back(first(group, chunk, id));
  Survey all;
  for (auto& answer : co_await whenAll(env_.reactor, std::move(asks))) {
    CO_TRY(answer);
    all.exists |= answer->exists;
    all.version = std::max(all.version, answer->version);
    all.end = std::max(all.end, answer->end);
  }
  co_return all;
}

Task<Result<bool>> ShardRebuilder::exists(GroupRef group, ChunkId chunk) {
  auto known = co_await survey(group, chunk, {});
  CO_TRY(known);
  co_return known->exists;
}

// ---- A member that joins ----

// What the member's shard holds: from another one in sync who holds it too, or decoded.
Task<Result<ReadData>> ShardRebuilder::expected(const GroupRef& group, ChunkId chunk, OsdId member,
                                                BlockRange rows) {
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr) co_return fail(ended());
  const uint8_t shard = lists->shardOf(member);
  auto decoded = co_await reader_.rows(group, chunk, ShardSet{1} << shard, rows);
  CO_TRY(decoded);
  co_return std::move(decoded->rows.at(shard));
}

// Row by row: those that cannot be made any more are lost there too.
Task<Result<Equalizer::Progress>> ShardRebuilder::levelDamaged(GroupRef group, ChunkId chunk,
                                                               OsdId member, BlockRange rows,
                                                               ChunkVersion version) {
  Equalizer::Progress all;
  for (uint32_t row = rows.from; row < rows.to; ++row) {
    const BlockRange one{row, row + 1};
    auto good = co_await expected(group, chunk, member, one);
    if (!good && good.error().code != Errc::kCorrupt) co_return fail(good.error());
    auto some = good ? co_await equalizer_.level(group, chunk, member, one, *good, version)
                     : co_await equalizer_.lose(group, chunk, member, row, version, good.error());
    CO_TRY(some);
    all += *some;
  }
  co_return all;
}

Task<Result<uint64_t>> ShardRebuilder::chunk(GroupRef group, ChunkId chunk, OsdId member,
                                             Throttle* throttle) {
  auto entry = chunks_.use(chunk);
  auto known = co_await survey(group, chunk, member);
  CO_TRY(known);
  if (!known->exists) co_return co_await removeThere(group, chunk, member);
  uint64_t sent = 0;
  bool told = false;  // it has our number
  ChunkVersion theirs;
  bool exists = false;
  for (uint32_t from = 0;;) {
    std::optional<Throttle::Turn> turn;
    if (throttle != nullptr) turn.emplace(co_await throttle->turn(kTurnWeight));
    const BlockRange rows{from, from + kStretch};
    auto guard = co_await entry->lock.lock(rows.from, rows.to, false);
    // Perhaps it is being removed. If that fails it stays.
    if (chunks_.buried(chunk)) {
      auto now = co_await survey(group, chunk, member);
      CO_TRY(now);
      if (!now->exists) {
        guard.unlock();
        co_return co_await removeThere(group, chunk, member);
      }
    }
    auto good = co_await expected(group, chunk, member, rows);
    if (!good && good.error().code == Errc::kCorrupt) {
      guard.unlock();
      guard = co_await entry->lock.lock(rows.from, rows.to, true);
      (void)co_await heal(group, chunk, rows);
      good = co_await expected(group, chunk, member, rows);
    }
    auto some = good ? co_await equalizer_.level(group, chunk, member, rows, *good, known->version)
                     : co_await levelDamaged(group, chunk, member, rows, known->version);
    CO_TRY(some);
    sent += some->sent;
    theirs = std::max(theirs, some->theirVersion);
    exists |= some->changed || some->theirVersion != ChunkVersion{};
    told |= some->changed || some->theirVersion >= known->version;
    from = rows.to;
    if (uint64_t{from} * kBlockSize < std::max(known->end, some->theirEnd)) continue;
    guard.unlock();
    break;
  }
  if (told) co_return sent;
  // A member may be asked one day what changed: its history has the chunk's number.
  auto guard = co_await entry->lock.lock(0, 1, false);
  if (chunks_.buried(chunk)) {
    auto now = co_await survey(group, chunk, member);
    CO_TRY(now);
    if (!now->exists) co_return sent;
  }
  auto good = co_await expected(group, chunk, member, {0, 1});
  CO_TRY(good);
  CO_TRY(co_await equalizer_.touch(group, chunk, member, std::move(*good), exists, known->version));
  co_return sent;
}

// Nobody in sync has it. With all of it locked nobody is making it.
Task<Result<uint64_t>> ShardRebuilder::removeThere(GroupRef group, ChunkId chunk, OsdId member) {
  auto entry = chunks_.use(chunk);
  auto guard = co_await entry->lock.lock(0, kBlocksPerChunk, false);
  auto known = co_await survey(group, chunk, member);
  CO_TRY(known);
  if (known->exists) co_return fail(Errc::kBusyTryLater, "the chunk was made meanwhile");
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr) co_return fail(ended());
  auto removal = store_.lastChange(inStore(chunk, lists->shardOf(map_.self())));
  CO_TRY(removal);
  auto theirs = co_await members_.digest(member, group->id, chunk, 0, kBlockSize);
  CO_TRY(theirs);
  if (!theirs->exists && !*removal) co_return uint64_t{0};
  Mutation gone;
  gone.kind = Mutation::Kind::kRemove;
  gone.removed = {chunk, staged(chunk)};
  const ChunkVersion number = *removal ? (*removal)->version : theirs->version;
  CO_TRY(co_await members_.replicate(member, group->id, &gone, number, {}));
  co_return uint64_t{0};
}

// ---- Damage ----

Task<Result<uint64_t>> ShardRebuilder::writeBlocks(const GroupRef& group, ChunkId chunk,
                                                   uint8_t shard, BlockRange rows,
                                                   const ReadData& data) {
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr) co_return fail(ended());
  Mutation m;
  m.kind = data.hole ? Mutation::Kind::kZero : Mutation::Kind::kWrite;
  m.chunk = chunk;
  m.offset = static_cast<uint32_t>(rows.from * kBlockSize);
  m.length = static_cast<uint32_t>((rows.to - rows.from) * kBlockSize);
  m.data = data.data;
  m.crcs = data.crcs;
  std::vector<OsdId> holders;
  for (OsdId id : lists->osds)
    if (lists->shardOf(id) == shard) holders.push_back(id);
  for (OsdId id : holders) {
    // No new number: what the chunk holds does not change.
    CO_TRY(co_await replicator_.send(group, id, shard, m, {}, {}));
    env_.log.warning(
        "a damaged block was written anew",
        {{"chunk", chunk.value}, {"shard", shard}, {"row", rows.from}, {"osd", id.value}});
  }
  probe_.healed += rows.to - rows.from;
  co_return rows.to - rows.from;
}

Task<Result<uint64_t>> ShardRebuilder::heal(GroupRef group, ChunkId chunk, BlockRange rows) {
  const ShardSet held = reader_.held(group);
  auto read = co_await reader_.rows(group, chunk, held, rows);
  if (read && read->damaged == 0) co_return uint64_t{0};
  if (!read && read.error().code != Errc::kCorrupt) co_return fail(read.error());
  if (rows.to - rows.from > 1) {
    // Down to the rows that are damaged.
    const uint32_t middle = rows.from + (rows.to - rows.from) / 2;
    auto low = co_await heal(group, chunk, {rows.from, middle});
    auto high = co_await heal(group, chunk, {middle, rows.to});
    CO_TRY(low);
    CO_TRY(high);
    co_return *low + *high;
  }
  if (!read) {
    ++probe_.unhealed;
    env_.log.error("a row is damaged on more shards than can be rebuilt",
                   {{"chunk", chunk.value}, {"row", rows.from}});
    co_return fail(read.error());
  }
  uint64_t written = 0;
  for (const auto& [shard, data] : read->rows) {
    if ((read->damaged & ShardSet{1} << shard) == 0) continue;
    auto done = co_await writeBlocks(group, chunk, shard, rows, data);
    CO_TRY(done);
    written += *done;
  }
  co_return written;
}

// Whether the shards of `rows` that somebody holds are words of the code: each that `sources` do
// not contain is made from these and compared.
bool ShardRebuilder::agree(const ShardLayout& l, const ShardRows& rows, ShardSet shards,
                           uint32_t row) {
  std::vector<const uint8_t*> from(l.shards(), nullptr);
  std::vector<uint8_t*> into(l.shards(), nullptr);
  const Buffer zeros = env_.buffers.zeroed(kBlockSize);
  ShardSet sources = 0, rest = 0;
  for (const auto& [shard, data] : rows) {
    if ((shards & ShardSet{1} << shard) == 0) continue;
    (std::popcount(sources) < static_cast<int>(l.data) ? sources : rest) |= ShardSet{1} << shard;
    from[shard] = data.hole ? zeros.data() : data.data.data() + row * kBlockSize;
  }
  const Buffer made = env_.buffers.get(l.shards() * kBlockSize);
  for (uint8_t s = 0; s < l.shards(); ++s) into[s] = made.data() + s * kBlockSize;
  if (!reader_.code(l).reconstruct(from, sources, into, rest, kBlockSize)) return true;
  for (uint8_t s = 0; s < l.shards(); ++s)
    if ((rest & ShardSet{1} << s) != 0 && std::memcmp(from[s], into[s], kBlockSize) != 0)
      return false;
  return true;
}

// The first row from `from` on whose blocks are all intact and yet do not belong together.
Task<Result<std::optional<uint32_t>>> ShardRebuilder::firstWrong(GroupRef group, ChunkId chunk,
                                                                 BlockRange rows) {
  const Pool* pool = reader_.pool(group->id);
  if (group->over || pool == nullptr) co_return fail(ended());
  const ShardLayout l = ShardLayout::of(*pool);
  const ShardSet held = reader_.held(group);
  auto read = co_await reader_.rows(group, chunk, held, rows);
  CO_TRY(read);
  std::optional<uint32_t> wrong;
  if (std::ranges::all_of(read->rows, [](const auto& r) { return r.second.hole; })) co_return wrong;
  for (uint32_t row = 0; row < rows.to - rows.from && !wrong; ++row)
    if (!agree(l, read->rows, read->read, row)) wrong = rows.from + row;
  co_return wrong;
}

// One shard is not what it should be, although its checksums are right: the one without which the
// others agree. With fewer than two others beyond what is needed nobody can tell which.
Task<Result<uint64_t>> ShardRebuilder::mendRow(GroupRef group, ChunkId chunk, uint32_t row) {
  const Pool* pool = reader_.pool(group->id);
  if (group->over || pool == nullptr) co_return fail(ended());
  const ShardLayout l = ShardLayout::of(*pool);
  const ShardSet held = reader_.held(group);
  const BlockRange rows{row, row + 1};
  auto read = co_await reader_.rows(group, chunk, held, rows);
  CO_TRY(read);
  if (read->read != held) co_return fail(Errc::kUnavailable, "not all shards can be read now");
  std::vector<uint8_t> suspects;
  if (std::popcount(held) >= static_cast<int>(l.data) + 2)
    for (uint8_t s = 0; s < l.shards(); ++s)
      if ((held & ShardSet{1} << s) != 0 && agree(l, read->rows, held & ~(ShardSet{1} << s), 0))
        suspects.push_back(s);
  if (suspects.size() != 1) {
    ++probe_.unhealed;
    env_.log.error("the shards of a row do not belong together, and none is certainly wrong",
                   {{"chunk", chunk.value}, {"row", row}});
    co_return fail(Errc::kCorrupt, "row " + std::to_string(row) + " of chunk " +
                                       std::to_string(chunk.value) +
                                       ": its shards do not belong together");
  }
  const ShardSet wrong = ShardSet{1} << suspects.front();
  auto right = co_await reader_.rows(group, chunk, wrong, rows, wrong);
  CO_TRY(right);
  co_return co_await writeBlocks(group, chunk, suspects.front(), rows,
                                 right->rows.at(suspects.front()));
}

Task<Result<uint64_t>> ShardRebuilder::mend(GroupRef group, ChunkId chunk, BlockRange rows) {
  auto written = co_await heal(group, chunk, rows);
  CO_TRY(written);
  for (BlockRange rest = rows; rest.from < rest.to;) {
    auto wrong = co_await firstWrong(group, chunk, rest);
    CO_TRY(wrong);
    if (!*wrong) break;
    auto mended = co_await mendRow(group, chunk, **wrong);
    CO_TRY(mended);
    *written += *mended;
    rest.from = **wrong + 1;
  }
  co_return written;
}

Task<Result<uint64_t>> ShardRebuilder::scrub(GroupRef group, ChunkId chunk, Throttle& throttle) {
  auto entry = chunks_.use(chunk);
  auto known = co_await survey(group, chunk, {});
  CO_TRY(known);
  uint64_t written = 0;
  Result<void> outcome;
  for (uint32_t from = 0; uint64_t{from} * kBlockSize < known->end; from += kStretch) {
    auto turn = co_await throttle.turn();
    const BlockRange rows{from, from + kStretch};
    auto guard = co_await entry->lock.lock(rows.from, rows.to, false);
    if (chunks_.buried(chunk)) co_return written;
    auto read = co_await reader_.rows(group, chunk, reader_.held(group), rows);
    if (!read && read.error().code != Errc::kCorrupt) co_return fail(read.error());
    auto wrong = read && read->damaged == 0 ? co_await firstWrong(group, chunk, rows)
                                            : Result<std::optional<uint32_t>>(rows.from);
    CO_TRY(wrong);
    if (!*wrong) continue;
    guard.unlock();
    guard = co_await entry->lock.lock(rows.from, rows.to, true);
    if (chunks_.buried(chunk)) co_return written;
    auto mended = co_await mend(group, chunk, rows);
    if (mended)
      written += *mended;
    else if (mended.error().code == Errc::kCorrupt)
      outcome = fail(mended.error());
    else
      co_return mended;
  }
  CO_TRY(outcome);
  co_return written;
}

Task<Result<std::vector<BlockRange>>> ShardRebuilder::lost(GroupRef group, ChunkId chunk,
                                                           Throttle& throttle) {
  const Pool* pool = reader_.pool(group->id);
  if (group->over || pool == nullptr) co_return fail(ended());
  const ShardLayout l = ShardLayout::of(*pool);
  auto known = co_await survey(group, chunk, {});
  CO_TRY(known);
  auto entry = chunks_.use(chunk);
  std::set<uint32_t> blocks;
  for (uint32_t from = 0; uint64_t{from} * kBlockSize < known->end; from += kStretch) {
    auto turn = co_await throttle.turn();
    const BlockRange rows{from, from + kStretch};
    auto guard = co_await entry->lock.lock(rows.from, rows.to, false);
    if (co_await reader_.rows(group, chunk, l.dataShards(), rows)) continue;
    for (uint32_t row = rows.from; row < rows.to; ++row) {
      auto all = co_await reader_.rows(group, chunk, l.dataShards(), {row, row + 1});
      if (all) continue;
      if (all.error().code != Errc::kCorrupt) co_return fail(all.error());
      for (uint8_t shard = 0; shard < l.data; ++shard)
        if (const uint32_t block = l.blockAt(shard, row);
            block < kBlocksPerChunk &&
            !co_await reader_.direct(group, chunk, shard, {row, row + 1}))
          blocks.insert(block);
    }
  }
  std::vector<BlockRange> ranges;
  for (uint32_t block : blocks) addBlock(ranges, block);
  co_return ranges;
}

}  // namespace cairn::osd
