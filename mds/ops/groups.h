// Placement groups of the map that an operation changes: who is in sync, who joins.
//
// The rule, for a group that has a list:
//   1. Who is down leaves `osds`. If nobody of it is up, it stays as it is: nobody else may hold
//      every acknowledged write. The exception is `complete`, below.
//   2. When a target of full width is in `osds` altogether, `osds` becomes the target, in its
//      order: surplus members leave, and the target's first is the primary again. With fewer
//      failure domains than copies, nobody who is in sync leaves.
//   3. Whoever of the target is up and not in `osds` is `joining`.
// Every change of either list gives the group the map's epoch. Nothing else moves.
//
// Who comes into `osds`: the first list, and members that the primary reports as equal
// (group_report.cc). So every member holds every acknowledged write.
//
// `complete`. Three OSDs of a group lose power together, and are called down one after another:
// the one heard last is then the only one in sync, and if it alone never returns, two whole copies
// would be worth nothing. But since the group has had fewer members than minSize, it has
// acknowledged no mutation (PoolInfo.minSize), so whoever left in that time by being down still
// holds all of them. These are remembered, and take over when nobody in sync is up. A member that
// left by report lacks a mutation, and is never among them.
#pragma once

#include "mds/cluster/placement.h"
#include "mds/state/state.h"

namespace cairn::mds::ops {

// Makes the next epoch of `cluster` and applies the rule to all groups. Groups without a list get
// their target, once it has full width: nobody may write to half a group. While no chunk was ever
// made that is done to all groups, so that every OSD that comes gets its share at once.
void newEpoch(ClusterState& cluster, const Counters& counters);

// The rule, to one group that has a list; the epochs are the caller's.
void settle(const ClusterMap& map, const Pool& pool, const std::vector<OsdId>& target,
            PlacementGroup& group);

// An OSD serves (again): in, too, if it is out only because it was away for long.
inline void comeUp(OsdEntry& osd) {
  osd.up = true;
  osd.in = osd.in || osd.autoOut;
  osd.autoOut = false;
}

}  // namespace cairn::mds::ops
