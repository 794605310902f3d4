// The reactor: one a thread, share nothing. Sockets, disks, timers and the FUSE descriptor of a
// thread are driven by one Reactor, and all coroutines of that thread run on it. Two
// implementations: UringReactor (the kernel) and sim::SimReactor (simulated time, see common/sim).
// No function here may be called from another thread.
#pragma once

#include <coroutine>
#include <functional>
#include <map>

#include "common/base/units.h"
#include "common/reactor/clock.h"
#include "common/reactor/task.h"

namespace cairn {

// Told once, on the reactor's thread, from the loop itself (never from inside the call that
// submitted), that an operation has ended. `result` is what the kernel says: >= 0, or -errno. The
// object must live until then.
class Completion {
 public:
  virtual void complete(int64_t result) = 0;

 protected:
  ~Completion() = default;
};

// A one-shot timer. Owned by the waiter; disarmed by its destructor.
class Timer {
 public:
  explicit Timer(class Reactor& reactor) : reactor_(reactor) {}
  virtual ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(TimePoint when);
  void disarm();
  [[nodiscard]] bool armed() const { return armed_; }
  virtual void fire() = 0;  // from the loop, after the timer was taken off

 private:
  friend class Reactor;
  Reactor& reactor_;
  std::multimap<TimePoint, Timer*>::iterator position_;
  bool armed_ = false;
};

class Reactor {
 public:
  virtual ~Reactor() = default;
  [[nodiscard]] virtual Clock& clock() = 0;
  // Resumes `h` from the loop, in the order of posting, after what is running now has suspended.
  virtual void post(std::coroutine_handle<> h) = 0;
  // Runs `work` on a small pool of threads (in simulation: inline, at once) and then completes
  // `done` on the loop. For what blocks: LevelDB sync and open, large compression. `work` must not
  // touch anything of the reactor.
  virtual void offload(std::function<void()> work, Completion& done) = 0;

  [[nodiscard]] TimePoint now() { return clock().now(); }
  [[nodiscard]] WallNs wallNow() { return clock().wallNow(); }

 protected:
  // For implementations: the armed timers in order of time. Timers armed for one instant fire in
  // arming order.
  std::multimap<TimePoint, Timer*> timers_;
  // Takes off and fires every timer due at `now`. Returns how many fired.
  size_t fireTimers(TimePoint now);

 private:
  friend class Timer;
};

// `co_await sleepFor(reactor, 10ms)`. Cannot be cut short; use Event::waitFor where shutdown must
// end the wait.
Task<void> sleepFor(Reactor& reactor, Duration duration);

// `co_await offloaded(reactor, [..] { ... })`: the lambda runs on a pool thread, to its end. What
// it throws comes out of the await.
Task<void> offloaded(Reactor& reactor, std::function<void()> work);

}  // namespace cairn
