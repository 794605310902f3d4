// Data stops moving for the sake of balance alone, or goes on (groups.h). One epoch if that changes
// something.
//
// Errors: none.
#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> rebalancePause(OpContext& ctx, bool paused) {
  if (ctx.cluster().map.rebalancePaused == paused) return {};
  ClusterState& cluster = ctx.changeCluster();
  cluster.map.rebalancePaused = paused;
  newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
