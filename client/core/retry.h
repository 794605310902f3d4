// The waiting between the attempts of one operation: 20 ms, doubled up to 1 s, with jitter so that
// clients that lost the same daemon do not come back at the same instant. One reactor thread; lives
// in the frame of the operation that it serves.
#pragma once

#include "common/base/env.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/reactor/sync.h"

namespace cairn::client {

class Retry {
 public:
  // `what` names the operation's peer for the log, as a literal. `patience`: give up after so long;
  // 0 = never. `stop` ends every wait.
  Retry(Env& env, Event& stop, Duration patience, const char* what);

  // Waits after an attempt failed with `why`. kCanceled when stopping; kIo, with `why` in its text,
  // once patience is over. `early`, when set, ends the wait sooner; its owner sets it also when
  // stopping.
  Task<Result<void>> pause(Error why, Event* early = nullptr);
  // How long the next attempt may take: `usual`, or what is left of the patience.
  [[nodiscard]] Duration limit(Duration usual) const;

 private:
  Env& env_;
  Event& stop_;
  const Duration patience_;
  const char* what_;
  const TimePoint started_;
  Duration next_;
  bool told_ = false;
};

}  // namespace cairn::client
