// A pool that nothing uses any more goes; its id is never used again.
//
// Errors: kNotFound, kBusy (files or directories use it, or deleted chunks in it are still to be
// freed).
#include <string>

#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> poolRemove(OpContext& ctx, capnp::Text::Reader text) {
  const auto name = textOf(text);
  const Pool* pool = ctx.cluster().map.poolByName(name);
  if (pool == nullptr) return fail(Errc::kNotFound, "there is no pool '" + std::string(name) + "'");
  const PoolId id = pool->id;
  const auto& uses = ctx.state().poolUse;
  const PoolUse use = uses.contains(id) ? uses.at(id) : PoolUse();
  if (use != PoolUse())
    return fail(Errc::kBusy, "pool " + std::string(name) + " is in use: by " +
                                 std::to_string(use.inodes) + " files and directories, " +
                                 std::to_string(use.chunks) + " chunks, and " +
                                 std::to_string(use.garbage) +
                                 " deleted chunks still to be freed; delete or move what uses it");
  ClusterState& cluster = ctx.changeCluster();
  cluster.map.pools.erase(id);
  cluster.autoDomain.erase(id);
  newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
