#include "common/sim/sim_reactor.h"

#include <algorithm>

#include "common/sim/sim_world.h"

namespace cairn::sim {

TimePoint SimClock::now() const {
  const int64_t elapsed = (world_.now() - kWorldStart).count();
  // In two parts, so that the product does not overflow and time stays monotonic.
  const int64_t drift =
      elapsed / 1'000'000 * driftPpm_ + elapsed % 1'000'000 * driftPpm_ / 1'000'000;
  return kWorldStart + Duration(elapsed + drift);
}

WallNs SimClock::wallNow() const {
  return kWorldWallStart + (now() - kWorldStart).count() + wallOffset_.count();
}

TimePoint SimClock::worldTime(TimePoint local) const {
  if (driftPpm_ == 0) return local;
  const double rate = 1.0 + static_cast<double>(driftPpm_) / 1e6;
  const auto elapsed = static_cast<double>((local - kWorldStart).count()) / rate;
  return kWorldStart + Duration(static_cast<int64_t>(elapsed) + 1000);  // never early
}

SimReactor::SimReactor(SimWorld& world, uint64_t nodeId, Duration wallOffset, int64_t driftPpm)
    : world_(world), nodeId_(nodeId), clock_(world, wallOffset, driftPpm) {}

void SimReactor::post(std::coroutine_handle<> h) {
  ready_.push_back({h, {}});
  schedule();
}

void SimReactor::call(std::function<void()> f) {
  ready_.push_back({{}, std::move(f)});
  schedule();
}

void SimReactor::offload(std::function<void()> work, Completion& done) {
  work();
  Duration latency = offloadLatency;
  if (latency > Duration::zero())
    latency += Duration(world_.random().below(static_cast<uint64_t>(latency.count())));
  world_.schedule(latency, [this, &done] { call([&done] { done.complete(0); }); });
}

void SimReactor::schedule() {
  if (scheduled_ || paused_) return;
  scheduled_ = true;
  world_.schedule(Duration::zero(), [this] {
    scheduled_ = false;
    run();
  });
}

void SimReactor::resume() {
  if (!paused_) return;
  paused_ = false;
  if (!ready_.empty()) schedule();
  noteTimers();
}

void SimReactor::run() {
  if (paused_) return;
  fireTimers(clock_.now());
  // What these post runs in another event, so that other nodes get their turn at this instant.
  size_t n = ready_.size();
  world_.trace(TraceKind::kRun, nodeId_, n);
  for (; n != 0 && !paused_; --n) {
    Item item = std::move(ready_.front());
    ready_.pop_front();
    if (item.handle)
      item.handle.resume();
    else
      item.call();
  }
  if (!ready_.empty()) schedule();
  noteTimers();
}

void SimReactor::noteTimers() {
  if (paused_ || timers_.empty()) return;
  const TimePoint at = std::max(clock_.worldTime(timers_.begin()->first), world_.now());
  if (wakeAt_ && *wakeAt_ <= at) return;
  wakeAt_ = at;
  world_.scheduleAt(at, [this, at] {
    if (wakeAt_ != at) return;  // an earlier one took its place
    wakeAt_.reset();
    run();
    noteTimers();
  });
}

}  // namespace cairn::sim
