// OSDs that have been down for too long: out, so that others get what they held. They come in again
// by themselves when they are up (comeUp). One that is up by now, was put out by an administrator,
// or is gone, is left as it is.
//
// Errors: none.
#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> osdsLost(OpContext& ctx, capnp::List<uint32_t>::Reader args) {
  ClusterState& cluster = ctx.changeCluster();
  bool changed = false;
  for (uint32_t id : args) {
    auto it = cluster.map.osds.find(OsdId(id));
    if (it == cluster.map.osds.end() || it->second.up || !it->second.in) continue;
    it->second.in = false;
    it->second.autoOut = changed = true;
  }
  if (changed) newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
