#include "common/reactor/sync.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "test/unit/common/reactor/manual_reactor.h"

using namespace cairn;

namespace {

using Trace = std::vector<std::string>;

Task<void> waitEvent(Event& e, Trace& trace, std::string name) {
  co_await e.wait();
  trace.push_back(name);
}

Task<void> waitEventFor(Event& e, Duration d, Trace& trace) {
  bool set = co_await e.waitFor(d);
  trace.push_back(set ? "set" : "timeout");
}

Task<void> hold(Semaphore& s, uint64_t n, Trace& trace, std::string name) {
  co_await s.acquire(n);
  trace.push_back(name);
}

Task<void> holdRange(RangeLock& l, uint64_t from, uint64_t to, bool exclusive, Event& until,
                     Trace& trace, std::string name) {
  auto guard = co_await l.lock(from, to, exclusive);
  trace.push_back("+" + name);
  co_await until.wait();
  trace.push_back("-" + name);
}

Task<int> answer(int value) {
  co_return value;
}

Task<int> throwing(std::string what) {
  throw std::runtime_error(what);
  co_return 0;
}

Task<int> sleepThen(Reactor& r, Duration d, int value) {
  co_await sleepFor(r, d);
  co_return value;
}

}  // namespace

// ---- Task ----

TEST_CASE("a task does not start before it is awaited, and may be dropped until then") {
  static constexpr auto mark = [](bool& ran) -> Task<void> {
    ran = true;
    co_return;
  };
  bool ran = false;
  {
    Task<void> t = mark(ran);
  }
  CHECK_FALSE(ran);
  ManualReactor r;
  r.start(mark(ran));
  CHECK_FALSE(ran);  // from the loop, not from inside start
  r.settle();
  CHECK(ran);
}

