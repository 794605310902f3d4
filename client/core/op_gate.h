// Counts the operations of callers, so that the end of the mount can refuse new ones and wait for
// those that run. One reactor thread.
#pragma once

#include "common/base/result.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class OpGate {
 public:
  explicit OpGate(Reactor& reactor) : left_(reactor) {}
  OpGate(const OpGate&) = delete;
  OpGate& operator=(const OpGate&) = delete;

  // Held by an operation while it runs.
  class Pass {
   public:
    explicit Pass(OpGate& gate) : gate_(gate) { ++gate_.running_; }
    ~Pass() {
      if (--gate_.running_ == 0) gate_.left_.fire();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    // kCanceled once the gate is closed.
    [[nodiscard]] Result<void> admitted() const {
      if (gate_.closed_) return fail(Errc::kCanceled, "unmounting");
      return {};
    }

   private:
    OpGate& gate_;
  };

  void close() { closed_ = true; }
  Task<void> drained() {
    while (running_ != 0) co_await left_.wait();
  }

 private:
  size_t running_ = 0;
  bool closed_ = false;
  Pulse left_;
};

}  // namespace cairn::client
