// An OSD that will not come back: the map forgets it, and its id is never used again. Its store, if
// it ever registers, is refused its old id.
//
// Errors: kNotFound, kBusy (it is up, or some group may need what it holds; `force` is for groups
// that have another member, which then holds every acknowledged write too).
#include <algorithm>
#include <string>

#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {
namespace {

bool drop(std::vector<OsdId>& list, OsdId id) {
  return std::erase(list, id) != 0;
}

}  // namespace

Result<void> osdRemove(OpContext& ctx, schema::OsdRemove::Reader args) {
  const OsdId id(args.getId());
  const std::string name = "osd." + std::to_string(id.value);
  const OsdEntry* osd = ctx.cluster().map.osd(id);
  if (osd == nullptr) return fail(Errc::kNotFound, "there is no " + name);
  if (osd->up)
    return fail(Errc::kBusy, name + " is up: put it out (cairn osd out " +
                                 std::to_string(id.value) +
                                 "), wait until it holds nothing, and stop its daemon first");
  ClusterState& cluster = ctx.changeCluster();
  size_t needed = 0, alone = 0;
  std::string pools;
  for (auto& [poolId, pool] : cluster.map.pools) {
    size_t here = 0;
    for (PlacementGroup& group : pool.pgs) {
      const bool only = group.osds == std::vector{id};
      const bool member = drop(group.osds, id);
      if (!drop(group.complete, id) && !member) continue;
      ++here;
      alone += only ? 1 : 0;
      group.epoch = MapEpoch(cluster.map.epoch.value + 1);
    }
    if (here == 0) continue;
    needed += here;
    pools += (pools.empty() ? "" : ", ") + pool.name;
  }
  if (alone > 0)
    return fail(Errc::kBusy, name + " is the last in sync of " + std::to_string(alone) +
                                 " placement groups of " + pools +
                                 ": what they hold would be lost; start its daemon again");
  if (needed > 0 && !args.getForce())
    return fail(Errc::kBusy, name + " may be needed by " + std::to_string(needed) +
                                 " placement groups of " + pools +
                                 ", whose members are down: start them or it again, or, if it is "
                                 "gone for good, use --force");
  cluster.map.osds.erase(id);
  newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
