// The reactor of one simulated process. All its code runs inside run(), which the world calls as an
// event; while it is paused (SIGSTOP) nothing of it runs and everything waits in order.
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "common/reactor/reactor.h"

namespace cairn::sim {

class SimWorld;

// Simulated time as one process sees it: its wall clock may be off and its crystal may drift.
class SimClock final : public Clock {
 public:
  SimClock(const SimWorld& world, Duration wallOffset, int64_t driftPpm)
      : world_(world), wallOffset_(wallOffset), driftPpm_(driftPpm) {}
  [[nodiscard]] TimePoint now() const override;
  [[nodiscard]] WallNs wallNow() const override;
  // The world's time at which now() has reached `local`.
  [[nodiscard]] TimePoint worldTime(TimePoint local) const;
  void setWallOffset(Duration offset) { wallOffset_ = offset; }

 private:
  const SimWorld& world_;
  Duration wallOffset_;
  int64_t driftPpm_;
};

class SimReactor final : public Reactor {
 public:
  SimReactor(SimWorld& world, uint64_t nodeId, Duration wallOffset, int64_t driftPpm);

  [[nodiscard]] Clock& clock() override { return clock_; }
  [[nodiscard]] SimClock& simClock() { return clock_; }
  void post(std::coroutine_handle<> h) override;
  // Runs `work` at once; `done` is completed after `offloadLatency` (plus as much at random).
  void offload(std::function<void()> work, Completion& done) override;
  // Calls `f` from the loop, in order with what was posted.
  void call(std::function<void()> f);

  void pause() { paused_ = true; }
  void resume();
  [[nodiscard]] bool paused() const { return paused_; }
  // Takes note of timers that were armed from outside the loop.
  void noteTimers();

  Duration offloadLatency = 50us;

 private:
  struct Item {
    std::coroutine_handle<> handle;
    std::function<void()> call;  // when there is no handle
  };
  void schedule();
  void run();

  SimWorld& world_;
  const uint64_t nodeId_;
  SimClock clock_;
  std::deque<Item> ready_;
  std::optional<TimePoint> wakeAt_;  // of the earliest wake-up in the world's queue
  bool scheduled_ = false;
  bool paused_ = false;
};

}  // namespace cairn::sim
