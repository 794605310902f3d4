// A session is over, closed or expired: it holds no orphan any longer and its remembered answers
// go. One that expired may still be at work somewhere, and is fenced: a new epoch of the map says
// that OSDs refuse it. Ending one that is unknown (ended before) succeeds and does nothing.
#include <algorithm>

#include "mds/ops/ops.h"

namespace cairn::mds::ops {
namespace {

// The fence covers all sessions that ended below the last one that expired: those that ended by
// themselves too, which have nothing left to ask of an OSD. So it grows with the sessions that
// live, not with those that were.
void fenceOff(OpContext& ctx, SessionId expired) {
  ClusterState& cluster = ctx.changeCluster();
  Fence& fence = cluster.map.fence;
  fence.below = std::max(fence.below, SessionId(expired.value + 1));
  fence.alive.clear();
  for (const auto& [id, session] : ctx.state().sessions)
    if (id < fence.below && id != expired) fence.alive.insert(fence.alive.end(), id);
  ++cluster.map.epoch.value;  // no group has reason to change
  cluster.fenceEpoch = cluster.map.epoch;
}

}  // namespace

Result<void> sessionEnd(OpContext& ctx, schema::SessionEnd::Reader args) {
  const SessionId session(args.getSession());
  const State& state = ctx.state();
  if (!state.sessions.contains(session)) return {};
  // Those that nobody holds now are left to purge: their number has no bound.
  for (const auto& [ino, heldBy] : state.orphans) {
    auto holders = heldBy;
    if (std::erase(holders, session) != 0) ctx.setOrphan(ino, std::move(holders));
  }
  if (args.getExpired()) fenceOff(ctx, session);
  ctx.endSession(session);
  return {};
}

}  // namespace cairn::mds::ops
