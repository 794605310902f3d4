#include "client/core/dirty_map.h"

#include <doctest/doctest.h>

#include <cstring>
#include <optional>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::client;

namespace {

struct DirtyFixture {
  sim::SimWorld world{1};
  sim::SimNode& node = world.addNode("host");
  DirtyBudget budget{node.reactor(), 64 * kMiB};
  std::optional<DirtyMap> map{std::in_place, node.buffers(), budget};

  void write(uint64_t offset, size_t size, uint8_t value = 1) {
    std::vector<uint8_t> data(size, value);
    map->write(offset, data);
  }
  // One extent.
  DirtyMap::ExtentPtr next() {
    auto run = map->next(0);
    REQUIRE(run.size() <= 1);
    return run.empty() ? nullptr : run.front();
  }
};

}  // namespace

TEST_CASE("dirty map: a sequential writer's bytes leave as whole pieces") {
  DirtyFixture f;
  for (uint64_t at = 0; at < 4 * kMiB; at += 64 * kKiB) f.write(at, 64 * kKiB);
  for (uint64_t i = 0; i < 4; ++i) {
    auto e = f.next();
    REQUIRE(e);
    CHECK(e->from == i * kMiB);
    CHECK(e->to - e->from == kMiB);
    CHECK(reinterpret_cast<uintptr_t>(e->bytes().data()) % kBlockSize == 0);
    f.map->done(e);
  }
  CHECK(f.map->empty());
  CHECK(f.budget.usedBytes() == 0);
}

TEST_CASE("dirty map: what has piled up leaves together, if it is one piece of one chunk") {
  DirtyFixture f;
  auto run = [&](uint64_t most) {
    auto extents = f.map->next(most);
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (auto& e : extents) {
      ranges.emplace_back(e->from, e->to);
      f.map->done(e);
    }
    return ranges;
  };
  using Ranges = decltype(run(0));
  const uint64_t edge = kChunkSize;
  f.write(edge - 3 * kMiB, 6 * kMiB + 5);  // across the edge of a chunk
  f.map->want(0, UINT64_MAX, f.map->cut());
  CHECK(run(4 * kMiB) == Ranges{{edge - 3 * kMiB, edge - 2 * kMiB},
                                {edge - 2 * kMiB, edge - kMiB},
                                {edge - kMiB, edge}});
  CHECK(run(2 * kMiB) == Ranges{{edge, edge + kMiB}, {edge + kMiB, edge + 2 * kMiB}});
  CHECK(run(2 * kMiB) ==
        Ranges{{edge + 2 * kMiB, edge + 3 * kMiB}, {edge + 3 * kMiB, edge + 3 * kMiB + 5}});
  CHECK(f.map->empty());

  // One that begins inside a block, and whole ones behind it.
  f.write(5, 3 * kMiB - 5);
  f.map->want(0, UINT64_MAX, f.map->cut());
  CHECK(run(4 * kMiB) == Ranges{{kMiB, 2 * kMiB}, {2 * kMiB, 3 * kMiB}});
  CHECK(run(4 * kMiB) == Ranges{{5, kMiB}});

  // Not what is not asked for, has a gap before it, or must wait for its elder.
  f.write(0, kMiB);
  f.write(kMiB, 100);
  CHECK(run(4 * kMiB) == Ranges{{0, kMiB}});
  f.write(3 * kMiB, kMiB);
  f.write(4 * kMiB + 1, 100);
  f.map->want(0, UINT64_MAX, f.map->cut());
  CHECK(run(4 * kMiB) == Ranges{{3 * kMiB, 4 * kMiB}});
  CHECK(run(4 * kMiB) == Ranges{{kMiB, kMiB + 100}});
  CHECK(run(4 * kMiB) == Ranges{{4 * kMiB + 1, 4 * kMiB + 101}});
  f.write(kMiB, kMiB, 1);
  auto elder = f.next();
  f.write(0, kMiB, 2);
  f.write(kMiB, kMiB, 2);
  CHECK(run(4 * kMiB) == Ranges{{0, kMiB}});
  CHECK(run(4 * kMiB).empty());
  f.map->done(elder);
  CHECK(run(4 * kMiB) == Ranges{{kMiB, 2 * kMiB}});
  CHECK(f.map->empty());
  CHECK(f.budget.usedBytes() == 0);
}

