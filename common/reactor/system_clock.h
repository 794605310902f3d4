// The machine's clocks. The only place, beside clock.cc, that asks the system for time; made in
// main() and handed down as a Clock. Any thread.
#pragma once

#include "common/reactor/clock.h"

namespace cairn {

class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override;   // CLOCK_MONOTONIC
  [[nodiscard]] WallNs wallNow() const override;  // CLOCK_REALTIME
};

}  // namespace cairn
