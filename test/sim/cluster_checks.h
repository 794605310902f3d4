// What must hold of a whole cluster at rest: no mount is left, all daemons are up. Called from the
// test's main flow; what does not hold fails the test.
#pragma once

#include "test/sim/sim_cluster.h"

namespace cairn::sim::test {

enum class Equality : uint8_t {
  kExact,      // every block and version: nothing was ever left half done
  kBelowSize,  // the bytes of files: a mount died, and what it wrote behind an end may differ
};

// Deleted chunks are gone, orphans too, every group has all its copies or shards and what OSDs hold
// of others is removed, and no change of a stripe is staged, soon.
void checkDrained(SimCluster& cluster);
// The MDS's invariants hold.
void checkState(SimCluster& cluster);
// OSDs store what the MDS knows of and nothing else, and all members of a group the same, or each
// its own shard of the same.
void checkReplicas(SimCluster& cluster, Equality equality);
// The daemons end, and the offline checker finds nothing.
void checkStores(SimCluster& cluster);

}  // namespace cairn::sim::test
