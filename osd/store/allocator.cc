#include "osd/store/allocator.h"

#include <algorithm>

#include "osd/store/extent_group.h"

namespace cairn::osd {

namespace {
// How many free runs next fit looks at before it takes the best fit: bounds the search on a
// fragmented disk.
constexpr int kNextFitProbes = 64;
}  // namespace

void Allocator::add(PhysRun run) {
  if (run.count == 0) return;
  freeBlocks_ += run.count;
  auto next = byStart_.lower_bound(run.start);
  CAIRN_ASSERT(next == byStart_.end() || run.start + run.count <= next->first,
               "a block is freed once");
  if (next != byStart_.begin()) {
    auto prev = std::prev(next);
    CAIRN_ASSERT(prev->first + prev->second <= run.start, "a block is freed once");
    if (prev->first + prev->second == run.start) {
      run = {prev->first, prev->second + run.count};
      bySize_.erase({prev->second, prev->first});
      byStart_.erase(prev);
    }
  }
  if (next != byStart_.end() && run.start + run.count == next->first) {
    run.count += next->second;
    bySize_.erase({next->second, next->first});
    byStart_.erase(next);
  }
  byStart_.emplace(run.start, run.count);
  bySize_.emplace(run.count, run.start);
}

PhysRun Allocator::takeFrom(Map::iterator it, PhysBlock start, uint64_t count) {
  PhysRun whole{it->first, it->second};
  CAIRN_ASSERT(start >= whole.start && start + count <= whole.start + whole.count,
               "only free blocks are taken");
  bySize_.erase({whole.count, whole.start});
  byStart_.erase(it);
  if (start > whole.start) {
    byStart_.emplace(whole.start, start - whole.start);
    bySize_.emplace(start - whole.start, whole.start);
  }
  uint64_t end = start + count, wholeEnd = whole.start + whole.count;
  if (end < wholeEnd) {
    byStart_.emplace(end, wholeEnd - end);
    bySize_.emplace(wholeEnd - end, end);
  }
  freeBlocks_ -= count;
  cursor_ = end;
  return {start, count};
}

Allocator::Map::iterator Allocator::findNext(uint64_t count) {
  if (bySize_.empty() || bySize_.rbegin()->first < count) return byStart_.end();
  auto it = byStart_.lower_bound(cursor_);
  for (int i = 0; i < kNextFitProbes; ++i, ++it) {
    if (it == byStart_.end()) it = byStart_.begin();
    if (it->second >= count) return it;
  }
  return byStart_.find(bySize_.lower_bound({count, 0})->second);
}

void Allocator::take(uint64_t count, PhysBlock hint, std::vector<PhysRun>& out) {
  CAIRN_ASSERT(count <= freeBlocks_, "only free blocks are taken");
  if (count == 0) return;
  if (auto it = byStart_.upper_bound(hint); it != byStart_.begin()) {
    --it;
    if (hint < it->first + it->second) {
      uint64_t here = std::min(count, it->first + it->second - hint);
      PhysRun run = takeFrom(it, hint, here);
      appendRun(out, run.start, run.count);
      count -= here;
    }
  }
  while (count > 0) {
    auto it = findNext(count);
    if (it == byStart_.end()) it = byStart_.find(bySize_.rbegin()->second);
    PhysRun run = takeFrom(it, it->first, std::min(count, it->second));
    appendRun(out, run.start, run.count);
    count -= run.count;
  }
}

}  // namespace cairn::osd
