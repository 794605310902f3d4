#include "client/core/block_cache.h"

#include <doctest/doctest.h>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::client;

namespace {
struct Fixture {
  sim::SimWorld world{1};
  sim::SimNode& node = world.addNode("host");
  BlockCache cache{node.reactor(), 4 * kMiB};
  void put(uint64_t ino, uint64_t index, size_t size = kMiB) {
    cache.finish(cache.begin(InodeId{ino}, index), node.buffers().zeroed(size));
  }
};
}  // namespace

TEST_CASE("block cache: keeps what was used last within its bound") {
  Fixture f;
  for (uint64_t i = 0; i < 4; ++i) f.put(1, i);
  CHECK(f.cache.find(InodeId{1}, 0, kMiB));
  f.put(1, 4);
  CHECK(f.cache.holds(InodeId{1}, 0));
  CHECK_FALSE(f.cache.holds(InodeId{1}, 1));
  CHECK(f.cache.usedBytes() <= f.cache.limitBytes());
}

TEST_CASE("block cache: a fill that a change overtook is neither kept nor joined") {
  Fixture f;
  auto fill = f.cache.begin(InodeId{1}, 3);
  CHECK(f.cache.filling(InodeId{1}, 3) == fill);
  f.cache.invalidate(InodeId{1}, 3 * kMiB + 5, 3 * kMiB + 6);
  CHECK(f.cache.filling(InodeId{1}, 3) == nullptr);
  auto newer = f.cache.begin(InodeId{1}, 3);
  f.cache.finish(fill, f.node.buffers().zeroed(kMiB));
  CHECK(fill->done.isSet());  // those who wait for it since before may have it
  CHECK_FALSE(f.cache.holds(InodeId{1}, 3));
  CHECK(f.cache.filling(InodeId{1}, 3) == newer);
  f.cache.finish(newer, f.node.buffers().zeroed(kMiB));
  CHECK(f.cache.holds(InodeId{1}, 3));
}

TEST_CASE("block cache: invalidation takes the touched pieces of one file only") {
  Fixture f;
  f.put(1, 0);
  f.put(1, 1);
  f.put(2, 0);
  f.cache.invalidate(InodeId{1}, kMiB - 1, kMiB);
  CHECK_FALSE(f.cache.holds(InodeId{1}, 0));
  CHECK(f.cache.holds(InodeId{1}, 1));
  CHECK(f.cache.holds(InodeId{2}, 0));
  f.cache.drop(InodeId{1});
  CHECK_FALSE(f.cache.holds(InodeId{1}, 1));
  CHECK(f.cache.holds(InodeId{2}, 0));
}

TEST_CASE("block cache: a piece that is too short for the file by now is read again") {
  Fixture f;
  f.put(1, 0, 4096);
  CHECK(f.cache.find(InodeId{1}, 0, 4096));
  CHECK_FALSE(f.cache.find(InodeId{1}, 0, 4097));
  CHECK_FALSE(f.cache.holds(InodeId{1}, 0));
}
