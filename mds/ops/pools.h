// Pools of the map that an operation changes.
#pragma once

#include "mds/ops/context.h"
#include "mds/ops/groups.h"

namespace cairn::mds::ops {

// 0: what is usual. kInvalid: no number of members that could acknowledge a write.
inline Result<void> setMinSize(Pool& pool, uint16_t minSize) {
  const size_t least = pool.needed();
  if (minSize != 0 && (minSize < least || minSize > pool.width()))
    return fail(Errc::kInvalid, "the smallest size of a group in a pool " + pool.redundancy() +
                                    " is from " + std::to_string(least) + " to " +
                                    std::to_string(pool.width()));
  pool.minSize = minSize != 0 ? minSize : pool.usualMinSize();
  return {};
}

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
