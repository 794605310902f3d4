#include "common/sim/sim_world.h"

#include <doctest/doctest.h>

#include <vector>

#include "common/kv/kv.h"
#include "common/net/network.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

Task<void> noteAfter(SimNode& node, Duration delay, int what, std::vector<int>& notes) {
  co_await sleepFor(node.reactor(), delay);
  notes.push_back(what);
}

Task<int> answer(SimNode& node, Duration delay) {
  co_await sleepFor(node.reactor(), delay);
  co_return 42;
}

Task<bool> waitForStop(Event& stop, Duration limit) {
  co_return co_await stop.waitFor(limit);
}

Task<void> offloadOnce(SimNode& node, bool& ran) {
  co_await offloaded(node.reactor(), [&ran] { ran = true; });
}

// A daemon in small: ticks, and logs, until it is told to stop.
Task<void> ticker(SimNode& node, Event& stop, uint64_t& ticks) {
  while (!co_await stop.waitFor(Duration(1ms) + Duration(node.random().below(1'000'000)))) {
    ++ticks;
    node.log().info("tick", {{"n", ticks}});
  }
}

// A busy little world; what it did comes out as the hash of its trace.
uint64_t busyWorld(uint64_t seed, std::string* log = nullptr) {
  SimWorld world(seed);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b", {.wallOffset = 3s, .driftPpm = 200});
  Event stopA(a.reactor());
  Event stopB(b.reactor());
  uint64_t ticks[2] = {};
  a.spawn(ticker(a, stopA, ticks[0]));
  b.spawn(ticker(b, stopB, ticks[1]));
  world.after(50ms, [&] { world.pause(b); });
  world.after(70ms, [&] { world.resume(b); });
  world.run(100ms);
  stopA.set();
  stopB.set();
  CHECK(world.drain(a));
  CHECK(world.drain(b));
  CHECK(ticks[0] > 20);
  if (log != nullptr) *log = world.logText();
  return world.traceHash();
}

}  // namespace

TEST_CASE("sim: time passes only by events, and timers fire in their order") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  std::vector<int> notes;
  node.spawn(noteAfter(node, 3h, 3, notes));
  node.spawn(noteAfter(node, 1ms, 1, notes));
  node.spawn(noteAfter(node, 2s, 2, notes));
  CHECK(world.drain(node, 4h));
  CHECK(notes == std::vector<int>{1, 2, 3});
  CHECK(world.elapsed() >= Duration(3h));
  CHECK(world.elapsed() < Duration(3h) + 1ms);
}

TEST_CASE("sim: await gives a task's value, or nothing when the limit passes") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  CHECK(world.await(node, answer(node, 1s)) == 42);
  CHECK_FALSE(world.await(node, answer(node, 10s), 1s).has_value());
  CHECK(world.elapsed() == Duration(2s));
  CHECK(world.drain(node));
}

TEST_CASE("sim: the same seed gives the same run, another seed another") {
  std::string log1;
  std::string log2;
  const uint64_t first = busyWorld(7, &log1);
  CHECK(busyWorld(7, &log2) == first);
  CHECK(log1 == log2);
  CHECK(log1.find("event=tick") != std::string::npos);
  CHECK(busyWorld(8) != first);
}

TEST_CASE("sim: run stops at its time, runUntil at its predicate") {
  SimWorld world(1);
  int fired = 0;
  world.after(10ms, [&] { ++fired; });
  world.after(20ms, [&] { ++fired; });
  world.run(15ms);
  CHECK(fired == 1);
  CHECK(world.elapsed() == Duration(15ms));
  CHECK(world.runUntil([&] { return fired == 2; }, 1h));
  CHECK(world.elapsed() == Duration(20ms));
  CHECK_FALSE(world.runUntil([] { return false; }, 1h));
  CHECK_FALSE(world.step());
}

TEST_CASE("sim: a paused process stands still, and goes on where it was") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  std::vector<int> notes;
  node.spawn(noteAfter(node, 10ms, 1, notes));
  world.run(1ms);
  world.pause(node);
  world.run(1s);
  CHECK(notes.empty());
  world.resume(node);
  world.run(1us);
  CHECK(notes == std::vector<int>{1});
}

TEST_CASE("sim: clocks may be off, and drift") {
  SimWorld world(1);
  SimNode& exact = world.addNode("a");
  SimNode& off = world.addNode("b", {.wallOffset = -90s});
  SimNode& fast = world.addNode("c", {.driftPpm = 1000});
  SimNode& slow = world.addNode("d", {.driftPpm = -1000});
  const TimePoint start = exact.reactor().now();
  std::vector<int> notes;
  fast.spawn(noteAfter(fast, 1000s, 1, notes));
  exact.spawn(noteAfter(exact, 1000s, 2, notes));
  slow.spawn(noteAfter(slow, 1000s, 3, notes));
  world.run(1100s);
  CHECK(notes == std::vector<int>{1, 2, 3});
  CHECK(exact.reactor().wallNow() - off.reactor().wallNow() == 90'000'000'000);
  CHECK(exact.reactor().now() - start == Duration(1100s));
  CHECK(fast.reactor().now() - exact.reactor().now() == Duration(1100ms));
  CHECK(exact.reactor().now() - slow.reactor().now() == Duration(1100ms));
  TimePoint last = slow.reactor().now();
  for (int i = 0; i < 3000; ++i) {  // monotonic at every nanosecond, also when it is slow
    world.run(Duration(700));
    CHECK(slow.reactor().now() >= last);
    last = slow.reactor().now();
  }
}

TEST_CASE("sim: offloaded work is done, and completes later") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  bool ran = false;
  CHECK(world.await(node, offloadOnce(node, ran)));
  CHECK(ran);
  CHECK(world.elapsed() > Duration::zero());
}

TEST_CASE("sim: a killed process still unwinds, with its waits") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  Event stop(node.reactor());
  auto stopped = node.start(waitForStop(stop, 1h));
  world.run(1s);
  world.kill(node);
  CHECK_FALSE(node.alive());
  stop.set();  // the daemon's stop()
  CHECK(world.drain(node, 1s));
  CHECK(*stopped == true);
}

TEST_CASE("sim: every later operation of a killed process is canceled, and not inline") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  world.kill(node);
  auto connected = world.await(node, node.network().connect({"host", 1}, 1h), 1s);
  REQUIRE(connected.has_value());
  CHECK(connected->error().code == Errc::kCanceled);
  CHECK(node.network().listen({"host", 7000}).error().code == Errc::kCanceled);
  CHECK(node.kv().open(node.reactor(), "/db", {}).error().code == Errc::kCanceled);
  CHECK(world.elapsed() == Duration::zero());
}

TEST_CASE("sim: buggify fires about as often as asked, never when off") {
  SimWorld world(3);
  int fired = 0;
  for (int i = 0; i < 10'000; ++i) fired += world.buggify(0.25);
  CHECK(fired > 2300);
  CHECK(fired < 2700);
  const uint64_t next = SimWorld(9).random().next();
  SimWorld other(9);
  CHECK_FALSE(other.buggify(0));
  CHECK(other.random().next() == next);  // a fault that is off does not change the run
}
