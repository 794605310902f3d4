#include "mds/ops/groups.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>

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

bool isUp(const ClusterMap& map, OsdId id) {
  const OsdEntry* osd = map.osd(id);
  return osd != nullptr && osd->up;
}

// Where two of the target hold one shard, all but one give it up, and with it the trust in what
// they hold. Who is in sync keeps it, rather than who is complete, rather than who joins.
void separate(const std::vector<OsdId>& target, PlacementGroup& group) {
  auto trust = [&group](OsdId id) {
    return contains(group.osds, id) ? 2 : contains(group.complete, id) ? 1 : 0;
  };
  std::map<uint8_t, OsdId> keepers;
  for (int level = 2; level >= 0; --level)
    for (OsdId id : target) {
      auto it = group.shards.find(id);
      if (it == group.shards.end() || trust(id) != level) continue;
      if (keepers.try_emplace(it->second, id).first->second == id) continue;
      group.shards.erase(it);
      std::erase(group.osds, id);
      std::erase(group.complete, id);
    }
}

// Gives whoever of the target has no shard one that the target lacks: those who are up first, and
// first the shards that nobody in sync holds. The others only move.
void fill(const ClusterMap& map, const Pool& pool, const std::vector<OsdId>& target,
          PlacementGroup& group) {
  std::set<uint8_t> taken, inSync;
  for (OsdId id : target)
    if (group.shards.contains(id)) taken.insert(group.shardOf(id));
  for (OsdId id : group.osds) inSync.insert(group.shardOf(id));
  std::vector<uint8_t> free;
  for (bool moves : {false, true})
    for (uint8_t shard = 0; shard < pool.width(); ++shard)
      if (!taken.contains(shard) && inSync.contains(shard) == moves) free.push_back(shard);
  auto next = free.begin();
  for (bool up : {true, false})
    for (OsdId id : target)
      if (isUp(map, id) == up && !group.shards.contains(id)) group.shards[id] = *next++;
}

// The failure domain of an OSD in the pool, by name.
std::string domainOf(const Pool& pool, const OsdEntry& osd) {
  switch (pool.failureDomain) {
    case schema::FailureDomain::HOST:
      return osd.host;
    case schema::FailureDomain::RACK:
      return osd.rack;
    default:
      return std::to_string(osd.id.value);
  }
}

// Of those in sync, as many as there are to be, each with a shard of its own, in the order in which
// they are listed; preferably those of the target.
std::vector<OsdId> stayers(const Pool& pool, const std::vector<OsdId>& target,
                           const PlacementGroup& group) {
  std::vector<OsdId> chosen;
  std::set<uint8_t> shards;
  for (bool ofTarget : {true, false})
    for (OsdId id : group.osds)
      if (contains(target, id) == ofTarget && chosen.size() < pool.width() &&
          (!pool.erasureCoded() || shards.insert(group.shardOf(id)).second))
        chosen.push_back(id);
  std::vector<OsdId> inOrder;
  for (OsdId id : group.osds)
    if (contains(chosen, id)) inOrder.push_back(id);
  return inOrder;
}

// Who has no part in the group any more finds nothing there when it comes again.
void forgetOthers(const std::vector<OsdId>& target, PlacementGroup& group) {
  std::erase_if(group.shards, [&](const auto& held) {
    return !contains(group.osds, held.first) && !contains(group.complete, held.first) &&
           !contains(target, held.first);
  });
}

// Whether all that a message says of the group is the same.
bool sameMembers(const PlacementGroup& a, const PlacementGroup& b) {
  if (a.osds != b.osds || a.joining != b.joining) return false;
  if (!a.shards.empty() && a.complete != b.complete) return false;
  auto sameShard = [&](OsdId id) { return a.shardOf(id) == b.shardOf(id); };
  return std::ranges::all_of(a.osds, sameShard) && std::ranges::all_of(a.joining, sameShard);
}

}  // namespace

