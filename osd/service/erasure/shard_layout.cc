#include "osd/service/erasure/shard_layout.h"

#include <algorithm>

namespace cairn::osd {

namespace {
constexpr auto kChunkBlockCount = static_cast<uint32_t>(kBlocksPerChunk);
}

ShardLayout ShardLayout::of(const Pool& pool) {
  return {pool.ecData, pool.ecParity, static_cast<uint32_t>(pool.stripeUnit / kBlockSize)};
}

uint32_t ShardLayout::rows() const {
  return (kChunkBlockCount + stripe() - 1) / stripe() * unit;
}

BlockRange ShardLayout::rowsOf(BlockRange blocks, uint8_t shard) const {
  // How many rows of the shard hold blocks below `block`.
  auto below = [&](uint32_t block) {
    const uint32_t before = block % stripe() / unit, inUnit = block % unit;
    return block / stripe() * unit + (before > shard ? unit : before == shard ? inUnit : 0);
  };
  return {below(blocks.from), below(blocks.to)};
}

BlockRange ShardLayout::rowsOf(BlockRange blocks) const {
  BlockRange hull{UINT32_MAX, 0};
  for (uint8_t shard = 0; shard < data; ++shard) {
    const BlockRange rows = rowsOf(blocks, shard);
    if (rows.from >= rows.to) continue;
    hull = {std::min(hull.from, rows.from), std::max(hull.to, rows.to)};
  }
  return hull;
}

ShardSet ShardLayout::shardsOf(BlockRange blocks) const {
  ShardSet set = 0;
  for (uint8_t shard = 0; shard < data; ++shard)
    if (const BlockRange rows = rowsOf(blocks, shard); rows.from < rows.to)
      set |= ShardSet{1} << shard;
  return set;
}

bool ShardLayout::wholeStripes(BlockRange blocks) const {
  return blocks.from % stripe() == 0 &&
         (blocks.to % stripe() == 0 || blocks.to == kChunkBlockCount);
}

std::vector<BlockRange> ShardLayout::pieces(BlockRange blocks, uint32_t most) const {
  std::vector<BlockRange> out;
  const uint32_t step = std::max(most / stripe(), 1u) * stripe();
  for (uint32_t from = blocks.from; from < blocks.to;) {
    uint32_t to = from / stripe() * stripe() + stripe();  // the end of this stripe
    if (from % stripe() == 0) {
      const uint32_t whole =
          blocks.to == kChunkBlockCount ? blocks.to : blocks.to / stripe() * stripe();
      if (whole > from) to = std::min(from + step, whole);
    }
    to = std::min(to, blocks.to);
    out.push_back({from, to});
    from = to;
  }
  return out;
}

}  // namespace cairn::osd
