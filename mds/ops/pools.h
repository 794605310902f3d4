// Pools of the map that an operation changes.
#pragma once

#include "mds/ops/context.h"
#include "mds/ops/groups.h"

namespace cairn::mds::ops {

// Adds `pool` (checked; without id and groups) with `pgCount` groups in a new epoch.
inline PoolId addPool(OpContext& ctx, Pool pool, bool autoDomain, uint32_t pgCount) {
  ClusterState& cluster = ctx.changeCluster();
  const PoolId id(ctx.counters().nextPool++);
  pool.id = id;
  pool.pgs.resize(pgCount);
  for (auto& group : pool.pgs) group.epoch = MapEpoch(cluster.map.epoch.value + 1);
  if (autoDomain) cluster.autoDomain.insert(id);
  cluster.map.pools[id] = std::move(pool);
  newEpoch(cluster, ctx.counters());
  return id;
}

}  // namespace cairn::mds::ops
