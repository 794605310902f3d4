#include "client/core/read_pattern.h"

#include <doctest/doctest.h>

#include "common/base/units.h"
#include "common/reactor/clock.h"

using namespace cairn;
using namespace cairn::client;

TEST_CASE("read pattern: a sequential reader's window grows up to its bound and stops at the end") {
  ReadPattern p;
  const uint64_t size = 100 * kMiB, step = 128 * kKiB, bound = 16 * kMiB;
  uint64_t window = 0;
  for (uint64_t at = 0; at < size; at += step) {
    auto plan = p.next(at, step, size, bound);
    CHECK(plan.wholePieces);
    CHECK(plan.aheadTo <= size);
    CHECK(plan.aheadTo <= at + step + bound);
    if (at + step + bound < size) {
      CHECK(plan.aheadTo - at - step >= window);
      window = plan.aheadTo - at - step;
    }
  }
  CHECK(window == bound);
}

TEST_CASE("read pattern: small reads all over a large file bring nothing else with them") {
  ReadPattern p;
  SeededRandom random(3);
  const uint64_t size = 100 * kGiB;
  for (int i = 0; i < 1000; ++i) {
    auto plan = p.next(random.below(size / 4096) * 4096, 4096, size, 16 * kMiB);
    CHECK_FALSE(plan.wholePieces);
    CHECK(plan.aheadTo == 0);
  }
}

TEST_CASE("read pattern: requests of one reader that overtake each other stay sequential") {
  ReadPattern p;
  const uint64_t size = kGiB, step = 128 * kKiB;
  p.next(0, step, size, 16 * kMiB);
  p.next(step, step, size, 16 * kMiB);
  for (uint64_t at = 2 * step; at < 64 * step; at += 2 * step) {
    CHECK(p.next(at + step, step, size, 16 * kMiB).wholePieces);
    CHECK(p.next(at, step, size, 16 * kMiB).wholePieces);
  }
}

TEST_CASE("read pattern: a small file is read whole at once, a large one is not for its header") {
  ReadPattern small, large;
  CHECK(small.next(8192, 4096, 200 * kKiB, 16 * kMiB).wholePieces);
  CHECK_FALSE(large.next(0, 4096, kGiB, 16 * kMiB).wholePieces);
}
