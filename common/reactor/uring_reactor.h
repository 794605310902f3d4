// The reactor on one io_uring: sockets, disks, timers and the FUSE descriptor of a thread.
//
// Thread: everything here is called on the thread that called create(), and that thread calls
// run(). (The ring is made with IORING_SETUP_SINGLE_ISSUER, and a process that forks makes its
// reactor in the child.)
//
// A turn of the loop runs what was posted, fires due timers, submits all prepared operations with
// one system call that also waits for the first completion, and then hands out all completions.
// Coroutines that wait on an operation are resumed straight from there.
//
// Ownership: an operation in flight uses memory of its issuer, who keeps it until the completion.
// The destructor cancels what is still in flight and waits until the kernel has let go of it,
// without telling the completions.
#pragma once

#include <liburing.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/reactor/reactor.h"
#include "common/reactor/sync.h"
#include "common/reactor/system_clock.h"

namespace cairn {

class OffloadPool;

struct UringOptions {
  unsigned entries = 1024;      // of the submission queue; more are submitted in several calls
  unsigned offloadThreads = 2;  // started when first needed
  bool basicRing = false;       // as on kernels before 6.1, without SINGLE_ISSUER, DEFER_TASKRUN
};

// One operation of the ring, awaited: lives in the coroutine's frame, allocates nothing.
//   UringOp op;
//   io_uring_prep_read(reactor.sqe(&op), ...);
//   int result = co_await op;     // as the kernel says: >= 0, or -errno
// Nothing may suspend between the two lines.
class UringOp final : public Completion {
 public:
  UringOp() = default;
  UringOp(const UringOp&) = delete;
  UringOp& operator=(const UringOp&) = delete;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) noexcept { handle_ = h; }
  int await_resume() const noexcept { return result_; }
  void complete(int64_t result) override {
    result_ = static_cast<int>(result);
    handle_.resume();
  }

 private:
  std::coroutine_handle<> handle_;
  int result_ = 0;
};

class UringReactor final : public Reactor {
 public:
  // Fails with kNotSupported when the kernel or its settings refuse io_uring; the message says
  // which and what to do.
  static Result<std::unique_ptr<UringReactor>> create(UringOptions options = {});
  ~UringReactor() override;
  UringReactor(const UringReactor&) = delete;
  UringReactor& operator=(const UringReactor&) = delete;

  // Runs `main` to its end, and whatever else is posted meanwhile. May be called again afterwards.
  // An exception that escapes `main` comes out here. Stops the process when `main` can never end,
  // because nothing is in flight, posted or armed.
  void run(Task<void> main);
  template <class T>
    requires(!std::is_void_v<T>)
  T run(Task<T> main) {
    std::optional<T> result;
    run(detail::storeResult(std::move(main), result));
    return std::move(*result);
  }

  Clock& clock() override { return clock_; }
  void post(std::coroutine_handle<> h) override { ready_.push_back(h); }
  void offload(std::function<void()> work, Completion& done) override;

  // ---- Operations of the ring ----

  // A cleared entry of the submission queue whose end is told to `done` (nullptr: to nobody). Never
  // null: a full queue is submitted first. It goes to the kernel at the end of this turn.
  // Preparation functions keep the user data in place.
  io_uring_sqe* sqe(Completion* done);
  // Makes sure that the next `n` calls of sqe() go to the kernel in one submission, as linked
  // entries must.
  void reserve(unsigned n);
  // Asks for the early end of the operation told to `done`; it completes with -ECANCELED, or with
  // its result if that came first.
  void cancel(Completion& done);

  // `int revents = co_await reactor.pollFd(fd, POLLIN)`: waits until `fd` is ready. A negative
  // value is -errno; -ECANCELED after cancelPoll(fd), which ends every poll that is waiting on
  // `fd` now (a later one waits again: the owner keeps a closed flag).
  class PollAwaiter;
  [[nodiscard]] PollAwaiter pollFd(int fd, unsigned events);
  void cancelPoll(int fd);

  // ---- Registered memory ----

  // Registers `arena` (BufferPool::arena()), which outlives the reactor, so that the kernel need
  // not pin its pages for each disk operation. Once. False when it may not be locked
  // (RLIMIT_MEMLOCK; an unprivileged user's limit must be four times as large): everything works
  // without, a little slower.
  bool registerArena(MutBytes arena);
  // The whole of [data, data + size) is registered; its buffer index is 0.
  [[nodiscard]] bool isRegistered(const void* data, size_t size) const {
    auto* p = static_cast<const uint8_t*>(data);
    return p >= arena_.data() && p + size <= arena_.data() + arena_.size();
  }

  // ---- Signals ----

  // Blocks SIGTERM, SIGINT and SIGHUP in the calling thread and ignores SIGPIPE. A daemon calls it
  // first in main(): threads that libraries start later inherit the mask, and a thread without it
  // would die of a signal that is meant for nextSignal(). Programs that are executed inherit it
  // too, so whoever spawns others resets it in the child.
  static void adoptSignals();
  // The next of those signals (calls adoptSignals() at its first use); 0 after closeSignals(). One
  // caller at a time.
  Task<int> nextSignal();
  void closeSignals();

 private:
  struct Root;
  struct WakeOp;
  struct Completed {
    Completion* done;
    int result;
  };
  explicit UringReactor(UringOptions options);

  static Root drive(Task<void> main, bool& ended, std::exception_ptr& error);
  void runReady();
  void submitAndWait(bool wait, TimePoint now);
  void reap();
  void dispatch();
  void armWake();

  SystemClock clock_;
  UringOptions options_;
  io_uring ring_{};
  bool ringOpen_ = false;
  size_t inFlight_ = 0;  // operations that will be told to someone
  std::vector<std::coroutine_handle<>> ready_, running_;
  std::vector<Completed> completed_, dispatching_;  // taken off the ring, not yet told

  MutBytes arena_;

  int wakeFd_ = -1;
  std::unique_ptr<OffloadPool> pool_;
  std::unique_ptr<WakeOp> wake_;
  size_t offloaded_ = 0;
  std::vector<Completion*> offloadDone_;

  int signalFd_ = -1;
  bool signalsClosed_ = false;
};

class UringReactor::PollAwaiter final : public Completion {
 public:
  PollAwaiter(UringReactor& reactor, int fd, unsigned events)
      : reactor_(reactor), fd_(fd), events_(events) {}
  PollAwaiter(const PollAwaiter&) = delete;
  PollAwaiter& operator=(const PollAwaiter&) = delete;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) {
    handle_ = h;
    io_uring_prep_poll_add(reactor_.sqe(this), fd_, events_);
  }
  int await_resume() const noexcept { return result_; }
  void complete(int64_t result) override {
    result_ = static_cast<int>(result);
    handle_.resume();
  }

 private:
  UringReactor& reactor_;
  int fd_;
  unsigned events_;
  std::coroutine_handle<> handle_;
  int result_ = 0;
};

inline UringReactor::PollAwaiter UringReactor::pollFd(int fd, unsigned events) {
  return PollAwaiter(*this, fd, events);
}

// Why io_uring_setup(2) failed with `err`, and the way out. `disabledSysctl` is the value of
// kernel.io_uring_disabled, -1 if it is not known.
std::string explainUringFailure(int err, int disabledSysctl);

}  // namespace cairn
