#include "common/reactor/sync.h"

#include <cstdio>
#include <cstdlib>

namespace cairn {

// ---- Timer and the timers of a reactor ----

Timer::~Timer() {
  disarm();
}

void Timer::arm(TimePoint when) {
  disarm();
  position_ = reactor_.timers_.emplace(when, this);
  armed_ = true;
}

void Timer::disarm() {
  if (!armed_) return;
  reactor_.timers_.erase(position_);
  armed_ = false;
}

size_t Reactor::fireTimers(TimePoint now) {
  size_t fired = 0;
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Timer* t = timers_.begin()->second;
    t->disarm();
    t->fire();
    ++fired;
  }
  return fired;
}

namespace {

struct SleepAwaiter final : Timer {
  SleepAwaiter(Reactor& r, TimePoint until) : Timer(r), reactor(r), when(until) {}
  Reactor& reactor;
  TimePoint when;
  std::coroutine_handle<> handle;
  bool await_ready() { return false; }
  void await_suspend(std::coroutine_handle<> h) {
    handle = h;
    arm(when);
  }
  void await_resume() {}
  void fire() override { reactor.post(handle); }
};

struct OffloadAwaiter final : Completion {
  OffloadAwaiter(Reactor& r, std::function<void()> w) : reactor(r), work(std::move(w)) {}
  Reactor& reactor;
  std::function<void()> work;
  std::coroutine_handle<> handle;
  std::exception_ptr error;
  bool await_ready() { return false; }
  void await_suspend(std::coroutine_handle<> h) {
    handle = h;
    reactor.offload([this] { runWork(); }, *this);
  }
  void await_resume() {
    if (error) std::rethrow_exception(error);
  }
  void runWork() {
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
  }
  void complete(int64_t) override { handle.resume(); }
};

}  // namespace

Task<void> sleepFor(Reactor& reactor, Duration duration) {
  SleepAwaiter a(reactor, reactor.now() + duration);
  co_await a;
}

Task<void> offloaded(Reactor& reactor, std::function<void()> work) {
  OffloadAwaiter a(reactor, std::move(work));
  co_await a;
}

// ---- Event ----

struct Event::Waiter final : Timer {
  explicit Waiter(Event& e) : Timer(e.reactor_), event(e) {}
  Event& event;
  std::optional<TimePoint> until;
  std::coroutine_handle<> handle;
  std::list<Waiter*>::iterator position;
  bool woken = false;

  bool await_ready() { return event.set_; }
  void await_suspend(std::coroutine_handle<> h) {
    handle = h;
    position = event.waiters_.insert(event.waiters_.end(), this);
    if (until) arm(*until);
  }
  bool await_resume() { return woken || !handle; }
  void fire() override {
    event.waiters_.erase(position);
    event.reactor_.post(handle);
  }
};

Event::~Event() {
  CAIRN_ASSERT(waiters_.empty(), "an event outlives its waiters");
}

void Event::set() {
  set_ = true;
  while (!waiters_.empty()) {
    Waiter* w = waiters_.front();
    waiters_.pop_front();
    w->disarm();
    w->woken = true;
    reactor_.post(w->handle);
  }
}

Task<void> Event::wait() {
  Waiter w(*this);
  co_await w;
}

Task<bool> Event::waitFor(Duration duration) {
  Waiter w(*this);
  w.until = reactor_.now() + duration;
  co_return co_await w;
}

// ---- Semaphore, AsyncMutex ----

Semaphore::~Semaphore() {
  CAIRN_ASSERT(waiters_.empty(), "a semaphore outlives its waiters");
}

void Semaphore::release(uint64_t n) {
  free_ += n;
  while (!waiters_.empty() && waiters_.front().n <= free_) {
    free_ -= waiters_.front().n;
    reactor_.post(waiters_.front().handle);
    waiters_.pop_front();
  }
}

Task<AsyncMutex::Guard> AsyncMutex::lock() {
  co_await semaphore_.acquire();
  co_return Guard(&semaphore_);
}

// ---- RangeLock ----

RangeLock::~RangeLock() {
  CAIRN_ASSERT(held_.empty(), "a range lock outlives its holders");
}

bool RangeLock::blocked(const Held& h) const {
  for (const auto& o : held_) {
    if (o.id == h.id) return false;  // only earlier arrivals count
    if (o.from < h.to && h.from < o.to && (o.exclusive || h.exclusive)) return true;
  }
  return false;
}

Task<RangeLock::Guard> RangeLock::lock(uint64_t from, uint64_t to, bool exclusive) {
  held_.push_back({nextId_++, from, to, exclusive, false, {}});
  auto it = std::prev(held_.end());
  uint64_t id = it->id;
  if (!blocked(*it)) {
    it->granted = true;
  } else {
    struct Awaiter {
      Held& held;
      bool await_ready() { return false; }
      void await_suspend(std::coroutine_handle<> h) { held.waiter = h; }
      void await_resume() {}
    };
    co_await Awaiter{*it};
  }
  co_return Guard(this, id);
}

void RangeLock::release(uint64_t id) {
  for (auto it = held_.begin(); it != held_.end(); ++it)
    if (it->id == id) {
      held_.erase(it);
      break;
    }
  for (auto& h : held_)
    if (!h.granted && !blocked(h)) {
      h.granted = true;
      reactor_.post(h.waiter);
    }
}

// ---- TaskScope ----

struct TaskScope::Detached {
  struct promise_type {
    Detached get_return_object() {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;
};

TaskScope::Detached TaskScope::run(TaskScope& scope, Task<void> task) {
  {
    Task<void> t = std::move(task);
    co_await std::move(t);
  }
  if (--scope.running_ == 0) scope.idle_.set();
}

TaskScope::~TaskScope() {
  CAIRN_ASSERT(running_ == 0, "a task scope is joined before it dies");
}

void TaskScope::spawn(Task<void> task) {
  ++running_;
  idle_.reset();
  reactor_.post(run(*this, std::move(task)).handle);
}

Task<void> TaskScope::join() {
  while (running_ != 0) co_await idle_.wait();
}

namespace {
Task<void> runOrCatch(Task<void> task, std::exception_ptr& error) {
  try {
    co_await std::move(task);
  } catch (...) {
    error = std::current_exception();
  }
}
}  // namespace

void detail::throwFirst(const std::vector<std::exception_ptr>& errors) {
  for (const auto& e : errors)
    if (e) std::rethrow_exception(e);
}

Task<void> whenAll(Reactor& reactor, std::vector<Task<void>> tasks) {
  std::vector<std::exception_ptr> errors(tasks.size());
  TaskScope scope(reactor);
  for (size_t i = 0; i < tasks.size(); ++i) scope.spawn(runOrCatch(std::move(tasks[i]), errors[i]));
  co_await scope.join();
  detail::throwFirst(errors);
}

}  // namespace cairn
