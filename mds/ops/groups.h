// Placement groups of the map that an operation changes: who is in sync, who joins, and who holds
// which shard.
//
// The rule, for a group that has a list:
//   1. Who is down leaves `osds`. If nobody of it is up, it stays as it is: nobody else may hold
//      every acknowledged write. The exception is `complete`, below.
//   2. When a target of full width is in `osds` altogether, `osds` becomes the target, in its
//      order: surplus members leave, and the target's first is the primary again. With fewer
//      failure domains than copies, nobody who is in sync leaves.
//   3. Whoever of the target is up and not in `osds` is `joining`.
// Every change of either list, or of the shard of a member, gives the group the map's epoch.
// Nothing else moves.
//
// A pause of rebalancing: the target of a group is then whom it has in sync (pausedTarget). Where
// that is fewer than it should be, those who left meanwhile come back to it, unless they are out;
// what nobody brings back goes to OSDs of the usual target, in failure domains that have nobody
// else. So a group that is whole stays as it is, and a short absence moves nothing. Whoever was
// joining only to take over what others have is no member any more, and what it has got is removed
// there: a member that is kept and given no data would have to be sent every write all the same, or
// be looked at all over in the end. So a move that is interrupted begins anew.
//
// Who comes into `osds`: the first list, and members that the primary reports as equal
// (group_report.cc). So every member holds every acknowledged write, or its shard of it.
//
// `complete`. Three OSDs of a group lose power together, and are called down one after another:
// the one heard last is then the only one in sync, and if it alone never returns, two whole copies
// would be worth nothing. But since the group has had fewer in sync than minSize, it has
// acknowledged no mutation (PoolInfo.minSize), so whoever left in that time by being down still
// holds all of them. These are remembered, and return as soon as they are up when those in sync who
// are up are fewer than Pool::needed(): no copy, or too few shards to read anything. Nobody serves
// the group then, so nothing changes in it. A member that left by report lacks a mutation, and is
// never among them.
// Copies that return replace those that are gone. Shards that return join those that are left, and
// may lack a mutation that was begun and not acknowledged. So the primary of an erasure-coded group
// that finds such a one has them forgotten first, by report, before it makes it.
//
// Shards, of an erasure-coded pool. What counts as in sync is different shards
// (PlacementGroup::inSync), and members are not like each other:
//   - The first of the first list holds shard 0, and so on. After that, whoever has a shard keeps
//     it, down or up, as long as it is in one of the lists or in the target: it only has to catch
//     up when it is back. The primary may hold any shard.
//   - Who comes into the target gets a shard that nobody else in the target holds. A surplus member
//     may hold it: the shard moves from it to the newcomer, and both are members until that is in
//     sync and rule 2 holds.
//   - Members of the target hold different shards, or the target could be wholly in sync with
//     a shard missing. Where changes of the target bring two holders of one shard together, the
//     one in sync keeps it, and the other begins anew with another.
#pragma once

#include "mds/cluster/placement.h"
#include "mds/state/state.h"

namespace cairn::mds::ops {

// Makes the next epoch of `cluster` and applies the rule to all groups. Groups without a list get
// their target, once it has full width: nobody may write to half a group. While no chunk was ever
// made that is done to all groups, so that every OSD that comes gets its share at once.
void newEpoch(ClusterState& cluster, const Counters& counters);

// The rule, to one group that has a list; the epochs are the caller's. `placed` is where it
// belongs, `away` its list of ClusterState.
void settle(const ClusterMap& map, const Pool& pool, const std::vector<OsdId>& placed,
            PlacementGroup& group, std::vector<OsdId>& away);

// The same to a group of the cluster, that is to become `next`: who is not in its `osds` any more
// has failed.
void settle(ClusterState& cluster, const Pool& pool, PgIndex index,
            const std::vector<OsdId>& placed, PlacementGroup& next);

// Who the members of a group are to be while rebalancing is paused.
std::vector<OsdId> pausedTarget(const ClusterMap& map, const Pool& pool,
                                const std::vector<OsdId>& placed, const PlacementGroup& group,
                                const std::vector<OsdId>& away);

// An OSD serves (again): in, too, if it is out only because it was away for long.
inline void comeUp(OsdEntry& osd) {
  osd.up = true;
  osd.in = osd.in || osd.autoOut;
  osd.autoOut = false;
}

}  // namespace cairn::mds::ops
