// Finishes what removals leave behind: orphans. Tells the state machine of holders that hold an
// orphan no longer, and purges those that nobody holds, in steps. One reactor thread.
//
// It compares the orphans of the state machine with the open table rather than following single
// releases: whatever was missed or lost in a crash is found by the next look.
#pragma once

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "mds/server/proposer.h"
#include "mds/server/sessions.h"

namespace cairn::mds {

class OrphanKeeper {
 public:
  // All outlive it.
  OrphanKeeper(Env& env, StateMachine& state, Proposer& proposer, const Sessions& sessions);

  // Something may have become an orphan, or an orphan may have lost a holder.
  void kick() { work_.set(); }
  // Runs until stop().
  Task<void> run();
  void stop();

 private:
  Task<void> pass();
  Task<Result<void>> release(InodeId ino, SessionId session);
  Task<Result<void>> purge(InodeId ino);

  StateMachine& state_;
  Proposer& proposer_;
  const Sessions& sessions_;
  Event work_, stopped_;
};

}  // namespace cairn::mds
