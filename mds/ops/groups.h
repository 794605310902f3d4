// Placement groups of the map that an operation changes.
#pragma once

#include "mds/state/state.h"

namespace cairn::mds::ops {

// Makes the next epoch of `cluster` and fills the groups that never had all their OSDs. A group
// that is complete is not touched, whatever registers or goes down: its chunks would have to move,
// which is recovery's work, not placement's. An incomplete group stays empty, so that nobody can
// write to it: what it will be is not settled.
void newEpoch(ClusterState& cluster);

}  // namespace cairn::mds::ops
