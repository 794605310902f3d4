// How much background work goes on at once, and how long it rests, beside clients and without.
#include "osd/service/throttle.h"

#include <doctest/doctest.h>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::osd;

namespace {

struct Work {
  explicit Work(Reactor& reactor) : throttle(reactor), scope(reactor), reactor_(reactor) {}

  // `count` turns that take 10 ms each.
  void start(int count, int weight = 1) {
    for (int i = 0; i < count; ++i) scope.spawn(one(weight));
  }

  Throttle throttle;
  int running = 0, most = 0, done = 0;
  TaskScope scope;

 private:
  Task<void> one(int weight) {
    auto turn = co_await throttle.turn(weight);
    most = std::max(most, ++running);
    co_await sleepFor(reactor_, 10ms);
    --running;
    ++done;
  }
  Reactor& reactor_;
};

}  // namespace

TEST_CASE("throttle: with no client there much is done at once") {
  sim::SimWorld world(1);
  Work work(world.addNode("osd").reactor());
  work.start(64);
  world.run(41ms);
  CHECK(work.done == 64);
  CHECK(work.most == 16);
}

TEST_CASE(
    "throttle: beside clients one thing at a time, with rests by what they ask for and who works "
    "for it") {
  sim::SimWorld world(1);
  Work work(world.addNode("osd").reactor());
  const auto doneIn = [&](bool member, int requests, int weight) {
    const auto ask = [&] {
      for (int r = 0; r < requests; ++r)
        member ? work.throttle.noteMember() : work.throttle.noteClient();
    };
    const int before = work.done;
    work.most = 0;
    ask();
    work.start(1000, weight);
    for (int i = 0; i < 400; ++i) {  // two seconds
      world.run(5ms);
      ask();
    }
    const int done = work.done - before;
    CHECK(work.most == 1);
    world.run(1min);  // nobody is there: the rest goes at once
    CHECK(work.done == before + 1000);
    return done;
  };
  // Ten milliseconds of work and ten of rest.
  const int alike = doneIn(true, 1, 1);
  CHECK(alike > 85);
  CHECK(alike <= 101);
  // Many requests: fifty of rest. And three times that.
  const int busy = doneIn(false, 4, 1);
  CHECK(busy > 28);
  CHECK(busy <= 40);
  const int heavy = doneIn(false, 4, 3);
  CHECK(heavy > 10);
  CHECK(heavy <= 17);
}
