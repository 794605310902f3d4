// What a map says about the state of its placement groups: one judgement for the metadata server
// and for the tools that show it. Pure functions; any thread.
#pragma once

#include "common/cluster/cluster_map.h"

namespace cairn {

enum class PgState : uint8_t {
  kClean,        // all members serve
  kDegraded,     // the primary serves, another member does not: reads go on, writes wait
  kUnavailable,  // no list yet, or the primary is down
};

PgState pgState(const ClusterMap& map, const PlacementGroup& pg);

struct PgCounts {
  uint32_t clean = 0, degraded = 0, unavailable = 0;
};
PgCounts countPgs(const ClusterMap& map, const Pool& pool);

}  // namespace cairn
