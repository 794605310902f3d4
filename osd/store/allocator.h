// Which data blocks are free. Kept in memory only: open() rebuilds it from the chunk maps, so it
// can neither leak nor disagree with them. One reactor thread.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "osd/store/layout.h"

namespace cairn::osd {

class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // The run was not free.
  void add(PhysRun run);
  // Exactly `count` blocks, which must be free in all, appended to `out`: at `hint` if that is free
  // (a file that grows stays in one piece), else one run near the last one taken, else the fewest
  // pieces.
  void take(uint64_t count, PhysBlock hint, std::vector<PhysRun>& out);
  [[nodiscard]] uint64_t freeBlocks() const { return freeBlocks_; }
  [[nodiscard]] size_t fragments() const { return byStart_.size(); }

 private:
  using Map = std::map<PhysBlock, uint64_t>;  // start -> count; neighbours are merged
  PhysRun takeFrom(Map::iterator it, PhysBlock start, uint64_t count);
  Map::iterator findNext(uint64_t count);

  Map byStart_;
  std::set<std::pair<uint64_t, PhysBlock>> bySize_;
  uint64_t freeBlocks_ = 0;
  PhysBlock cursor_ = 0;  // next fit: behind what was taken last
};

}  // namespace cairn::osd
