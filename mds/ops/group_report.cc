// What the primaries of groups say of their members, as the leader let it through: it has checked
// that the reporter was the primary, and may have turned the accusation round (GroupReports in
// mds/server). One epoch for all that counts, none if nothing does.
//
// synced: a joining member moves into `osds`. failed: a member leaves `osds`, or begins anew to
// join. It stays if fewer than Pool::needed() would be in sync without it: the last copy, or a
// shard of the last few from which the others can be made at all. Nobody could ever make it equal
// again. A member of an erasure-coded group that is `complete` is so no longer. Then the rule of
// groups.h: who failed and is up and belongs there is joining at once. The group gets a new epoch
// in each case, so whatever was under way between the members under the old one is over.
//
// A change counts only while the group has the epoch that it names: its primary and members are
// then those that the reporter spoke of. What does not count is skipped without an error: the
// reporter sees the group's epoch in its next map, and says it again if it is still so.
//
// Errors: none.
#include <algorithm>
#include <map>

#include "mds/ops/groups.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {
namespace {

bool move(const Pool& pool, PlacementGroup& group, OsdId member, bool synced) {
  auto in = [member](const auto& list) { return std::ranges::find(list, member) != list.end(); };
  // Also of one that is up and joins: it would come back into `osds` as it is all the same.
  // With too few in sync there is no primary that could speak: it is of an earlier time.
  const bool forgotten = !synced && pool.erasureCoded() && group.inSync() >= pool.needed() &&
                         std::erase(group.complete, member) != 0;
  if (in(group.joining)) {
    if (synced) {
      std::erase(group.joining, member);
      group.osds.push_back(member);
    }
    return true;
  }
  if (forgotten) return true;
  if (synced || !in(group.osds)) return false;
  std::vector<OsdId> before = group.osds;
  std::erase(group.osds, member);
  if (group.inSync() >= pool.needed()) return true;
  group.osds = std::move(before);
  return false;
}

}  // namespace

Result<void> groupReport(OpContext& ctx, capnp::List<schema::GroupChange>::Reader args) {
  const ClusterMap& before = ctx.cluster().map;
  std::map<std::pair<PoolId, PgIndex>, PlacementGroup> changed;
  for (auto change : args) {
    const std::pair key(PoolId(change.getPool()), PgIndex(change.getPg()));
    auto group = before.group(key.first, key.second);
    if (!group || (*group)->epoch.value != change.getEpoch()) continue;
    if (change.getKind() > schema::GroupChange::Kind::FAILED) continue;
    auto it = changed.find(key);
    PlacementGroup next = it == changed.end() ? **group : it->second;
    if (move(*before.pool(key.first), next, OsdId(change.getMember()),
             change.getKind() == schema::GroupChange::Kind::SYNCED))
      changed.insert_or_assign(key, std::move(next));
  }
  if (changed.empty()) return {};
  ClusterState& cluster = ctx.changeCluster();
  ClusterMap& map = cluster.map;
  ++map.epoch.value;
  std::map<PoolId, Placer> placers;
  for (auto& [key, next] : changed) {
    Pool& pool = map.pools.at(key.first);
    const Placer& placer = placers.try_emplace(key.first, map, pool).first->second;
    settle(cluster, pool, key.second, placer.target(key.second), next);
    next.epoch = map.epoch;
    pool.pgs[key.second.value] = std::move(next);
  }
  return {};
}

}  // namespace cairn::mds::ops
