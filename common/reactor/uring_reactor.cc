#include "common/reactor/uring_reactor.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/base/assert.h"
#include "common/reactor/offload_pool.h"

namespace cairn {

namespace {

// One turn resumes at most so many rounds of posted coroutines before it looks at the kernel again:
// coroutines that keep posting each other must not starve the disks.
constexpr int kMaxRounds = 64;

constexpr unsigned kFewestEntries = 32;

int readDisabledSysctl() {
  int value = -1;
  if (FILE* f = std::fopen("/proc/sys/kernel/io_uring_disabled", "re")) {
    if (std::fscanf(f, "%d", &value) != 1) value = -1;
    std::fclose(f);
  }
  return value;
}

sigset_t watchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

}  // namespace

std::string explainUringFailure(int err, int disabledSysctl) {
  std::string what = "io_uring, which Cairn needs, is not available: ";
  switch (err) {
    case ENOSYS:
      return what +
             "this kernel has none, or a container hides it. Use Linux 6.1 or newer built with "
             "CONFIG_IO_URING; in a container, a seccomp profile that allows io_uring_setup";
    case EPERM:
    case EACCES:
      if (disabledSysctl > 0)
        return what + "kernel.io_uring_disabled is " + std::to_string(disabledSysctl) +
               ". Allow it as root: sysctl -w kernel.io_uring_disabled=0";
      return what +
             "a security policy (seccomp filter or LSM) forbids it. In a container, use a seccomp "
             "profile that allows io_uring_setup (docker: --security-opt seccomp=unconfined); "
             "otherwise see sysctl kernel.io_uring_disabled";
    case ENOMEM:
      return what +
             "not enough memory may be locked. Raise the limit (ulimit -l, LimitMEMLOCK= of the "
             "systemd unit)";
    case EMFILE:
    case ENFILE:
      return what + "too many open files. Raise the limit (ulimit -n, LimitNOFILE= of the unit)";
    default: {
      char buf[128];
      return what + strerror_r(err, buf, sizeof buf) + ". Linux 6.1 or newer is needed";
    }
  }
}

// ---- Making and unmaking ----

// Reads the eventfd on which pool threads tell that work has ended. In flight only while there is
// work on the pool.
struct UringReactor::WakeOp final : Completion {
  explicit WakeOp(UringReactor& r) : reactor(r) {}
  UringReactor& reactor;
  uint64_t count = 0;
  bool armed = false;