TEST_CASE("an exception travels through tasks to who can handle it") {
  static constexpr auto middle = []() -> Task<int> { co_return co_await throwing("deep") + 1; };
  static constexpr auto top = [](std::string& caught) -> Task<void> {
    try {
      co_await middle();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
  };
  ManualReactor r;
  std::string caught;
  r.start(top(caught));
  r.settle();
  CHECK(caught == "deep");
}

TEST_CASE("a long chain of tasks that end at once does not grow the stack") {
  static constexpr auto sum = [](uint64_t n, uint64_t& out) -> Task<void> {
    for (uint64_t i = 0; i < n; ++i) out += static_cast<uint64_t>(co_await answer(1));
  };
  ManualReactor r;
  uint64_t out = 0;
  r.start(sum(1'000'000, out));
  r.settle();
  CHECK(out == 1'000'000);
}

// ---- Event ----

TEST_CASE("an event wakes its waiters in order, and lets later ones through until reset") {
  ManualReactor r;
  Event e(r);
  Trace trace;
  r.start(waitEvent(e, trace, "a"));
  r.start(waitEvent(e, trace, "b"));
  r.settle();
  CHECK(trace.empty());
  e.set();
  CHECK(trace.empty());  // posted, not resumed in place
  r.settle();
  r.start(waitEvent(e, trace, "c"));
  r.settle();
  CHECK(trace == Trace{"a", "b", "c"});
  e.reset();
  r.start(waitEvent(e, trace, "d"));
  r.settle();
  CHECK(trace.size() == 3);
  e.set();
  r.settle();
  CHECK(trace.size() == 4);
}

TEST_CASE("waitFor ends by the event or by time, whichever is first, and only once") {
  ManualReactor r;
  Event e(r);
  Trace trace;
  SUBCASE("event first") {
    r.start(waitEventFor(e, 10ms, trace));
    r.settle();
    e.set();
    r.pass(20ms);
    CHECK(trace == Trace{"set"});
  }
  SUBCASE("time first") {
    r.start(waitEventFor(e, 10ms, trace));
    r.settle();
    r.pass(9ms);
    CHECK(trace.empty());
    r.pass(1ms);
    CHECK(trace == Trace{"timeout"});
  }
  SUBCASE("set and time in one turn, set first") {
    r.start(waitEventFor(e, 10ms, trace));
    r.settle();
    e.set();
    CHECK(r.passWithoutRunning(10ms) == 0);  // set() took the timer off
    r.settle();
    CHECK(trace == Trace{"set"});
  }
  SUBCASE("set and time in one turn, time first") {
    r.start(waitEventFor(e, 10ms, trace));
    r.settle();
    CHECK(r.passWithoutRunning(10ms) == 1);
    e.set();
    r.settle();
    CHECK(trace == Trace{"timeout"});
    CHECK(e.isSet());
  }
  SUBCASE("already set") {
    e.set();
    r.start(waitEventFor(e, 10ms, trace));
    r.settle();
    CHECK(trace == Trace{"set"});
  }
}

TEST_CASE("sleepers wake in order of time, those of one instant in order of arming") {
  static constexpr auto sleeper = [](Reactor& r, Duration d, Trace& trace,
                                     std::string name) -> Task<void> {
    co_await sleepFor(r, d);
    trace.push_back(name);
  };
  ManualReactor r;
  Trace trace;
  r.start(sleeper(r, 20ms, trace, "c"));
  r.start(sleeper(r, 10ms, trace, "a"));
  r.start(sleeper(r, 10ms, trace, "b"));
  r.settle();
  r.pass(30ms);
  CHECK(trace == Trace{"a", "b", "c"});
}

// ---- Semaphore, mutex ----

TEST_CASE("a semaphore serves in order: small requests do not pass a large one") {
  ManualReactor r;
  Semaphore s(r, 4);
  Trace trace;
  r.start(hold(s, 3, trace, "first"));
  r.start(hold(s, 4, trace, "large"));
  r.start(hold(s, 1, trace, "small"));
  r.settle();
  CHECK(trace == Trace{"first"});
  s.release(2);
  r.settle();
  CHECK(trace == Trace{"first"});
  s.release(1);
  r.settle();
  CHECK(trace == Trace{"first", "large"});
  s.release(4);
  r.settle();
  CHECK(trace == Trace{"first", "large", "small"});
  CHECK(s.available() == 3);
}

TEST_CASE("a permit that was released to a waiter is not taken by who comes between") {
  ManualReactor r;
  Semaphore s(r, 1);
  Trace trace;
  r.start(hold(s, 1, trace, "a"));
  r.start(hold(s, 1, trace, "b"));
  r.settle();
  s.release();  // b's now, though b has not run yet
  r.start(hold(s, 1, trace, "c"));
  r.settle();
  CHECK(trace == Trace{"a", "b"});
  s.release();
  r.settle();
  CHECK(trace == Trace{"a", "b", "c"});
}

TEST_CASE("a mutex is held by one at a time, in order of asking") {
  static constexpr auto critical = [](Reactor& r, AsyncMutex& m, int& inside, Trace& trace,
                                      std::string name) -> Task<void> {
    auto guard = co_await m.lock();
    CHECK(++inside == 1);
    co_await sleepFor(r, 1ms);
    --inside;
    trace.push_back(name);
  };
  ManualReactor r;
  AsyncMutex m(r);
  int inside = 0;
  Trace trace;
  for (const char* name : {"a", "b", "c"}) r.start(critical(r, m, inside, trace, name));
  r.settle();
  for (int i = 0; i < 3; ++i) r.pass(1ms);
  CHECK(trace == Trace{"a", "b", "c"});
}

// ---- RangeLock ----

TEST_CASE("range locks exclude overlaps only, and shared holders not at all") {
  ManualReactor r;
  RangeLock l(r);
  Event done(r);
  Trace trace;
  r.start(holdRange(l, 0, 10, true, done, trace, "a"));
  r.start(holdRange(l, 10, 20, true, done, trace, "b"));   // next to a
  r.start(holdRange(l, 30, 40, false, done, trace, "c"));  // two that share
  r.start(holdRange(l, 35, 45, false, done, trace, "d"));
  r.start(holdRange(l, 9, 11, false, done, trace, "e"));  // overlaps a and b
  r.settle();
  CHECK(trace == Trace{"+a", "+b", "+c", "+d"});
  done.set();
  r.settle();
  CHECK(trace.back() == "-e");
  CHECK(l.idle());
}

TEST_CASE("range locks are granted in order of arrival: readers do not starve a writer") {
  ManualReactor r;
  RangeLock l(r);
  Event readerDone(r), writerDone(r), lateDone(r);
  Trace trace;
  r.start(holdRange(l, 0, 100, false, readerDone, trace, "reader"));
  r.start(holdRange(l, 0, 10, true, writerDone, trace, "writer"));
  r.start(holdRange(l, 5, 6, false, lateDone, trace, "late"));      // behind the writer
  r.start(holdRange(l, 50, 60, false, lateDone, trace, "beside"));  // not in its way
  r.settle();
  CHECK(trace == Trace{"+reader", "+beside"});
  readerDone.set();
  r.settle();
  CHECK(trace == Trace{"+reader", "+beside", "-reader", "+writer"});
  lateDone.set();
  writerDone.set();
  r.settle();
  CHECK(trace.back() == "-late");
  CHECK(l.idle());
}

TEST_CASE("random range locks: no two holders overlap unless both share, and all get their turn") {
  struct State {
    std::vector<int> writers, readers;
    int turns = 0;
  };
  static constexpr auto worker = [](Reactor& r, RangeLock& l, State& s,
                                    uint64_t seed) -> Task<void> {
    SeededRandom random(seed);
    for (int i = 0; i < 50; ++i) {
      uint64_t from = random.below(s.writers.size() - 8), to = from + 1 + random.below(8);
      bool exclusive = random.chance(1, 2);
      auto guard = co_await l.lock(from, to, exclusive);
      for (uint64_t k = from; k < to; ++k) {
        CHECK(s.writers[k] == 0);
        if (exclusive) CHECK(s.readers[k] == 0);
        ++(exclusive ? s.writers : s.readers)[k];
      }
      co_await sleepFor(r, std::chrono::microseconds(random.below(5)));
      for (uint64_t k = from; k < to; ++k) --(exclusive ? s.writers : s.readers)[k];
      ++s.turns;
    }
  };
  ManualReactor r;
  RangeLock l(r);
  State s{std::vector<int>(32), std::vector<int>(32)};
  for (uint64_t i = 0; i < 20; ++i) r.start(worker(r, l, s, i));
  r.settle();
  for (int i = 0; i < 100'000 && r.running() > 0; ++i) r.pass(1us);
  CHECK(r.running() == 0);
  CHECK(s.turns == 20 * 50);
  CHECK(l.idle());
}

// ---- Queue ----

TEST_CASE("a queue keeps order, and after closing gives what is left and then nothing") {
  static constexpr auto consumer = [](Queue<int>& q, std::vector<int>& got) -> Task<void> {
    while (auto item = co_await q.pop()) got.push_back(*item);
    got.push_back(-1);
  };
  ManualReactor r;
  Queue<int> q(r);
  std::vector<int> got;
  r.start(consumer(q, got));
  r.settle();
  q.push(1);
  q.push(2);
  r.settle();
  CHECK(got == std::vector{1, 2});
  q.push(3);
  q.close();
  q.push(4);  // too late
  r.settle();
  CHECK(got == std::vector{1, 2, 3, -1});
}

TEST_CASE("several consumers of one queue get each item once, and all end when it closes") {
  static constexpr auto consumer = [](Queue<int>& q, int& sum) -> Task<void> {
    while (auto item = co_await q.pop()) sum += *item;
  };
  ManualReactor r;
  Queue<int> q(r);
  int sum = 0;
  for (int i = 0; i < 3; ++i) r.start(consumer(q, sum));
  r.settle();
  for (int i = 1; i <= 100; ++i) q.push(i);
  r.settle();
  CHECK(sum == 5050);
  q.close();
  r.settle();
  CHECK(r.running() == 0);
}

// ---- TaskScope, whenAll ----

TEST_CASE("join waits for tasks that are spawned while it waits") {
  static constexpr auto child = [](Reactor& r, int& ended) -> Task<void> {
    co_await sleepFor(r, 10ms);
    ++ended;
  };
  static constexpr auto parent = [](Reactor& r, TaskScope& scope, int& ended) -> Task<void> {
    co_await sleepFor(r, 5ms);
    scope.spawn(child(r, ended));
    ++ended;
  };
  static constexpr auto joiner = [](Reactor& r, int& ended, bool& joined) -> Task<void> {
    TaskScope scope(r);
    scope.spawn(parent(r, scope, ended));
    co_await scope.join();
    joined = true;
    co_await scope.join();  // an idle scope is joined at once
  };
  ManualReactor r;
  int ended = 0;
  bool joined = false;
  r.start(joiner(r, ended, joined));
  r.settle();
  r.pass(5ms);
  CHECK(ended == 1);
  CHECK_FALSE(joined);
  r.pass(10ms);
  CHECK(ended == 2);
  CHECK(joined);
  CHECK(r.running() == 0);
}

TEST_CASE("whenAll runs all at once and gives results in the order of the tasks") {
  static constexpr auto all = [](Reactor& r, std::vector<int>& out) -> Task<void> {
    std::vector<Task<int>> tasks;
    tasks.push_back(sleepThen(r, 30ms, 1));
    tasks.push_back(sleepThen(r, 10ms, 2));
    tasks.push_back(answer(3));
    out = co_await whenAll(r, std::move(tasks));
  };
  ManualReactor r;
  std::vector<int> out;
  r.start(all(r, out));
  r.settle();
  r.pass(29ms);
  CHECK(out.empty());
  r.pass(1ms);
  CHECK(out == std::vector{1, 2, 3});
}

TEST_CASE("whenAll of nothing ends at once; an exception comes out after all have ended") {
  static constexpr auto none = [](Reactor& r, bool& ended) -> Task<void> {
    co_await whenAll(r, std::vector<Task<void>>());
    ended = (co_await whenAll(r, std::vector<Task<int>>())).empty();
  };
  static constexpr auto some = [](Reactor& r, std::string& caught) -> Task<void> {
    std::vector<Task<int>> tasks;
    tasks.push_back(sleepThen(r, 10ms, 1));
    tasks.push_back(throwing("first"));
    tasks.push_back(throwing("second"));
    try {
      co_await whenAll(r, std::move(tasks));
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
  };
  ManualReactor r;
  bool ended = false;
  std::string caught;
  r.start(none(r, ended));
  r.start(some(r, caught));
  r.settle();
  CHECK(ended);
  CHECK(caught.empty());
  r.pass(10ms);
  CHECK(caught == "first");
}

TEST_CASE("what offloaded work throws comes out of the await") {
  static constexpr auto body = [](Reactor& r, std::string& caught) -> Task<void> {
    try {
      co_await offloaded(r, [] { throw std::runtime_error("no"); });
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
  };
  ManualReactor r;
  std::string caught;
  r.start(body(r, caught));
  r.settle();
  CHECK(caught == "no");
}
