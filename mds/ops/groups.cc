#include "mds/ops/groups.h"

#include <algorithm>

namespace cairn::mds::ops {
namespace {

bool contains(const std::vector<OsdId>& list, OsdId id) {
  return std::ranges::find(list, id) != list.end();
}

// Until something lies in the groups their failure domain may follow what registers. After that it
// stays: groups of one pool must not follow different rules.
void chooseDomain(ClusterState& cluster, Pool& pool, bool nothingStored) {
  if (!cluster.autoDomain.contains(pool.id)) return;
  const bool placed = std::ranges::any_of(pool.pgs, [](const auto& g) { return !g.osds.empty(); });
  if (nothingStored || !placed)
    pool.failureDomain = chooseFailureDomain(cluster.map, pool);
  else
    cluster.autoDomain.erase(pool.id);
}

}  // namespace

void settle(const ClusterMap& map, const Pool& pool, const std::vector<OsdId>& target,
            PlacementGroup& group) {
  auto isUp = [&map](OsdId id) {
    const OsdEntry* osd = map.osd(id);
    return osd != nullptr && osd->up;
  };
  auto upOf = [&](const std::vector<OsdId>& list) {
    std::vector<OsdId> up;
    std::ranges::copy_if(list, std::back_inserter(up), isUp);
    return up;
  };
  std::vector<OsdId> osds = upOf(group.osds);
  if (osds.empty()) osds = upOf(group.complete);
  if (osds.empty()) osds = group.osds;
  if (target.size() == pool.width() &&
      std::ranges::all_of(target, [&](OsdId id) { return contains(osds, id); }))
    osds = target;

  std::vector<OsdId> complete;
  if (osds.size() < pool.minSize)
    for (const auto* list : {&group.complete, &group.osds})
      for (OsdId id : *list)
        if (!contains(osds, id) && !contains(complete, id)) complete.push_back(id);
  group.osds = std::move(osds);
  group.complete = std::move(complete);
  group.joining.clear();
  for (OsdId id : target)
    if (isUp(id) && !contains(group.osds, id)) group.joining.push_back(id);
}

void newEpoch(ClusterState& cluster, const Counters& counters) {
  ClusterMap& map = cluster.map;
  ++map.epoch.value;
  const bool nothingStored = counters.nextChunk == Counters().nextChunk;
  for (auto& [id, pool] : map.pools) {
    chooseDomain(cluster, pool, nothingStored);
    const Placer placer(map, pool);
    for (uint32_t i = 0; i < pool.pgs.size(); ++i) {
      PlacementGroup& group = pool.pgs[i];
      const std::vector<OsdId> target = placer.target(PgIndex{i});
      PlacementGroup next = group;
      if (target.size() == pool.width() && (group.osds.empty() || nothingStored)) {
        next.osds = target;
        next.complete.clear();
      }
      if (next.osds.empty()) continue;
      settle(map, pool, target, next);
      if (next.osds != group.osds || next.joining != group.joining) next.epoch = map.epoch;
      group = std::move(next);
    }
  }
}

}  // namespace cairn::mds::ops
