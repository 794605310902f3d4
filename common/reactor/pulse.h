// Wakes everyone who waits at the moment it fires; those who come later wait for the next time. The
// condition variable of a reactor: waiters check their condition in a loop.
#pragma once

#include "common/reactor/sync.h"

namespace cairn {

// Goes to the end of the reactor's queue.
inline auto yield(Reactor& reactor) {
  struct Awaiter {
    Reactor& r;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> h) const { r.post(h); }
    void await_resume() const {}
  };
  return Awaiter{reactor};
}

class Pulse {
 public:
  explicit Pulse(Reactor& reactor) : event_(reactor) {}
  void fire() {
    event_.set();
    event_.reset();
  }
  Task<void> wait() { return event_.wait(); }
  // For Retry::pause, which may end early.
  [[nodiscard]] Event& event() { return event_; }

 private:
  Event event_;
};

}  // namespace cairn
