// What a map says about the state of its placement groups: one judgement for the metadata server
// and for the tools that show it. Pure functions; any thread.
#pragma once

#include "common/cluster/cluster_map.h"

namespace cairn {

// Whether what the pool stores may lie on the OSD.
bool serves(const OsdEntry& osd, const Pool& pool);

// The worst that is true of a group, from good to bad.
enum class PgState : uint8_t {
  kClean,        // as many copies (or shards) as the pool promises, where they belong
  kRecovering,   // as many, and more OSDs are being made equal: data moves
  kDegraded,     // fewer in sync; reads and writes go on
  kUnavailable,  // no list yet, the primary is down, or too few in sync: writes wait
};

PgState pgState(const ClusterMap& map, const Pool& pool, const PlacementGroup& pg);

struct PgCounts {
  uint32_t clean = 0, recovering = 0, degraded = 0, unavailable = 0;
};
PgCounts countPgs(const ClusterMap& map, const Pool& pool);

}  // namespace cairn
