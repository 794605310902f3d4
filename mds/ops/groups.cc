#include "mds/ops/groups.h"

#include <algorithm>

#include "mds/cluster/placement.h"

namespace cairn::mds::ops {

void newEpoch(ClusterState& cluster, const Counters& counters) {
  ClusterMap& map = cluster.map;
  ++map.epoch.value;
  const bool nothingStored = counters.nextChunk == Counters().nextChunk;
  for (auto& [id, pool] : map.pools) {
    auto isComplete = [&](const PlacementGroup& g) { return g.osds.size() == pool.width(); };
    if (!nothingStored && std::ranges::all_of(pool.pgs, isComplete)) continue;
    if (cluster.autoDomain.contains(id)) pool.failureDomain = chooseFailureDomain(map, pool);
    auto lists = placePool(map, pool);
    bool placed = false;
    for (size_t i = 0; i < pool.pgs.size(); ++i) {
      PlacementGroup& group = pool.pgs[i];
      if ((isComplete(group) && !nothingStored) || lists[i].size() != pool.width()) continue;
      if (group.osds == lists[i]) continue;
      group.osds = std::move(lists[i]);
      group.epoch = map.epoch;
      placed = true;
    }
    // Groups of one pool must not follow different rules.
    if (placed && !nothingStored) cluster.autoDomain.erase(id);
  }
}

}  // namespace cairn::mds::ops
