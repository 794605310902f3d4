#include "common/reactor/uring_reactor.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>

#include "test/unit/common/reactor/make_reactor.h"

using namespace cairn;

namespace {

struct Pipe {
  int in = -1, out = -1;  // read from `in`, write to `out`
  Pipe() {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    in = fds[0];
    out = fds[1];
  }
  ~Pipe() {
    ::close(in);
    ::close(out);
  }
};

Task<void> pollInto(UringReactor& r, int fd, int& result) {
  result = co_await r.pollFd(fd, POLLIN);
}

}  // namespace

TEST_CASE("run gives the result of main, or throws what it threw, again and again") {
  static constexpr auto value = []() -> Task<std::string> { co_return "done"; };
  static constexpr auto thrower = [](Reactor& r) -> Task<void> {
    co_await sleepFor(r, 1ms);
    throw std::runtime_error("main failed");
  };
  auto r = makeReactor();
  CHECK(r->run(value()) == "done");
  CHECK_THROWS_WITH(r->run(thrower(*r)), "main failed");
  CHECK(r->run(value()) == "done");
}

TEST_CASE("posted coroutines run in the order of posting") {
  static constexpr auto mark = [](std::vector<int>& out, int i) -> Task<void> {
    out.push_back(i);
    co_return;
  };
  static constexpr auto body = [](UringReactor& r, std::vector<int>& out) -> Task<void> {
    TaskScope scope(r);
    for (int i = 0; i < 100; ++i) scope.spawn(mark(out, i));
    co_await scope.join();
  };
  auto r = makeReactor();
  std::vector<int> out;
  r->run(body(*r, out));
  REQUIRE(out.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(out[static_cast<size_t>(i)] == i);
}

TEST_CASE("timers fire when they are due, not before, in order") {
  static constexpr auto sleeper = [](Reactor& r, Duration d, std::vector<int>& out,
                                     int i) -> Task<void> {
    TimePoint due = r.now() + d;
    co_await sleepFor(r, d);
    CHECK(r.now() >= due);
    CHECK(r.now() < due + 2s);
    out.push_back(i);
  };
  static constexpr auto body = [](UringReactor& r, std::vector<int>& out) -> Task<void> {
    TaskScope scope(r);
    scope.spawn(sleeper(r, 6ms, out, 3));
    scope.spawn(sleeper(r, 2ms, out, 1));
    scope.spawn(sleeper(r, 4ms, out, 2));
    scope.spawn(sleeper(r, 0ms, out, 0));
    co_await scope.join();
  };
  auto r = makeReactor();
  std::vector<int> out;
  r->run(body(*r, out));
  CHECK(out == std::vector{0, 1, 2, 3});
}

TEST_CASE("coroutines that keep each other busy starve neither timers nor descriptors") {
  static constexpr auto spin = [](Event& stop, Event& a, Event& b) -> Task<void> {
    while (!stop.isSet()) {
      b.set();
      co_await a.wait();
      a.reset();
    }
    b.set();
  };
  static constexpr auto body = [](UringReactor& r, Pipe& p) -> Task<void> {
    Event stop(r), a(r), b(r);
    TaskScope scope(r);
    scope.spawn(spin(stop, a, b));
    scope.spawn(spin(stop, b, a));
    co_await sleepFor(r, 1ms);
    CHECK(::write(p.out, "x", 1) == 1);
    CHECK(co_await r.pollFd(p.in, POLLIN) == POLLIN);
    stop.set();
    co_await scope.join();
  };
  auto r = makeReactor();
  Pipe p;
  r->run(body(*r, p));
}

TEST_CASE("more operations than the queue holds all end") {
  static constexpr auto nop = [](UringReactor& r, int& ended) -> Task<void> {
    UringOp op;
    io_uring_prep_nop(r.sqe(&op));
    CHECK(co_await op == 0);
    ++ended;
  };
  static constexpr auto body = [](UringReactor& r, int& ended) -> Task<void> {
    TaskScope scope(r);
    for (int i = 0; i < 10'000; ++i) scope.spawn(nop(r, ended));
    co_await scope.join();
  };
  auto r = makeReactor({.entries = 8});
  int ended = 0;
  r->run(body(*r, ended));
  CHECK(ended == 10'000);
}

TEST_CASE("a poll ends when the descriptor is ready, or when it is canceled") {
  static constexpr auto body = [](UringReactor& r, Pipe& p) -> Task<void> {
    int result = 0;
    TaskScope scope(r);
    scope.spawn(pollInto(r, p.in, result));
    co_await sleepFor(r, 1ms);
    CHECK(result == 0);
    r.cancelPoll(p.in);
    co_await scope.join();
    CHECK(result == -ECANCELED);

    scope.spawn(pollInto(r, p.in, result));
    co_await sleepFor(r, 1ms);
    CHECK(::write(p.out, "x", 1) == 1);
    co_await scope.join();
    CHECK(result == POLLIN);

    r.cancelPoll(p.in);  // nothing waits: nothing happens, and a later poll works
    CHECK(co_await r.pollFd(p.in, POLLIN) == POLLIN);
    CHECK(co_await r.pollFd(-1, POLLIN) == -EBADF);
  };
  auto r = makeReactor();
  Pipe p;
  r->run(body(*r, p));
}

TEST_CASE("an operation is canceled by its completion") {
  static constexpr auto reader = [](UringReactor& r, Pipe& p, UringOp*& op,
                                    int& out) -> Task<void> {
    UringOp reading;
    char byte;
    op = &reading;
    io_uring_prep_read(r.sqe(&reading), p.in, &byte, 1, 0);
    out = co_await reading;
  };
  static constexpr auto body = [](UringReactor& r, Pipe& p) -> Task<void> {
    UringOp* op = nullptr;
    int out = 0;
    TaskScope scope(r);
    scope.spawn(reader(r, p, op, out));
    co_await sleepFor(r, 1ms);
    r.cancel(*op);
    co_await scope.join();
    CHECK((out == -ECANCELED || out == -EINTR));
  };
  auto r = makeReactor();
  Pipe p;
  r->run(body(*r, p));
}

TEST_CASE("offloaded work runs on other threads, side by side, while the loop goes on") {
  static constexpr auto work = [](UringReactor& r, std::atomic<int>& meeting,
                                  std::thread::id& id) -> Task<void> {
    co_await offloaded(r, [&] {
      id = std::this_thread::get_id();
      // Both pieces must be there at once; a pool of one thread would hang here.
      meeting.fetch_add(1);
      meeting.notify_all();
      for (int seen = meeting.load(); seen < 2; seen = meeting.load()) meeting.wait(seen);
    });
  };
  static constexpr auto body = [](UringReactor& r) -> Task<void> {
    std::atomic<int> meeting = 0;
    std::thread::id a, b;
    TaskScope scope(r);
    scope.spawn(work(r, meeting, a));
    scope.spawn(work(r, meeting, b));
    co_await scope.join();
    CHECK(a != b);
    CHECK(a != std::this_thread::get_id());

    std::atomic<bool> release = false;
    static constexpr auto blocked = [](UringReactor& reactor, std::atomic<bool>& go) -> Task<void> {
      co_await offloaded(reactor, [&] { go.wait(false); });
    };
    scope.spawn(blocked(r, release));
    co_await sleepFor(r, 2ms);
    CHECK(scope.size() == 1);  // the loop ran a timer while the work was blocked
    release = true;
    release.notify_all();
    co_await scope.join();

    int sum = 0;
    for (int i = 0; i < 1000; ++i) co_await offloaded(r, [&] { ++sum; });
    CHECK(sum == 1000);
  };
  auto r = makeReactor();
  r->run(body(*r));
}

TEST_CASE("much offloaded work at once all comes back") {
  static constexpr auto work = [](UringReactor& r, std::atomic<int>& sum) -> Task<void> {
    co_await offloaded(r, [&] { ++sum; });
  };
  static constexpr auto body = [](UringReactor& r, std::atomic<int>& sum) -> Task<void> {
    TaskScope scope(r);
    for (int i = 0; i < 5000; ++i) scope.spawn(work(r, sum));
    co_await scope.join();
  };
  auto r = makeReactor();
  std::atomic<int> sum = 0;
  r->run(body(*r, sum));
  CHECK(sum == 5000);
}

TEST_CASE("an exception of offloaded work reaches its waiter") {
  static constexpr auto body = [](UringReactor& r) -> Task<void> {
    co_await offloaded(r, [] { throw std::runtime_error("off"); });
  };
  auto r = makeReactor();
  CHECK_THROWS_WITH(r->run(body(*r)), "off");
}

TEST_CASE("signals come as values, in a child process so that this one keeps its own") {
  static constexpr auto body = [](UringReactor& r) -> Task<int> {
    ::kill(::getpid(), SIGTERM);
    if (co_await r.nextSignal() != SIGTERM) co_return 1;
    // One that comes while waiting, though a pool thread exists that could have taken it.
    co_await offloaded(r, [] {});
    static constexpr auto sender = [](UringReactor& reactor) -> Task<void> {
      co_await sleepFor(reactor, 1ms);
      ::kill(::getpid(), SIGHUP);
      co_await sleepFor(reactor, 1ms);
      reactor.closeSignals();
    };
    TaskScope scope(r);
    scope.spawn(sender(r));
    int first = co_await r.nextSignal();
    int second = co_await r.nextSignal();
    co_await scope.join();
    if (first != SIGHUP) co_return 2;
    if (second != 0) co_return 3;
    Pipe p;
    ::close(std::exchange(p.in, -1));
    if (::write(p.out, "x", 1) != -1 || errno != EPIPE) co_return 4;  // and SIGPIPE kills nobody
    co_return 0;
  };
  pid_t child = ::fork();
  if (child == 0) {
    UringReactor::adoptSignals();
    auto r = UringReactor::create();
    ::_exit(r ? (*r)->run(body(**r)) : 9);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a main that nobody can wake stops the process instead of hanging") {
  static constexpr auto body = [](UringReactor& r) -> Task<void> {
    Event never(r);
    co_await never.wait();
  };
  pid_t child = ::fork();
  if (child == 0) {
    int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(null, 2);
    ::signal(SIGABRT, SIG_DFL);
    auto r = UringReactor::create();
    (*r)->run(body(**r));
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("a reactor that dies takes back operations that are in flight") {
  struct Reading final : Completion {
    char bytes[64] = {};
    bool told = false;
    void complete(int64_t) override { told = true; }
  };
  static constexpr auto nothing = [](UringReactor& r) -> Task<void> { co_await sleepFor(r, 1ms); };
  Pipe p;
  Reading reading;
  {
    auto r = makeReactor();
    io_uring_prep_read(r->sqe(&reading), p.in, reading.bytes, sizeof reading.bytes, 0);
    r->run(nothing(*r));
  }
  // The kernel has let go of the memory: what arrives now stays in the pipe.
  CHECK(::write(p.out, "abc", 3) == 3);
  char got[4] = {};
  CHECK(::read(p.in, got, 3) == 3);
  CHECK(std::string(got) == "abc");
  CHECK(reading.bytes[0] == 0);
  CHECK_FALSE(reading.told);
}

TEST_CASE("the plain ring of older kernels does the same") {
  static constexpr auto echo = [](UringReactor& r, Pipe& there, Pipe& back) -> Task<void> {
    char byte = 0;
    UringOp op;
    for (int i = 0; i < 1000; ++i) {
      io_uring_prep_read(r.sqe(&op), there.in, &byte, 1, 0);
      CHECK(co_await op == 1);
      io_uring_prep_write(r.sqe(&op), back.out, &byte, 1, 0);
      CHECK(co_await op == 1);
    }
  };
  static constexpr auto body = [](UringReactor& r, Pipe& there, Pipe& back) -> Task<void> {
    TaskScope scope(r);
    scope.spawn(echo(r, there, back));
    UringOp op;
    for (int i = 0; i < 1000; ++i) {
      char out = static_cast<char>(i), in = 0;
      io_uring_prep_write(r.sqe(&op), there.out, &out, 1, 0);
      CHECK(co_await op == 1);
      co_await offloaded(r, [] {});
      CHECK(co_await r.pollFd(back.in, POLLIN) == POLLIN);
      io_uring_prep_read(r.sqe(&op), back.in, &in, 1, 0);
      CHECK(co_await op == 1);
      CHECK(in == out);
    }
    co_await scope.join();
    co_await sleepFor(r, 1ms);
  };
  auto r = makeReactor({.basicRing = true});
  Pipe there, back;
  r->run(body(*r, there, back));
}

TEST_CASE("a system that forbids io_uring gets an error, not a crash") {
  // What a container does: a filter that refuses the system call, here in a child.
  pid_t child = ::fork();
  if (child == 0) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{.len = 4, .filter = filter};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      ::_exit(77);
    auto r = UringReactor::create();
    bool said = !r && r.error().code == Errc::kNotSupported &&
                r.error().message.find("io_uring") != std::string::npos;
    ::_exit(said ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    MESSAGE("skipped: no seccomp filters here");
  else
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("why there is no io_uring is said with the way out") {
  CHECK(explainUringFailure(EPERM, 2).find("sysctl -w kernel.io_uring_disabled=0") !=
        std::string::npos);
  CHECK(explainUringFailure(EPERM, 0).find("seccomp") != std::string::npos);
  CHECK(explainUringFailure(ENOSYS, -1).find("kernel") != std::string::npos);
  CHECK(explainUringFailure(ENOMEM, -1).find("LimitMEMLOCK") != std::string::npos);
  CHECK(explainUringFailure(EMFILE, -1).find("ulimit -n") != std::string::npos);
}
