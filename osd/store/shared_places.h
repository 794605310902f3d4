// The places that more than one block of the chunk maps names, after clone(), and how many names
// each has beyond its first. Kept in memory only: open() rebuilds it from the chunk maps, so it can
// neither leak nor disagree with them. Costs about 100 bytes for each run of neighbours with as
// many names. One reactor thread.
#pragma once

#include <map>
#include <vector>

#include "osd/store/layout.h"

namespace cairn::osd {

class SharedPlaces {
 public:
  // Each block of the run got one more name.
  void add(PhysRun run);
  // Each lost one. Those that had no other are appended to `unnamed`.
  void release(PhysRun run, std::vector<PhysRun>& unnamed);
  [[nodiscard]] bool contains(PhysBlock block) const;
  [[nodiscard]] bool empty() const { return runs_.empty(); }
  // Each loses one: turns counts of all names into counts of those beyond the first.
  void discountFirst();

 private:
  struct Run {
    uint64_t count = 0;  // of blocks
    uint64_t names = 0;  // of each of them beyond the first; not 0
  };
  using Map = std::map<PhysBlock, Run>;  // by start; disjoint
  void cutAt(PhysBlock at);
  void mergeWithin(PhysBlock from, PhysBlock to);

  Map runs_;
};

}  // namespace cairn::osd
