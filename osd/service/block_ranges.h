// A set of 4 KiB block numbers of one chunk, kept as disjoint ranges: which blocks a replica may
// hold differently. A value; at most kBlocksPerChunk / 2 ranges.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

namespace cairn::osd {

// [from, to), in blocks.
struct BlockRange {
  uint32_t from = 0, to = 0;
  bool operator==(const BlockRange&) const = default;
};

// The blocks that the bytes [offset, offset + length) touch; length > 0.
BlockRange blocksOf(uint32_t offset, uint64_t length);

class BlockRanges {
 public:
  void add(BlockRange range);
  void remove(BlockRange range);
  [[nodiscard]] bool overlaps(BlockRange range) const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] uint64_t blocks() const;
  // The first range, cut to `limit` blocks; not empty().
  [[nodiscard]] BlockRange first(uint32_t limit) const;

 private:
  std::map<uint32_t, uint32_t> ranges_;  // from -> to; disjoint and not touching
};

}  // namespace cairn::osd
