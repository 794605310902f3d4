// An OSD that will not come back: the map forgets it, and its id is never used again. Its store, if
// it ever registers, is refused its old id.
//
// Errors: kNotFound, kBusy (it is up, or some group may need what it holds; `force` is for groups
// whose other members hold every acknowledged write too: one copy, or enough different shards).
#include <algorithm>
#include <string>
#include <utility>

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
  size_t needed = 0, lost = 0;
  std::string pools;
  for (auto& [poolId, pool] : cluster.map.pools) {
    size_t here = 0;
    for (PlacementGroup& group : pool.pgs) {
      const bool member = drop(group.osds, id);
      if (!drop(group.complete, id) && !member) continue;
      ++here;
      PlacementGroup rest = group;
      rest.osds.insert(rest.osds.end(), group.complete.begin(), group.complete.end());
      lost += rest.inSync() < pool.needed() ? 1 : 0;
      // It was the last one heard of. A group without a list would be taken for a new one.
      if (group.osds.empty()) group.osds = std::exchange(group.complete, {});
      group.epoch = MapEpoch(cluster.map.epoch.value + 1);
    }
    if (here == 0) continue;
    needed += here;
    pools += (pools.empty() ? "" : ", ") + pool.name;
  }
  if (lost > 0)
    return fail(Errc::kBusy, name + " holds what " + std::to_string(lost) +
                                 " placement groups of " + pools +
                                 " cannot do without: their data would be lost; start its daemon "
                                 "again");
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
