// Makes the database durable and trims the log behind it: when the log is half full, and at the
// latest some time after a change, so that the next start replays little. One reactor thread.
#pragma once

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "mds/log/command_log.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

class Checkpointer {
 public:
  // All outlive it.
  Checkpointer(Env& env, StateMachine& state, CommandLog& log);

  // After commands were applied: wakes it if the log fills up.
  void noteAppended();
  // Runs until stop(); ends with the database's error if there is one.
  Task<Result<void>> run();
  void stop();
  // Once, now.
  Task<Result<void>> checkpoint();

 private:
  StateMachine& state_;
  CommandLog& log_;
  LogIndex trimmed_;
  Event work_;
  bool stopped_ = false;
};

}  // namespace cairn::mds
