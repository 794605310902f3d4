// A session is over, closed or expired: it holds no orphan any longer and its remembered answers
// go. Ending one that is unknown (ended before) succeeds.
#include <algorithm>

#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> sessionEnd(OpContext& ctx, schema::SessionEnd::Reader args) {
  const SessionId session(args.getSession());
  const State& state = ctx.state();
  if (!state.sessions.contains(session)) return {};
  // Those that nobody holds now are left to purge: their number has no bound.
  for (const auto& [ino, heldBy] : state.orphans) {
    auto holders = heldBy;
    if (std::erase(holders, session) != 0) ctx.setOrphan(ino, std::move(holders));
  }
  ctx.endSession(session);
  return {};
}

}  // namespace cairn::mds::ops
