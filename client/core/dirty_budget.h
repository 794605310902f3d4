// The memory that all files of a mount together may hold as dirty data. Writers wait for room; a
// single write may overshoot, so that one larger than the budget still gets through. One reactor
// thread.
#pragma once

#include <cstdint>
#include <functional>

#include "common/base/result.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class DirtyBudget {
 public:
  DirtyBudget(Reactor& reactor, uint64_t limitBytes) : limit_(limitBytes), freed_(reactor) {}

  // Waits until there is room, or `waived` says that it is not needed. kCanceled once `stop` is
  // set. When either may have changed, call wake().
  Task<Result<void>> admit(Event& stop, std::function<bool()> waived) {
    if (idle_ != 0 && used_ >= limit_ / 2) onPressure();
    while (used_ >= limit_ && !waived()) {
      if (stop.isSet()) co_return fail(Errc::kCanceled, "unmounting");
      co_await freed_.wait();
      if (idle_ != 0 && used_ >= limit_ / 2) onPressure();
    }
    co_return Result<void>{};
  }
  void take(uint64_t bytes) { used_ += bytes; }
  void give(uint64_t bytes) {
    used_ -= bytes;
    freed_.fire();
  }
  void takeIdle(uint64_t bytes) { idle_ += bytes; }
  void giveIdle(uint64_t bytes) { idle_ -= bytes; }
  void wake() { freed_.fire(); }

  [[nodiscard]] uint64_t usedBytes() const { return used_; }
  // Of it, what nobody has asked to flush yet.
  [[nodiscard]] uint64_t idleBytes() const { return idle_; }
  [[nodiscard]] uint64_t limitBytes() const { return limit_; }

  // Called when half of the budget is used: start flushing what is idle.
  std::function<void()> onPressure;

 private:
  const uint64_t limit_;
  uint64_t used_ = 0;
  uint64_t idle_ = 0;
  Pulse freed_;
};

}  // namespace cairn::client
