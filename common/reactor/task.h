// Task<T>: a lazy coroutine. It starts when awaited (or handed to a TaskScope) and runs on the
// reactor thread that resumes it. Work reads top to bottom; failures are `Result`s; an exception (a
// third-party library's, or a malformed Cap'n Proto message) travels to the awaiting coroutine.
//
// Rules that keep buffers and frames safe:
//   - A Task that has started is never destroyed before it is done: what cancels work is closing
//   what it
//     waits on (Stream::shutdown, Event, Queue::close), after which it runs to its end. Asserted.
//   - A coroutine takes what it needs by value, or by a reference whose owner outlives it. No
//   coroutine is
//     a capturing lambda (its captures die with the lambda object, not with the frame).
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "common/base/assert.h"
#include "common/reactor/frame_memory.h"

namespace cairn {

template <class T>
class Task;

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation;
  std::exception_ptr exception;

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) noexcept {
      auto next = h.promise().continuation;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { exception = std::current_exception(); }

  static void* operator new(size_t size) { return FrameMemory::take(size); }
  static void operator delete(void* p, size_t size) noexcept { FrameMemory::give(p, size); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <class U = T>  // the default lets `co_return {};` stand for a T made from nothing
  void return_value(U&& v) {
    value.emplace(std::forward<U>(v));
  }
  T take() {
    if (exception) std::rethrow_exception(exception);
    return std::move(*value);
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() {
    if (exception) std::rethrow_exception(exception);
  }
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle h) : handle_(h) {}
  Task(Task&& o) noexcept : handle_(std::exchange(o.handle_, {})), started_(o.started_) {}
  Task& operator=(Task&& o) noexcept {
    if (this != &o) {
      reset();
      handle_ = std::exchange(o.handle_, {});
      started_ = o.started_;
    }
    return *this;
  }
  ~Task() { reset(); }

  auto operator co_await() && noexcept {
    struct Awaiter {
      Handle h;
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> cont) noexcept {
        h.promise().continuation = cont;
        return h;
      }
      T await_resume() { return h.promise().take(); }
    };
    CAIRN_ASSERT(handle_ && !started_, "a task is awaited once");
    started_ = true;
    return Awaiter{handle_};
  }

 private:
  void reset() {
    if (!handle_) return;
    CAIRN_ASSERT(!started_ || handle_.done(), "a started task is never dropped");
    handle_.destroy();
    handle_ = {};
  }
  Handle handle_;
  bool started_ = false;
};

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace detail

}  // namespace cairn
