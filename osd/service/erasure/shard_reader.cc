#include "osd/service/erasure/shard_reader.h"

#include <algorithm>
#include <bit>

#include "common/crc/crc32c.h"
#include "osd/service/erasure/shard_ids.h"

namespace cairn::osd {

namespace {

std::vector<uint8_t> numbersOf(ShardSet set) {
  std::vector<uint8_t> numbers;
  for (; set != 0; set &= set - 1) numbers.push_back(static_cast<uint8_t>(std::countr_zero(set)));
  return numbers;
}

constexpr ShardSet bit(uint8_t shard) {
  return ShardSet{1} << shard;
}

}  // namespace

const uint8_t* bytesOrZeros(const ReadData& data, const Buffer& zeros) {
  return data.hole ? zeros.data() : data.data.data();
}

const Pool* ShardReader::pool(const GroupId& group) const {
  const Pool* pool = map_.map() ? map_.map()->pool(group.pool) : nullptr;
  return pool != nullptr && pool->erasureCoded() ? pool : nullptr;
}

const ErasureCode& ShardReader::code(const ShardLayout& layout) {
  auto& code = codes_[{layout.data, layout.parity}];
  if (!code) code = std::make_unique<ErasureCode>(layout.data, layout.parity);
  return *code;
}

ShardSet ShardReader::held(const GroupRef& group) const {
  ShardSet set = 0;
  if (const PlacementGroup* lists = groups_.lists(group->id))
    for (OsdId id : lists->osds) set |= bit(lists->shardOf(id));
  return set;
}

Task<Result<ReadData>> ShardReader::direct(GroupRef group, ChunkId chunk, uint8_t shard,
                                           BlockRange rows) {
  const auto offset = static_cast<uint32_t>(rows.from * kBlockSize);
  const auto length = static_cast<uint32_t>((rows.to - rows.from) * kBlockSize);
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr)
    co_return fail(Errc::kStaleEpoch, "not the primary any more");
  // The primary is the first.
  auto holder = std::ranges::find(lists->osds, shard, [&](OsdId id) { return lists->shardOf(id); });
  if (holder == lists->osds.end())
    co_return fail(Errc::kUnavailable, "nobody in sync holds shard " + std::to_string(shard) +
                                           " of chunk " + std::to_string(chunk.value));
  if (*holder == map_.self()) co_return co_await store_.read(inStore(chunk, shard), offset, length);
  co_return co_await members_.fetch(*holder, group->id, chunk, offset, length);
}

Task<Result<ShardReader::Decoded>> ShardReader::rows(GroupRef group, ChunkId chunk, ShardSet wanted,
                                                     BlockRange rows, ShardSet avoid) {
  const Pool* of = pool(group->id);
  if (of == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  const ShardLayout layout = ShardLayout::of(*of);
  Decoded out;
  ShardSet asked = avoid, ask = wanted & ~avoid;
  bool unreachable = false;  // somebody who holds a shard
  while (true) {
    const std::vector<uint8_t> numbers = numbersOf(ask);
    std::vector<Task<Result<ReadData>>> reads;
    reads.reserve(numbers.size());
    for (uint8_t shard : numbers) reads.push_back(direct(group, chunk, shard, rows));
    auto answers = co_await whenAll(env_.reactor, std::move(reads));
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (answers[i]) {
        out.rows.emplace(numbers[i], std::move(*answers[i]));
        out.read |= bit(numbers[i]);
        continue;
      }
      const Errc code = answers[i].error().code;
      if (code == Errc::kCorrupt || code == Errc::kIo)
        out.damaged |= bit(numbers[i]);
      else
        unreachable = (held(group) & bit(numbers[i])) != 0 || unreachable;
    }
    asked |= ask;
    ShardSet have = 0;
    for (const auto& [shard, data] : out.rows) have |= bit(shard);
    if ((wanted & ~have) == 0) co_return out;
    if (std::popcount(have) >= static_cast<int>(layout.data)) {
      CO_TRY(decode(layout, wanted & ~have, rows.to - rows.from, out.rows));
      co_return out;
    }
    // As many more as are missing, of those that somebody holds.
    ask = 0;
    for (uint8_t shard : numbersOf(held(group) & ~asked)) {
      if (std::popcount(have | ask) == static_cast<int>(layout.data)) break;
      ask |= bit(shard);
    }
    if (std::popcount(have | ask) < static_cast<int>(layout.data))
      // Damage is for ever, what cannot be reached may come back.
      co_return fail(out.damaged != 0 && !unreachable ? Errc::kCorrupt : Errc::kUnavailable,
                     "only " + std::to_string(std::popcount(have | ask)) + " of the " +
                         std::to_string(layout.data) + " shards of chunk " +
                         std::to_string(chunk.value) + " that are needed can be read");
  }
}

Result<void> ShardReader::decode(const ShardLayout& layout, ShardSet missing, uint32_t blocks,
                                 ShardRows& rows) {
  const size_t length = blocks * kBlockSize;
  if (std::ranges::all_of(rows, [](const auto& r) { return r.second.hole; })) {
    for (uint8_t shard : numbersOf(missing)) rows[shard] = {{}, true, {}, {}};
    return {};
  }
  const Buffer zeros = env_.buffers.zeroed(length);
  std::vector<const uint8_t*> from(layout.shards(), nullptr);
  std::vector<uint8_t*> into(layout.shards(), nullptr);
  ShardSet present = 0;
  for (const auto& [shard, data] : rows) {
    from[shard] = bytesOrZeros(data, zeros);
    present |= bit(shard);
  }
  for (uint8_t shard : numbersOf(missing)) {
    ReadData& data = rows[shard];
    data.data = env_.buffers.get(length);
    into[shard] = data.data.data();
  }
  TRY(code(layout).reconstruct(from, present, into, missing, length));
  for (uint8_t shard : numbersOf(missing))
    rows[shard].crcs = blockCrcs(0, rows[shard].data.bytes());
  return {};
}

}  // namespace cairn::osd