TEST_CASE("dirty map: what a sequential writer will make more of can be left to grow") {
  DirtyFixture f;
  auto leave = [&](uint64_t most) {
    const auto run = f.map->next(most, 4 * kMiB);
    for (auto& e : run) f.map->done(e);
    return run.size();
  };
  f.write(0, kMiB);
  f.write(kMiB, kMiB);
  CHECK(leave(4 * kMiB) == 0);
  SUBCASE("until it is large enough") {
    f.write(2 * kMiB, 2 * kMiB);
    CHECK(leave(4 * kMiB) == 4);
  }
  SUBCASE("not when it would be too large") {
    f.map->want(0, UINT64_MAX, f.map->cut());
    CHECK(leave(2 * kMiB) == 2);
  }
  SUBCASE("not when the writer went elsewhere") {
    f.write(9 * kMiB, 100);
    CHECK(leave(4 * kMiB) == 2);
  }
}

TEST_CASE("dirty map: what is being flushed does not change, and newer bytes follow it") {
  DirtyFixture f;
  f.write(0, kMiB, 1);
  auto first = f.next();
  REQUIRE(first);
  f.write(100, 50, 2);
  CHECK(first->bytes().data()[120] == 1);
  f.map->want(0, UINT64_MAX, f.map->cut());
  CHECK(f.next() == nullptr);  // not beside its elder
  auto pieces = f.map->overlay(0, kMiB);
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[1].offset == 100);
  f.map->done(first);
  auto second = f.next();
  REQUIRE(second);
  CHECK(second->from == 100);
  CHECK(second->bytes().data()[0] == 2);
  f.map->done(second);
  CHECK(f.map->empty());
}

TEST_CASE("dirty map: waiting for what is dirty now does not wait for what comes later") {
  DirtyFixture f;
  f.write(0, 100);
  uint64_t cut = f.map->cut();
  f.write(5 * kMiB, 100);
  f.map->want(0, UINT64_MAX, cut);
  auto e = f.next();
  REQUIRE(e);
  CHECK(e->from == 0);
  CHECK(f.next() == nullptr);
  CHECK(f.map->pending(0, UINT64_MAX, cut));
  f.map->done(e);
  CHECK_FALSE(f.map->pending(0, UINT64_MAX, cut));
  CHECK_FALSE(f.map->empty());
}

TEST_CASE("dirty map: random writes and flushes give the newest bytes, over and under") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    DirtyFixture f;
    SeededRandom random(seed);
    constexpr uint64_t kSpace = 3 * kMiB;
    std::vector<uint8_t> model(kSpace), disk(kSpace);  // newest; what was flushed
    std::vector<DirtyMap::ExtentPtr> flushing;
    for (int step = 0; step < 400; ++step) {
      switch (random.below(5)) {
        case 0:
        case 1: {
          uint64_t at = random.below(kSpace);
          uint64_t limit = random.chance(1, 4) ? kSpace - at : std::min(kSpace - at, 20000ul);
          size_t n = 1 + random.below(limit);
          std::vector<uint8_t> data(n);
          for (auto& b : data) b = static_cast<uint8_t>(random.next());
          f.map->write(at, data);
          std::memcpy(model.data() + at, data.data(), n);
          break;
        }
        case 2: {
          uint64_t from = random.below(kSpace);
          f.map->want(from, from + random.below(kSpace), f.map->cut());
          break;
        }
        case 3:
          for (auto& e : f.map->next(random.below(3 * kMiB))) {
            for (auto& other : flushing) REQUIRE((e->to <= other->from || other->to <= e->from));
            flushing.push_back(e);
          }
          break;
        default:
          if (!flushing.empty()) {
            size_t i = random.below(flushing.size());
            auto e = flushing[i];
            std::memcpy(disk.data() + e->from, e->bytes().data(), e->to - e->from);
            f.map->done(e);
            flushing.erase(flushing.begin() + static_cast<ptrdiff_t>(i));
          }
      }
      uint64_t from = random.below(kSpace), to = from + random.below(kSpace - from);
      std::vector<uint8_t> seen(disk.begin() + static_cast<ptrdiff_t>(from),
                                disk.begin() + static_cast<ptrdiff_t>(to));
      for (auto& p : f.map->overlay(from, to)) {
        REQUIRE(p.offset >= from);
        REQUIRE(p.offset + p.bytes.size() <= to);
        std::memcpy(seen.data() + (p.offset - from), p.bytes.data(), p.bytes.size());
      }
      REQUIRE(std::memcmp(seen.data(), model.data() + from, to - from) == 0);
    }
    f.map->want(0, UINT64_MAX, f.map->cut());
    while (!f.map->empty()) {
      for (auto& e : f.map->next(random.below(3 * kMiB))) flushing.push_back(e);
      REQUIRE(!flushing.empty());
      std::memcpy(disk.data() + flushing[0]->from, flushing[0]->bytes().data(),
                  flushing[0]->to - flushing[0]->from);
      f.map->done(flushing[0]);
      flushing.erase(flushing.begin());
    }
    CHECK(disk == model);
    CHECK(f.budget.usedBytes() == 0);
    CHECK(f.budget.idleBytes() == 0);
  }
}
