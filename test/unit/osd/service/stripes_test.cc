// Groups of erasure-coded pools: what clients see, and what lies on the disks.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/stripes_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

TEST_CASE("the layout of stripes: every block has one place, and every range its rows") {
  for (const ShardLayout l : {ShardLayout{4, 2, 2}, {2, 1, 1}, {3, 2, 16}, {16, 4, 256}}) {
    CAPTURE(l.data);
    CHECK(l.rows() * l.data >= kBlocksPerChunk);
    for (uint32_t block = 0; block < 2000; ++block)
      CHECK(l.blockAt(l.shardOf(block), l.rowOf(block)) == block);
    CHECK(l.rowOf(kBlocksPerChunk - 1) < l.rows());
    for (uint32_t seed = 1; seed < 300; ++seed) {
      const uint32_t from = (seed * 7919) % 900, to = from + 1 + (seed * 104729) % 700;
      ShardSet shards = 0;
      BlockRange hull{UINT32_MAX, 0};
      std::map<uint8_t, BlockRange> rows;
      for (uint32_t b = from; b < to; ++b) {
        const uint8_t s = l.shardOf(b);
        const uint32_t r = l.rowOf(b);
        shards |= ShardSet{1} << s;
        auto [at, isNew] = rows.try_emplace(s, BlockRange{r, r + 1});
        at->second = {std::min(at->second.from, r), std::max(at->second.to, r + 1)};
        hull = {std::min(hull.from, r), std::max(hull.to, r + 1)};
      }
      CHECK(l.shardsOf({from, to}) == shards);
      CHECK(l.rowsOf({from, to}) == hull);
      for (auto [s, r] : rows) CHECK(l.rowsOf({from, to}, s) == r);
      // Pieces cover it, and no stripe is in two of them.
      uint32_t at = from, stripe = UINT32_MAX;
      for (BlockRange p : l.pieces({from, to}, 1024)) {
        CHECK(p.from == at);
        CHECK(p.to > p.from);
        CHECK(p.from / l.stripe() != stripe);
        CHECK(p.to - p.from <= std::max(1024u, l.stripe()));
        stripe = (p.to - 1) / l.stripe();
        at = p.to;
      }
      CHECK(at == to);
    }
  }
}

TEST_CASE("a slot's head says what it is, and nothing else passes for one") {
  StagedOp op{ChunkVersion{77}, {3, 9}, 0x31, false, 12};
  std::vector<uint8_t> block(kB);
  encodeStaged(op, ChunkId{42}, block);
  auto back = decodeStaged(block, ChunkId{42}, 12);
  REQUIRE(back);
  CHECK(*back == op);
  CHECK(op.slotBlocks() == 7);
  CHECK_FALSE(decodeStaged(block, ChunkId{43}, 12));
  CHECK_FALSE(decodeStaged(block, ChunkId{42}, 13));
  block[9] ^= 1;
  CHECK_FALSE(decodeStaged(block, ChunkId{42}, 12));
}

TEST_CASE("stripes: bytes come back, and every shard holds its part") {
  for (const auto stripes : {kSix, TestCluster::Stripes{2, 1, 1}, TestCluster::Stripes{8, 3, 1},
                             TestCluster::Stripes{3, 2, 4}}) {
    CAPTURE(stripes.data);
    TestCluster c(stripes);
    Model m(c, 42, 96);
    m.write(0, 64 * kB, 1);            // whole stripes
    m.write(5 * kB, kB, 2);            // one block
    m.write(7 * kB + 100, 300, 3);     // bytes of one
    m.write(20 * kB - 7, 3 * kB, 4);   // over units, unaligned
    m.write(62 * kB + 1, 20 * kB, 5);  // over what is there and what is not
    m.check();
    m.zero(10 * kB + 5, 30 * kB);
    m.zero(80 * kB, 3);
    m.write(12 * kB, 100, 6);
    m.check();
    c.run(1s);
    checkWords(c, 42, 96);
    // A small read asks one shard, and no other disk.
    std::vector<uint64_t> reads;
    for (size_t i = 1; i <= layoutOf(c).shards(); ++i) reads.push_back(c.disk(i).reads);
    REQUIRE(c.read(1, 42, 5 * kB, kB));
    uint64_t asked = 0;
    for (size_t i = 1; i <= layoutOf(c).shards(); ++i) asked += c.disk(i).reads - reads[i - 1];
    CHECK(asked == 1);
  }
}