std::vector<OsdId> pausedTarget(const ClusterMap& map, const Pool& pool,
                                const std::vector<OsdId>& placed, const PlacementGroup& group,
                                const std::vector<OsdId>& away) {
  std::vector<OsdId> members = stayers(pool, placed, group);
  if (members.size() == pool.width() &&
      std::ranges::all_of(members, [&](OsdId id) { return contains(placed, id); }))
    return placed;
  std::set<std::string> domains;
  std::set<uint8_t> shards;
  auto take = [&](OsdId id) {
    if (!contains(members, id)) members.push_back(id);
    if (group.shards.contains(id)) shards.insert(group.shardOf(id));
    if (const OsdEntry* osd = map.osd(id)) domains.insert(domainOf(pool, *osd));
  };
  for (OsdId id : std::vector<OsdId>(members)) take(id);
  for (OsdId id : away) {
    const OsdEntry* osd = map.osd(id);
    const bool comesBack = osd != nullptr && osd->in && !contains(members, id);
    const bool needed =
        !pool.erasureCoded() || (group.shards.contains(id) && !shards.contains(group.shardOf(id)));
    if (comesBack && needed && members.size() < pool.width()) take(id);
  }
  for (OsdId id : placed)
    if (members.size() < pool.width() && !domains.contains(domainOf(pool, *map.osd(id)))) take(id);
  return members;
}

void settle(const ClusterMap& map, const Pool& pool, const std::vector<OsdId>& placed,
            PlacementGroup& group, std::vector<OsdId>& away) {
  const std::vector<OsdId> before = group.osds;
  std::erase_if(group.osds, [&map](OsdId id) { return !isUp(map, id); });
  if (group.inSync() < pool.needed())
    std::ranges::copy_if(group.complete, std::back_inserter(group.osds),
                         [&map](OsdId id) { return isUp(map, id); });
  if (group.osds.empty()) group.osds = before;
  group.complete.insert(group.complete.end(), before.begin(), before.end());
  std::erase_if(group.complete, [&group](OsdId id) { return contains(group.osds, id); });

  if (map.rebalancePaused)
    std::ranges::copy_if(before, std::back_inserter(away),
                         [&away](OsdId id) { return !contains(away, id); });
  else
    away.clear();
  std::erase_if(away, [&](OsdId id) { return contains(group.osds, id) || !map.osd(id); });
  const std::vector<OsdId> target =
      map.rebalancePaused ? pausedTarget(map, pool, placed, group, away) : placed;

  if (pool.erasureCoded()) {
    separate(target, group);
    fill(map, pool, target, group);
  }
  if (target.size() == pool.width() &&
      std::ranges::all_of(target, [&](OsdId id) { return contains(group.osds, id); }))
    group.osds = target;
  if (group.inSync() >= pool.minSize) group.complete.clear();
  if (group.inSync() >= pool.width()) away.clear();

  group.joining.clear();
  for (OsdId id : target)
    if (isUp(map, id) && !contains(group.osds, id)) group.joining.push_back(id);
  forgetOthers(target, group);
}

void settle(ClusterState& cluster, const Pool& pool, PgIndex index,
            const std::vector<OsdId>& placed, PlacementGroup& next) {
  const std::pair key(pool.id, index);
  std::vector<OsdId> away;
  if (auto at = cluster.away.find(key); at != cluster.away.end()) away = at->second;
  for (OsdId id : pool.pgs[index.value].osds)
    if (!contains(next.osds, id) && !contains(away, id)) away.push_back(id);
  settle(cluster.map, pool, placed, next, away);
  if (away.empty())
    cluster.away.erase(key);
  else
    cluster.away[key] = std::move(away);
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
        next.shards.clear();
        if (pool.erasureCoded())
          for (uint8_t shard = 0; shard < target.size(); ++shard)
            next.shards[target[shard]] = shard;
      }
      if (next.osds.empty()) continue;
      settle(cluster, pool, PgIndex{i}, target, next);
      if (!sameMembers(next, group)) next.epoch = map.epoch;
      group = std::move(next);
    }
  }
  std::erase_if(cluster.away, [&](const auto& a) { return !map.pools.contains(a.first.first); });
}

}  // namespace cairn::mds::ops
