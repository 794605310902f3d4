// What the world does to the daemons of a cluster and to the network between all of it.
#pragma once

#include <functional>
#include <vector>

#include "test/sim/run.h"

namespace cairn::sim::test {

Duration upTo(SimWorld& world, Duration most);
// SIGKILL of a daemon at a random moment, and its restart some time later.
void killDaemon(Load& load);
// A fault of the network, a slow disk, or a process that stands still, for up to `most`.
void disturb(Load& load, Duration most);

// In the middle of a change of a stripe, if one is made soon; at once in a cluster without them.
void untilStaged(Load& load);
// Different ones, at random.
std::vector<size_t> someOsds(SimCluster& cluster, size_t count);
// These OSDs die or stand still, each one or the other, while `meanwhile` goes on, and return.
void sendAway(SimCluster& cluster, const std::vector<size_t>& which,
              const std::function<void()>& meanwhile);
// Up to `most` OSDs at once are away for longer than their lease, while the rest goes on.
void longAbsence(Load& load, size_t most);

}  // namespace cairn::sim::test
