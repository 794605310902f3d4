// Some neighbouring blocks of a chunk.
#pragma once

#include <cstdint>

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

}  // namespace cairn::osd
