// How a chunk of an erasure-coded pool lies on its shards.
//
// A stripe is `data` units of consecutive blocks, one for each data shard, and `parity` units made
// from them. Stripe s of a chunk takes the rows [s * unit, (s + 1) * unit) of every shard: row r of
// the parity shards is made from row r of the data shards and nothing else. All in blocks of 4 KiB.
//
//   blocks  | 0 .. u-1 | u .. 2u-1 | ...            rows 0 .. u-1 of shard 0, of shard 1, ...
//
// Pure; any thread.
#pragma once

#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/erasure/erasure_code.h"
#include "osd/service/block_range.h"

namespace cairn::osd {

struct ShardLayout {
  uint32_t data = 0, parity = 0;
  uint32_t unit = 0;  // blocks

  static ShardLayout of(const Pool& pool);

  [[nodiscard]] uint32_t shards() const { return data + parity; }
  [[nodiscard]] uint32_t stripe() const { return data * unit; }  // blocks
  // Rows that every shard has. The last stripe of a chunk may be cut off: its blocks behind the
  // chunk's end are holes for ever.
  [[nodiscard]] uint32_t rows() const;
  [[nodiscard]] ShardSet dataShards() const { return (ShardSet{1} << data) - 1; }
  [[nodiscard]] ShardSet parityShards() const { return ((ShardSet{1} << parity) - 1) << data; }

  [[nodiscard]] uint8_t shardOf(uint32_t block) const {
    return static_cast<uint8_t>(block / unit % data);
  }
  [[nodiscard]] uint32_t rowOf(uint32_t block) const {
    return block / stripe() * unit + block % unit;
  }
  [[nodiscard]] uint32_t blockAt(uint8_t shard, uint32_t row) const {
    return row / unit * stripe() + shard * unit + row % unit;
  }
  // The rows of one data shard that hold blocks of the range; perhaps none.
  [[nodiscard]] BlockRange rowsOf(BlockRange blocks, uint8_t shard) const;
  // The rows from the first to the last that hold any; `blocks` is not empty.
  [[nodiscard]] BlockRange rowsOf(BlockRange blocks) const;
  // The data shards that hold blocks of the range.
  [[nodiscard]] ShardSet shardsOf(BlockRange blocks) const;

  // Cuts the range where a partial stripe ends or begins, and runs of whole stripes into pieces of
  // at most `most` blocks, or of one stripe if that is more.
  [[nodiscard]] std::vector<BlockRange> pieces(BlockRange blocks, uint32_t most) const;
  [[nodiscard]] bool wholeStripes(BlockRange blocks) const;
};

}  // namespace cairn::osd
