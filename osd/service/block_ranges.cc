#include "osd/service/block_ranges.h"

#include <algorithm>
#include <iterator>

#include "common/base/assert.h"
#include "common/base/units.h"

namespace cairn::osd {

BlockRange blocksOf(uint32_t offset, uint64_t length) {
  return {static_cast<uint32_t>(offset / kBlockSize),
          static_cast<uint32_t>(roundUp(offset + length, kBlockSize) / kBlockSize)};
}

void BlockRanges::add(BlockRange range) {
  if (range.from >= range.to) return;
  // Swallow every range that overlaps or touches.
  auto it = ranges_.upper_bound(range.from);
  if (it != ranges_.begin() && std::prev(it)->second >= range.from) --it;
  while (it != ranges_.end() && it->first <= range.to) {
    range.from = std::min(range.from, it->first);
    range.to = std::max(range.to, it->second);
    it = ranges_.erase(it);
  }
  ranges_.emplace(range.from, range.to);
}

void BlockRanges::remove(BlockRange range) {
  auto it = ranges_.upper_bound(range.from);
  if (it != ranges_.begin() && std::prev(it)->second > range.from) --it;
  while (it != ranges_.end() && it->first < range.to) {
    auto [from, to] = *it;
    it = ranges_.erase(it);
    if (from < range.from) ranges_.emplace(from, range.from);
    if (to > range.to) ranges_.emplace(range.to, to);
  }
}

bool BlockRanges::overlaps(BlockRange range) const {
  auto it = ranges_.lower_bound(range.to);  // the first that begins at or after the end
  return it != ranges_.begin() && std::prev(it)->second > range.from;
}

uint64_t BlockRanges::blocks() const {
  uint64_t n = 0;
  for (auto [from, to] : ranges_) n += to - from;
  return n;
}

BlockRange BlockRanges::first(uint32_t limit) const {
  CAIRN_ASSERT(!ranges_.empty(), "a range to give");
  auto [from, to] = *ranges_.begin();
  return {from, std::min(to, from + limit)};
}

}  // namespace cairn::osd
