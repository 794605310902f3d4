// Which cluster a seed gets: what it stores is kept as copies or as shards of a code, and every
// scenario that says nothing of that must hold for both.
#pragma once

#include "test/sim/sim_cluster.h"

namespace cairn::sim::test {

// Two copies or three, on three OSDs.
ClusterOptions fewOsds(uint64_t seed);
// Odd seeds: three copies. Even ones: 4+2, or 2+1, or 3+2, whose last stripe is cut off by the end
// of the chunk; in half of them changes are taken with just what the data needs. There are `more`
// OSDs than a group has members.
ClusterOptions copiesOrShards(uint64_t seed, size_t more, Duration outAfter = 10min);

// How many OSDs the scenarios send away at once: everything can still be read.
size_t mayBeAway(const ClusterOptions& options);

}  // namespace cairn::sim::test
