// A reactor whose time stands still until the test moves it: for what depends on the order of
// events. It has no descriptors; offloaded work runs at once.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "common/reactor/sync.h"

namespace cairn {

class ManualReactor final : public Reactor, private Clock {
 public:
  Clock& clock() override { return *this; }
  void post(std::coroutine_handle<> h) override { ready_.push_back(h); }
  void offload(std::function<void()> work, Completion& done) override {
    work();
    ended_.push_back(&done);
  }

  // Starts `task` in the scope that this reactor keeps for tests.
  void start(Task<void> task) { scope_.spawn(std::move(task)); }
  [[nodiscard]] size_t running() const { return scope_.size(); }

  // Runs everything that can run without time passing.
  void settle() {
    while (!ready_.empty() || !ended_.empty()) {
      for (auto h : std::exchange(ready_, {})) h.resume();
      for (auto* c : std::exchange(ended_, {})) c->complete(0);
    }
  }
  // Fires due timers without running what they woke.
  size_t passWithoutRunning(Duration d) {
    time_ += d;
    return fireTimers(time_);
  }
  void pass(Duration d) {
    passWithoutRunning(d);
    settle();
  }

 private:
  [[nodiscard]] TimePoint now() const override { return time_; }
  [[nodiscard]] WallNs wallNow() const override { return time_.time_since_epoch().count(); }

  TimePoint time_{std::chrono::hours(1)};
  std::vector<std::coroutine_handle<>> ready_;
  std::vector<Completion*> ended_;
  TaskScope scope_{*this};
};

}  // namespace cairn
