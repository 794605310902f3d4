// Up and down, as the leader heard or missed them: one epoch for all that changed, none if nothing
// did. Who is up is so for its lease; the leader alone knows when that is over.
//
// Errors: kNotFound (no such OSD).
#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> osdState(OpContext& ctx, capnp::List<schema::OsdState>::Reader args) {
  ClusterState& cluster = ctx.changeCluster();
  bool changed = false;
  for (auto state : args) {
    auto it = cluster.map.osds.find(OsdId(state.getId()));
    if (it == cluster.map.osds.end())
      return fail(Errc::kNotFound, "there is no OSD " + std::to_string(state.getId()));
    OsdEntry& osd = it->second;
    if (osd.up == state.getUp()) continue;
    changed = true;
    if (state.getUp())
      comeUp(osd);
    else
      osd.up = false;
  }
  if (changed) newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