TEST_CASE("stripes: a clone reads as its source, and shares its blocks") {
  for (const auto stripes : {kSix, TestCluster::Stripes{3, 2, 4}}) {
    CAPTURE(stripes.data);
    TestCluster c(stripes);
    Model from(c, 42, 96), to(c, 43, 96);
    from.write(0, 90 * kB, 1);
    from.zero(30 * kB, 20 * kB);
    to.write(3 * kB, 80 * kB, 2);
    auto clone = [&](uint32_t at, uint32_t length) {
      std::copy_n(from.bytes.begin() + at, length, to.bytes.begin() + at);
      auto done = c.clone(1, 42, at, 43, at, length);
      REQUIRE_MESSAGE(done, done.error().text());
    };
    clone(0, 96 * kB);
    to.check();
    from.write(17 * kB, 2 * kB, 3);  // neither changes the other
    to.write(60 * kB + 5, 1000, 4);
    from.check();
    to.check();
    clone(5 * kB, 41 * kB);  // edges within stripes
    to.check();
    c.run(1s);
    checkWords(c, 42, 96);
    checkWords(c, 43, 96);
    CHECK(c.clone(1, 42, 0, 43, kB, kB).error().code == Errc::kNotSupported);
    CHECK(c.clone(1, 44, 0, 43, 0, 8 * kB).error().code == Errc::kStale);
    // A member that is away meanwhile has it when it is back.
    const size_t last = layoutOf(c).shards();
    c.lose(2);
    c.lose(last);
    c.waitForMap();
    from.write(8 * kB, 32 * kB, 5);
    std::copy_n(from.bytes.begin(), 96 * kB, to.bytes.begin());
    auto done = c.clone(c.primary(), 42, 0, 43, 0, 96 * kB);
    REQUIRE_MESSAGE(done, done.error().text());
    c.restart(2);
    c.restart(last);
    REQUIRE(c.waitForCopies(last));
    to.check();
    c.run(1s);
    checkWords(c, 43, 96);
  }
}

TEST_CASE("stripes: what was zeroed is a hole, and SEEK_DATA finds what is not") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  m.zero(8 * kB, 24 * kB);
  m.zero(41 * kB, 2 * kB);
  OutMessage q = c.request();
  auto e = q.body<schema::OsdRequest>().initExtents();
  e.setChunk(42);
  e.setOffset(kB);
  auto answer = c.ask(1, std::move(q));
  REQUIRE(answer);
  std::vector<std::pair<uint32_t, uint32_t>> found;
  for (auto d : answer->body<schema::OsdReply>().getExtents().getData())
    found.emplace_back(d.getOffset() / kB, d.getLength() / kB);
  CHECK(found == std::vector<std::pair<uint32_t, uint32_t>>{{1, 7}, {32, 9}, {43, 21}});
  CHECK(answer->body<schema::OsdReply>().getExtents().getEnd() == kChunkSize);
  c.run(1s);
  checkWords(c, 42, 16);
  m.zero(0, 64 * kB);
  rest(c);
  for (size_t i = 1; i <= 6; ++i) CHECK(c.disk(i).blocks() == 0);
}

TEST_CASE("stripes: a full member refuses, and nothing has changed") {
  TestCluster c(kSix);
  Model m(c, 42, 32);
  m.write(0, 32 * kB, 1);
  rest(c);
  c.disk(4).capacityBlocks = c.disk(4).blocks();
  auto refused = c.write(1, 42, 0, bytesOf(32 * kB, 2));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kNoSpace);
  m.check();
  c.run(1s);
  checkWords(c, 42, 8);
  c.disk(4).capacityBlocks = UINT64_MAX;
  m.write(0, 32 * kB, 3);
  m.check();
  CHECK(c.group().osds.size() == 6);
}
