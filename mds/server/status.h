// What `cairn status` and statfs(2) say. Pure functions of what they are given; any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mds/state/state_machine.h"

namespace cairn::mds {

struct Health {
  std::string text;                   // ok | degraded | unavailable
  std::vector<std::string> problems;  // a sentence each: the thing, the reason, the way out
};

// `downFor`: how long an OSD has been down.
Health judge(const ClusterMap& map, const std::function<Duration(OsdId)>& downFor,
             uint64_t garbageChunks);

struct Capacity {
  uint64_t bytesTotal = 0, bytesFree = 0;
};
// What users can store in the pool: the raw capacity of the OSDs it may use, over its copies.
Capacity capacity(const ClusterMap& map, const Pool& pool);

// Bytes of each pool. The OSDs count for themselves, not for pools: what they have used is shared
// out by the pools' chunks.
std::map<PoolId, uint64_t> poolBytes(const ClusterMap& map,
                                     const std::map<PoolId, uint64_t>& chunks);

// Why data cannot be stored in the pool yet; empty if it can.
std::string whyNotPlaced(const ClusterMap& map, const Pool* pool);

}  // namespace cairn::mds