  void complete(int64_t) override {
    armed = false;
    auto& done = reactor.offloadDone_;
    reactor.pool_->takeDone(done);
    reactor.offloaded_ -= done.size();
    // By index: a completion may not add to the list, but it may offload more work.
    for (size_t i = 0; i < done.size(); ++i) done[i]->complete(0);
    done.clear();
    reactor.armWake();
  }
};

UringReactor::UringReactor(UringOptions options) : options_(options) {}

Result<std::unique_ptr<UringReactor>> UringReactor::create(UringOptions options) {
  std::unique_ptr<UringReactor> r(new UringReactor(options));
  // With DEFER_TASKRUN completions are worked off only when this thread asks for them: no
  // interrupts, and waits that end with whole batches. Kernels before 6.1 know neither flag.
  constexpr unsigned kBasic = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  constexpr unsigned kBest = kBasic | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                             IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                             IORING_SETUP_TASKRUN_FLAG;
  unsigned flags = options.basicRing ? kBasic : kBest;
  unsigned entries = options.entries;
  int err = 0;
  while (true) {
    io_uring_params params{};
    params.flags = flags;
    params.cq_entries = entries * 4;
    err = -io_uring_queue_init_params(entries, &r->ring_, &params);
    if (err == EINVAL && flags != kBasic)
      flags = kBasic;
    else if (err == ENOMEM && entries > kFewestEntries)
      entries /= 2;  // rings count against RLIMIT_MEMLOCK of the user; a small one is slower only
    else
      break;
  }
  if (err != 0) return fail(Errc::kNotSupported, explainUringFailure(err, readDisabledSysctl()));
  r->ringOpen_ = true;
  if ((r->ring_.features & IORING_FEAT_EXT_ARG) == 0 ||
      (r->ring_.features & IORING_FEAT_NODROP) == 0)
    return fail(Errc::kNotSupported, explainUringFailure(EINVAL, -1));
  io_uring_register_ring_fd(&r->ring_);  // saves a descriptor look-up per turn; not needed
  return r;
}

UringReactor::~UringReactor() {
  pool_.reset();  // its last wake-ups go to wakeFd_, still open
  if (ringOpen_) {
    reap();
    inFlight_ -= completed_.size();
    completed_.clear();
    if (inFlight_ > 0)
      io_uring_prep_cancel64(sqe(nullptr), 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    while (inFlight_ > 0) {
      io_uring_submit_and_wait(&ring_, 1);
      reap();
      inFlight_ -= completed_.size();
      completed_.clear();
    }
    io_uring_queue_exit(&ring_);
  }
  if (wakeFd_ >= 0) ::close(wakeFd_);
  if (signalFd_ >= 0) ::close(signalFd_);
}

// ---- The loop ----

// The coroutine that runs `main` and marks its end.
struct UringReactor::Root {
  struct promise_type {
    Root get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;
};

UringReactor::Root UringReactor::drive(Task<void> main, bool& ended, std::exception_ptr& error) {
  try {
    Task<void> task = std::move(main);
    co_await std::move(task);
  } catch (...) {
    error = std::current_exception();
  }
  ended = true;
}

void UringReactor::run(Task<void> main) {
  bool ended = false;
  std::exception_ptr error;
  post(drive(std::move(main), ended, error).handle);
  while (true) {
    runReady();
    TimePoint now{};
    if (!timers_.empty()) {
      now = clock_.now();
      if (fireTimers(now) > 0) runReady();
    }
    if (ended) break;
    bool wait = ready_.empty() && completed_.empty();
    CAIRN_ASSERT(!wait || inFlight_ > 0 || !timers_.empty(),
                 "somebody can still wake what the reactor runs");
    submitAndWait(wait, now);
    reap();
    dispatch();
  }
  if (error) std::rethrow_exception(error);
}

void UringReactor::runReady() {
  for (int round = 0; round < kMaxRounds && !ready_.empty(); ++round) {
    running_.swap(ready_);
    for (auto h : running_) h.resume();
    running_.clear();
  }
}

void UringReactor::submitAndWait(bool wait, TimePoint now) {
  int ret = 0;
  if (!wait) {
    unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
    if (io_uring_sq_ready(&ring_) == 0 &&
        (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
      return;  // nothing for the kernel to do
    ret = io_uring_submit_and_get_events(&ring_);
  } else if (timers_.empty()) {
    ret = io_uring_submit_and_wait(&ring_, 1);
  } else {
    // A timer that was armed by another's fire() may be due already.
    auto ns = std::max<int64_t>(0, (timers_.begin()->first - now).count());
    __kernel_timespec timeout{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    io_uring_cqe* first = nullptr;
    ret = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
  }
  // EAGAIN and EBUSY: the kernel is short of memory for requests or has completions that did not
  // fit; taking those off and trying again is the cure for both.
  CAIRN_ASSERT(ret >= 0 || ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY,
               "io_uring_enter works");
}

void UringReactor::reap() {
  io_uring_cqe* batch[64];
  while (unsigned n = io_uring_peek_batch_cqe(&ring_, batch, 64)) {
    for (unsigned i = 0; i < n; ++i)
      if (auto* done = static_cast<Completion*>(io_uring_cqe_get_data(batch[i])))
        completed_.push_back({done, batch[i]->res});
    io_uring_cq_advance(&ring_, n);
  }
}

void UringReactor::dispatch() {
  dispatching_.swap(completed_);  // a completion may fill the queue, which may reap more
  for (auto& c : dispatching_) {
    --inFlight_;
    c.done->complete(c.result);
  }
  dispatching_.clear();
}

// ---- Operations ----

io_uring_sqe* UringReactor::sqe(Completion* done) {
  io_uring_sqe* entry;
  while ((entry = io_uring_get_sqe(&ring_)) == nullptr)
    if (io_uring_submit(&ring_) < 0) reap();
  io_uring_sqe_set_data(entry, done);
  if (done) ++inFlight_;
  return entry;
}

void UringReactor::reserve(unsigned n) {
  while (io_uring_sq_space_left(&ring_) < n)
    if (io_uring_submit(&ring_) < 0) reap();
}

void UringReactor::cancel(Completion& done) {
  io_uring_prep_cancel(sqe(nullptr), &done, 0);
}

void UringReactor::cancelPoll(int fd) {
  io_uring_prep_cancel_fd(sqe(nullptr), fd, IORING_ASYNC_CANCEL_ALL);
}

bool UringReactor::registerArena(MutBytes arena) {
  if (arena.empty() || !arena_.empty()) return false;
  // What one process locks is missing to all others of the user, whose rings count too: stay far
  // below the limit. Root's limit does not bind.
  rlimit limit{};
  if (::geteuid() != 0 && ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY && arena.size() > limit.rlim_cur / 4)
    return false;
  iovec whole{arena.data(), arena.size()};
  if (io_uring_register_buffers(&ring_, &whole, 1) != 0) return false;
  arena_ = arena;
  return true;
}

// ---- Offloading ----

void UringReactor::armWake() {
  if (wake_->armed || offloaded_ == 0) return;
  wake_->armed = true;
  io_uring_prep_read(sqe(wake_.get()), wakeFd_, &wake_->count, sizeof wake_->count, 0);
}

void UringReactor::offload(std::function<void()> work, Completion& done) {
  if (!pool_) {
    wakeFd_ = ::eventfd(0, EFD_CLOEXEC);
    CAIRN_ASSERT(wakeFd_ >= 0, "a descriptor for an eventfd");
    pool_ = std::make_unique<OffloadPool>(options_.offloadThreads, wakeFd_);
    wake_ = std::make_unique<WakeOp>(*this);
  }
  ++offloaded_;
  pool_->submit(std::move(work), done);
  armWake();
}

// ---- Signals ----

void UringReactor::adoptSignals() {
  sigset_t set = watchedSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

Task<int> UringReactor::nextSignal() {
  if (signalFd_ < 0) {
    adoptSignals();
    sigset_t set = watchedSignals();
    signalFd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CAIRN_ASSERT(signalFd_ >= 0, "a descriptor for a signalfd");
  }
  while (!signalsClosed_) {
    signalfd_siginfo info;
    if (::read(signalFd_, &info, sizeof info) == sizeof info)
      co_return static_cast<int>(info.ssi_signo);
    co_await pollFd(signalFd_, POLLIN);
  }
  co_return 0;
}

void UringReactor::closeSignals() {
  if (signalsClosed_) return;
  signalsClosed_ = true;
  if (signalFd_ >= 0) cancelPoll(signalFd_);
}

}  // namespace cairn
