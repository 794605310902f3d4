#include "osd/service/block_ranges.h"

#include <bitset>

#include <doctest/doctest.h>

#include "common/base/units.h"
#include "common/reactor/clock.h"

using namespace cairn;
using namespace cairn::osd;

TEST_CASE("the blocks of a byte range are those it touches") {
  CHECK(blocksOf(0, 1) == BlockRange{0, 1});
  CHECK(blocksOf(0, kBlockSize) == BlockRange{0, 1});
  CHECK(blocksOf(kBlockSize - 1, 2) == BlockRange{0, 2});
  CHECK(blocksOf(0, kChunkSize) == BlockRange{0, kBlocksPerChunk});
}

TEST_CASE("a set of ranges holds exactly the blocks that were added and not removed") {
  SeededRandom random(42);
  for (int round = 0; round < 50; ++round) {
    constexpr uint32_t kSize = 64;
    BlockRanges ranges;
    std::bitset<kSize> model;
    for (int i = 0; i < 100; ++i) {
      auto from = static_cast<uint32_t>(random.below(kSize));
      auto to = static_cast<uint32_t>(from + random.below(kSize - from + 1));
      const bool add = random.chance(1, 2);
      add ? ranges.add({from, to}) : ranges.remove({from, to});
      for (uint32_t b = from; b < to; ++b) model[b] = add;

      REQUIRE(ranges.blocks() == model.count());
      REQUIRE(ranges.empty() == model.none());
      for (uint32_t b = 0; b < kSize; ++b) REQUIRE(ranges.overlaps({b, b + 1}) == model[b]);
      if (!model.none()) {
        BlockRange first = ranges.first(5);
        REQUIRE(first.from < first.to);
        REQUIRE(first.to - first.from <= 5);
        REQUIRE(first.from == model._Find_first());
        for (uint32_t b = first.from; b < first.to; ++b) REQUIRE(model[b]);
      }
    }
  }
}
