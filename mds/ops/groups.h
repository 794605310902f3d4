// Placement groups of the map that an operation changes.
#pragma once

#include "mds/state/state.h"

namespace cairn::mds::ops {

// Makes the next epoch of `cluster` and fills the groups that never had all their OSDs. An
// incomplete group stays empty, so that nobody can write to it: what it will be is not settled.
// While no chunk was ever made, every OSD that comes gets its share of all groups. After that a
// group that is complete is not touched, whatever registers or goes down: its chunks would have to
// move, which is recovery's work, not placement's.
void newEpoch(ClusterState& cluster, const Counters& counters);

}  // namespace cairn::mds::ops
