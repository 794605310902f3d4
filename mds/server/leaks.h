// Removes chunks that OSDs store and nothing names, when an administrator says which they seem to
// be (`cairn fsck --repair`). Nobody is believed: what is removed was looked for here, in all chunk
// maps and in the garbage queue, page by page beside everything else. Why a chunk that was not
// found then is in none for ever: mds/ops/chunks_leaked.cc. One reactor thread.
#pragma once

#include <vector>

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "mds/server/caller.h"
#include "mds/server/proposer.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

struct Suspect {
  ChunkId chunk;
  PoolId pool;
};

struct Leaked {
  std::vector<Suspect> chunks;  // ascending
  ChunkId below;                // ids were given out up to here when the look began
};

// Those of `suspects` that nothing names. What is not among them either: ids of the future, and
// chunks of pools that do not exist. Between pages of `page` records others have their turn.
// `state` and `caller` outlive it; kUnavailable when the caller is gone.
Task<Result<Leaked>> findLeaked(Reactor& reactor, StateMachine& state,
                                std::vector<Suspect> suspects, const Caller& caller,
                                size_t page = 1024);

class Leaks {
 public:
  // All outlive it.
  Leaks(Env& env, StateMachine& state, Proposer& proposer)
      : env_(env), state_(state), proposer_(proposer), turn_(env.reactor, 1) {}

  // Puts those of `suspects` that nothing names into the garbage queue, durably when it completes,
  // and gives their ids. One after another: none comes into the queue twice.
  Task<Result<std::vector<ChunkId>>> remove(std::vector<Suspect> suspects, const Caller& caller);

 private:
  Task<Result<std::vector<ChunkId>>> removeAlone(std::vector<Suspect> suspects,
                                                 const Caller& caller);

  Env& env_;
  StateMachine& state_;
  Proposer& proposer_;
  Semaphore turn_;
};

}  // namespace cairn::mds
