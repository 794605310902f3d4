#include "client/core/interval_set.h"

#include <doctest/doctest.h>

#include <set>

#include "common/reactor/clock.h"

using namespace cairn;
using namespace cairn::client;

TEST_CASE("interval set: agrees with a set of integers") {
  SeededRandom random(7);
  IntervalSet intervals;
  std::set<uint64_t> model;
  for (int step = 0; step < 3000; ++step) {
    uint64_t from = random.below(200), to = from + random.below(20);
    if (random.chance(1, 2)) {
      intervals.add(from, to);
      for (uint64_t v = from; v < to; ++v) model.insert(v);
    } else {
      intervals.remove(from, to);
      for (uint64_t v = from; v < to; ++v) model.erase(v);
    }
    for (uint64_t v = 0; v < 225; ++v) {
      REQUIRE(intervals.contains(v) == model.contains(v));
      uint64_t end = v;
      while (model.contains(end)) ++end;
      REQUIRE(intervals.endOf(v) == end);
    }
  }
}
