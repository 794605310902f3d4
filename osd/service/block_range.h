// Some neighbouring blocks of a chunk.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/units.h"

namespace cairn::osd {

// [from, to), in blocks.
struct BlockRange {
  uint32_t from = 0, to = 0;
  bool operator==(const BlockRange&) const = default;
};

// The blocks that the bytes [offset, offset + length) touch; length > 0.
inline BlockRange blocksOf(uint32_t offset, uint64_t length) {
  return {static_cast<uint32_t>(offset / kBlockSize),
          static_cast<uint32_t>((offset + length + kBlockSize - 1) / kBlockSize)};
}

// Ascending blocks become ranges.
inline void addBlock(std::vector<BlockRange>& ranges, uint32_t block) {
  if (!ranges.empty() && ranges.back().to == block)
    ++ranges.back().to;
  else
    ranges.push_back({block, block + 1});
}

}  // namespace cairn::osd
