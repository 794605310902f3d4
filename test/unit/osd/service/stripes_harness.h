// What the tests of erasure-coded groups share: a cluster's code, a client that knows what should
// be there, and whether the shards belong together.
#pragma once

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "common/erasure/erasure_code.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/erasure/shard_layout.h"
#include "test/unit/osd/service/cluster.h"

namespace cairn::osd::test {

inline constexpr TestCluster::Stripes kSix{4, 2, 2};

inline ShardLayout layoutOf(TestCluster& c) {
  return ShardLayout::of(c.mds.map.pools[kPool]);
}

inline std::vector<uint8_t> shard(TestCluster& c, size_t osd, uint64_t chunk, uint32_t rows) {
  const uint8_t s = c.group().shardOf(OsdId{static_cast<uint32_t>(osd)});
  return c.disk(osd).content(inStore(ChunkId{chunk}, s), 0, rows * kB);
}

// No change is under way, and nothing is left of any.
inline void rest(TestCluster& c) {
  const bool resting = c.world.runUntil(
      [&] {
        for (size_t i = 1; i <= layoutOf(c).shards(); ++i)
          for (const auto& [id, stored] : c.disk(i).chunks)
            if (isStaged(id) && !stored.blocks.empty()) return false;
        return true;
      },
      20s);
  CHECK(resting);
  c.run(100ms);  // in which the primary hears of it
}

// Every OSD holds what the code says it does, and nobody has anything staged.
inline void checkWords(TestCluster& c, uint64_t chunk, uint32_t rows) {
  rest(c);
  const ShardLayout l = layoutOf(c);
  const ErasureCode code(l.data, l.parity);
  std::vector<std::vector<uint8_t>> shards(l.shards()), made(l.parity);
  for (uint32_t i = 1; i <= l.shards(); ++i) {
    shards[c.group().shardOf(OsdId{i})] = shard(c, i, chunk, rows);
  }
  std::vector<const uint8_t*> data;
  std::vector<uint8_t*> parity;
  for (uint32_t d = 0; d < l.data; ++d) data.push_back(shards[d].data());
  for (auto& p : made) {
    p.resize(size_t{rows} * kB);
    parity.push_back(p.data());
  }
  code.encode(data, parity, size_t{rows} * kB);
  for (uint32_t p = 0; p < l.parity; ++p) CHECK(shards[l.data + p] == made[p]);
}

// A client that keeps what should be there.
struct Model {
  TestCluster& c;
  uint64_t chunk;
  std::vector<uint8_t> bytes;

  Model(TestCluster& cluster, uint64_t id, uint32_t blocks)
      : c(cluster), chunk(id), bytes(size_t{blocks} * kB) {}

  void write(uint32_t offset, uint32_t length, uint32_t seed) {
    auto data = bytesOf(length, seed);
    std::ranges::copy(data, bytes.begin() + offset);
    auto done = c.writeUntilDone(chunk, offset, data);
    REQUIRE_MESSAGE(done, done.error().text());
  }
  void zero(uint32_t offset, uint32_t length) {
    std::fill_n(bytes.begin() + offset, length, 0);
    auto done = c.zero(c.primary(), chunk, offset, length);
    REQUIRE_MESSAGE(done, done.error().text());
  }
  void check() {
    for (uint32_t at = 0; at < bytes.size(); at += 256 * kB) {
      const auto length = static_cast<uint32_t>(std::min<size_t>(256 * kB, bytes.size() - at));
      auto got = c.readUntilDone(chunk, at, length);
      REQUIRE_MESSAGE(got, got.error().text());
      CHECK(std::equal(got->data.begin(), got->data.end(), bytes.begin() + at));
    }
  }
};

}  // namespace cairn::osd::test
