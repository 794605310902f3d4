// What coroutines of one reactor wait on. Nothing here is thread-safe; nothing here is fair beyond
// first come, first served. Woken coroutines are posted, never resumed inside the waking call.
#pragma once

#include <coroutine>
#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "common/base/result.h"
#include "common/reactor/reactor.h"

namespace cairn {

// A latch: wait() returns once set() was called; reset() closes it again.
class Event {
 public:
  explicit Event(Reactor& reactor) : reactor_(reactor) {}
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set();
  void reset() { set_ = false; }
  [[nodiscard]] bool isSet() const { return set_; }
  // Waits until set.
  Task<void> wait();
  // Waits until set or until `duration` has passed; true when set. The wait that a shutdown can
  // end.
  Task<bool> waitFor(Duration duration);

 private:
  struct Waiter;
  Reactor& reactor_;
  std::list<Waiter*> waiters_;
  bool set_ = false;
};

// Counts permits; acquire() waits while fewer than `n` are free. Waiters are served in order, so
// that a large request is not starved by small ones.
class Semaphore {
 public:
  Semaphore(Reactor& reactor, uint64_t permits) : reactor_(reactor), free_(permits) {}
  ~Semaphore();
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Asking for more than there will ever be waits for ever: callers cap `n` at the total.
  auto acquire(uint64_t n = 1) {
    struct Awaiter {
      Semaphore& s;
      uint64_t n;
      bool await_ready() {
        if (!s.waiters_.empty() || s.free_ < n) return false;
        s.free_ -= n;
        return true;
      }
      void await_suspend(std::coroutine_handle<> h) { s.waiters_.push_back({h, n}); }
      void await_resume() {}
    };
    return Awaiter{*this, n};
  }
  void release(uint64_t n = 1);
  [[nodiscard]] uint64_t available() const { return free_; }

 private:
  struct Waiting {
    std::coroutine_handle<> handle;
    uint64_t n;
  };
  Reactor& reactor_;
  uint64_t free_;
  std::deque<Waiting> waiters_;
};

// `auto lock = co_await mutex.lock();` The guard unlocks when it dies.
class AsyncMutex {
 public:
  explicit AsyncMutex(Reactor& reactor) : semaphore_(reactor, 1) {}
  class Guard {
   public:
    Guard() = default;
    explicit Guard(Semaphore* s) : semaphore_(s) {}
    Guard(Guard&& o) noexcept : semaphore_(std::exchange(o.semaphore_, nullptr)) {}
    Guard& operator=(Guard&& o) noexcept {
      unlock();
      semaphore_ = std::exchange(o.semaphore_, nullptr);
      return *this;
    }
    ~Guard() { unlock(); }
    void unlock() {
      if (auto* s = std::exchange(semaphore_, nullptr)) s->release();
    }

   private:
    Semaphore* semaphore_ = nullptr;
  };
  Task<Guard> lock();

 private:
  Semaphore semaphore_;
};

// Locks byte (or block) ranges of one object; overlapping exclusive holders wait for each other in
// arrival order.
class RangeLock {
 public:
  explicit RangeLock(Reactor& reactor) : reactor_(reactor) {}
  ~RangeLock();
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

  class Guard {
   public:
    Guard() = default;
    Guard(RangeLock* lock, uint64_t id) : lock_(lock), id_(id) {}
    Guard(Guard&& o) noexcept : lock_(std::exchange(o.lock_, nullptr)), id_(o.id_) {}
    Guard& operator=(Guard&& o) noexcept {
      unlock();
      lock_ = std::exchange(o.lock_, nullptr);
      id_ = o.id_;
      return *this;
    }
    ~Guard() { unlock(); }
    void unlock() {
      if (auto* l = std::exchange(lock_, nullptr)) l->release(id_);
    }

   private:
    RangeLock* lock_ = nullptr;
    uint64_t id_ = 0;
  };
  // [from, to). Shared holders do not exclude each other.
  Task<Guard> lock(uint64_t from, uint64_t to, bool exclusive);
  [[nodiscard]] bool idle() const { return held_.empty(); }

 private:
  struct Held {
    uint64_t id, from, to;
    bool exclusive, granted;
    std::coroutine_handle<> waiter;
  };
  void release(uint64_t id);
  [[nodiscard]] bool blocked(const Held& h) const;
  Reactor& reactor_;
  std::list<Held> held_;  // in arrival order: granted ones and those that wait
  uint64_t nextId_ = 1;
};

// Unbounded queue; producers bound themselves. pop() gives nullopt once closed and drained.
template <class T>
class Queue {
 public:
  explicit Queue(Reactor& reactor) : ready_(reactor) {}
  // Dropped if the queue is closed.
  void push(T item) {
    if (closed_) return;
    items_.push_back(std::move(item));
    ready_.set();
  }
  void close() {
    closed_ = true;
    ready_.set();
  }
  [[nodiscard]] size_t size() const { return items_.size(); }
  Task<std::optional<T>> pop() {
    while (items_.empty()) {
      if (closed_) co_return std::nullopt;
      ready_.reset();
      co_await ready_.wait();
    }
    T item = std::move(items_.front());
    items_.pop_front();
    co_return std::optional<T>(std::move(item));
  }

 private:
  Event ready_;
  std::deque<T> items_;
  bool closed_ = false;
};

// Owns concurrent tasks. Must be joined (empty) before it dies; asserted.
class TaskScope {
 public:
  explicit TaskScope(Reactor& reactor) : reactor_(reactor), idle_(reactor) {}
  ~TaskScope();
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

  // Starts `task` from the loop. An exception that escapes it stops the process: nobody is left to
  // handle it.
  void spawn(Task<void> task);
  // Waits until every task has ended, those included that are spawned meanwhile.
  Task<void> join();
  [[nodiscard]] size_t size() const { return running_; }

 private:
  struct Detached;
  static Detached run(TaskScope& scope, Task<void> task);
  Reactor& reactor_;
  Event idle_;
  size_t running_ = 0;
};

// Runs all at once and gives their results in order. If some throw, the first of them in order of
// `tasks` is thrown on, after all have ended.
template <class T>
Task<std::vector<T>> whenAll(Reactor& reactor, std::vector<Task<T>> tasks);
Task<void> whenAll(Reactor& reactor, std::vector<Task<void>> tasks);

namespace detail {
template <class T>
Task<void> storeResult(Task<T> task, std::optional<T>& slot) {
  slot.emplace(co_await std::move(task));
}
// The same, keeping what it throws in `error`.
template <class T>
Task<void> storeOrCatch(Task<T> task, std::optional<T>& slot, std::exception_ptr& error) {
  try {
    slot.emplace(co_await std::move(task));
  } catch (...) {
    error = std::current_exception();
  }
}
void throwFirst(const std::vector<std::exception_ptr>& errors);
}  // namespace detail

template <class T>
Task<std::vector<T>> whenAll(Reactor& reactor, std::vector<Task<T>> tasks) {
  std::vector<std::optional<T>> slots(tasks.size());
  std::vector<std::exception_ptr> errors(tasks.size());
  TaskScope scope(reactor);
  for (size_t i = 0; i < tasks.size(); ++i)
    scope.spawn(detail::storeOrCatch(std::move(tasks[i]), slots[i], errors[i]));
  co_await scope.join();
  detail::throwFirst(errors);
  std::vector<T> out;
  out.reserve(slots.size());
  for (auto& s : slots) out.push_back(std::move(*s));
  co_return out;
}

}  // namespace cairn
