// Groups of erasure-coded pools: what clients see, what lies on the disks, whoever dies when.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/erasure/erasure_code.h"
#include "common/schema/osd.capnp.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/erasure/shard_layout.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

constexpr TestCluster::Stripes kSix{4, 2, 2};

ShardLayout layoutOf(TestCluster& c) {
  return ShardLayout::of(c.mds.map.pools[kPool]);
}

std::vector<uint8_t> shard(TestCluster& c, size_t osd, uint64_t chunk, uint32_t rows) {
  const uint8_t s = c.group().shardOf(OsdId{static_cast<uint32_t>(osd)});
  return c.disk(osd).content(inStore(ChunkId{chunk}, s), 0, rows * kB);
}

// Every OSD holds what the code says it does, and nobody has anything staged.
void checkWords(TestCluster& c, uint64_t chunk, uint32_t rows) {
  const ShardLayout l = layoutOf(c);
  const ErasureCode code(l.data, l.parity);
  std::vector<std::vector<uint8_t>> shards(l.shards()), made(l.parity);
  for (uint32_t i = 1; i <= l.shards(); ++i) {
    shards[c.group().shardOf(OsdId{i})] = shard(c, i, chunk, rows);
    for (const auto& [id, stored] : c.disk(i).chunks)
      if (isStaged(id)) CHECK(stored.blocks.empty());
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

}  // namespace

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
  c.run(1s);
  for (size_t i = 1; i <= 6; ++i) CHECK(c.disk(i).blocks() == 0);
}

TEST_CASE("stripes: reads and writes go on with as many gone as there is parity") {
  for (const auto [a, b] : {std::pair{1, 2}, {5, 6}, {1, 6}, {2, 4}}) {
    CAPTURE(a);
    CAPTURE(b);
    TestCluster c(kSix);
    Model m(c, 42, 64);
    m.write(0, 64 * kB, 1);
    c.lose(a);
    c.waitForMap();
    m.check();
    m.write(3 * kB, 9 * kB, 2);
    c.lose(b);
    c.waitForMap();
    m.check();
    m.write(9 * kB + 10, 2 * kB, 3);
    m.write(40 * kB, kB, 4);
    m.zero(50 * kB + 1, 10 * kB);
    Model late(c, 43, 8);
    late.write(kB, kB, 5);
    m.check();
    c.restart(a);
    c.restart(b);
    REQUIRE(c.waitForCopies(6));
    m.check();
    late.check();
    c.run(1s);
    checkWords(c, 42, 64);
    checkWords(c, 43, 8);
  }
}

TEST_CASE("stripes: a primary dies in the middle of a write: all of it is there or nothing") {
  // Its slots have reached everybody but osd.4, or everybody but the primary's own disk.
  for (const bool decided : {false, true}) {
    CAPTURE(decided);
    TestCluster c(kSix);
    Model m(c, 42, 32);
    m.write(0, 32 * kB, 1);
    c.run(1s);
    if (decided)
      c.disk(1).delay = 100ms;
    else
      c.world.network().cut("osd1", "osd4");
    const auto data = bytesOf(32 * kB, 2);
    auto answer = c.askLater(1, c.writeRequest(42, 0, data));
    auto hasSlot = [&](size_t i) {
      for (const auto& [id, stored] : c.disk(i).chunks)
        if (isStaged(id) && !stored.blocks.empty()) return true;
      return false;
    };
    REQUIRE(c.world.runUntil(
        [&] {
          return hasSlot(2) && hasSlot(3) && hasSlot(5) && hasSlot(6) && hasSlot(4) == decided;
        },
        1s));
    CHECK_FALSE(answer->has_value());
    c.kill(1);
    c.disk(1).delay = 50us;
    c.world.network().healAll();
    c.mds.markDown(OsdId{1});
    c.waitForMap();
    if (decided) m.bytes = data;
    m.check();
    c.restart(1);
    REQUIRE(c.waitForCopies(6));
    m.check();
    c.run(1s);
    checkWords(c, 42, 8);
  }
}

TEST_CASE("stripes: with one more gone nothing is served; what was acknowledged is there again") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  for (size_t i : {2, 4, 6}) c.lose(i);
  c.run(3s);
  c.epoch = c.group().epoch;
  CHECK_FALSE(c.read(1, 42, 0, kB));
  CHECK_FALSE(c.write(1, 42, 0, bytesOf(kB, 2)));
  for (size_t i : {2, 4, 6}) c.restart(i);
  REQUIRE(c.waitForCopies(6));
  m.check();
  m.write(kB, 9 * kB, 3);
  m.check();
  c.run(1s);
  checkWords(c, 42, 64);
}

TEST_CASE("stripes: a lost disk is rebuilt from the others") {
  for (size_t lost : {1, 3, 6}) {
    CAPTURE(lost);
    TestCluster c(kSix);
    Model m(c, 42, 64);
    m.write(0, 64 * kB, 1);
    Model n(c, 43, 64);
    n.write(33 * kB, 100, 2);
    c.lose(lost);
    c.waitForMap();
    c.disk(lost).chunks.clear();
    c.disk(lost).groups.clear();
    c.disk(lost).removals.clear();
    c.restart(lost);
    REQUIRE(c.waitForCopies(6));
    checkWords(c, 42, 64);
    checkWords(c, 43, 64);
    m.check();
    n.check();
  }
}

TEST_CASE("stripes: an OSD that returns with another shard holds that, and the old one goes") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  c.lose(3);
  c.lose(5);
  auto& shards = c.mds.map.pools[kPool].pgs[0].shards;
  std::swap(shards[OsdId{3}], shards[OsdId{5}]);
  c.restart(3);
  c.restart(5);
  REQUIRE(c.waitForCopies(6));
  m.check();
  CHECK(c.world.runUntil(
      [&] {
        return std::ranges::none_of(
            c.disk(3).chunks, [](const auto& item) { return shardOf(item.second.group) == 2; });
      },
      60s));
  c.run(1s);
  checkWords(c, 42, 64);
}

TEST_CASE("stripes: damaged blocks are decoded, answered, and written anew") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  c.run(1s);
  auto damage = [&](size_t osd, uint32_t row) {
    c.disk(osd)
        .chunks.at(inStore(ChunkId{42}, static_cast<uint8_t>(osd - 1)))
        .blocks.at(row)
        .bytes[9] ^= 1;
  };
  damage(1, 0);  // the primary's own
  damage(2, 3);
  damage(5, 3);
  damage(3, 7);
  m.check();
  damage(2, 5);
  m.write(11 * kB, kB, 2);
  m.check();
  c.run(1s);
  checkWords(c, 42, 16);
  for (size_t osd : {1, 2, 4}) damage(osd, 9);
  auto lost = c.read(1, 42, 32 * kB, 2 * kB);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == Errc::kCorrupt);
  CHECK(c.read(1, 42, 0, 16 * kB));
}

TEST_CASE("stripes: a full member refuses, and nothing has changed") {
  TestCluster c(kSix);
  Model m(c, 42, 32);
  m.write(0, 32 * kB, 1);
  c.run(1s);
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

TEST_CASE("stripes: a removed chunk is gone everywhere, also where it was missed") {
  TestCluster c(kSix);
  Model m(c, 42, 32);
  m.write(0, 32 * kB, 1);
  c.lose(2);
  c.waitForMap();
  OutMessage q = c.request();
  q.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, 42);
  REQUIRE(c.ask(1, std::move(q), schema::Hello::Role::MDS));
  c.restart(2);
  REQUIRE(c.waitForCopies(6));
  for (size_t i = 1; i <= 6; ++i)
    CHECK(std::ranges::none_of(c.disk(i).chunks, [](const auto& item) {
      return !item.second.blocks.empty() || !isStaged(item.first);
    }));
}

// Clients write and read regions of their own, sending again what is not answered, while OSDs die
// and return at any moment. Every read shows what the client wrote last; in the end all shards
// belong together.
TEST_CASE("stripes: nothing that was acknowledged is lost or torn, whoever dies when") {
  struct Worker {
    uint32_t from, blocks;
    std::vector<uint8_t> bytes;
    TestCluster::Answer answer;
    std::vector<uint8_t> writing;
    uint32_t at = 0, length = 0;
    int kind = 0;  // 0: none, 1: write, 2: read, 3: zero
  };
  const char* seeds = std::getenv("CAIRN_SEEDS");
  const uint64_t last = seeds == nullptr ? 12 : std::strtoull(seeds, nullptr, 10);
  for (uint64_t seed = 1; seed <= last; ++seed) {
    CAPTURE(seed);
    TestCluster::Stripes stripes = seed % 3 == 0 ? TestCluster::Stripes{2, 1, 1} : kSix;
    if (seed % 2 == 0) stripes.minSize = static_cast<uint16_t>(stripes.data + 1);
    const bool bold = seed % 4 < 2;  // more may be dead than the group can do without
    TestCluster c(stripes, seed);
    const ShardLayout l = layoutOf(c);
    uint64_t state = seed * 0x9e3779b97f4a7c15;
    auto random = [&](uint32_t below) {
      state = state * 6364136223846793005 + 1442695040888963407;
      return static_cast<uint32_t>((state >> 33) % below);
    };
    constexpr uint32_t kRegion = 23;  // blocks: regions share stripes
    std::vector<Worker> workers;
    for (uint32_t w = 0; w < 5; ++w)
      workers.push_back(
          {w * kRegion, kRegion, std::vector<uint8_t>(kRegion * kB), {}, {}, 0, 0, 0});
    auto send = [&](Worker& w) {
      c.epoch = c.group().epoch;
      OutMessage q;
      const uint32_t at = w.from * kB + w.at;
      if (w.kind == 1) q = c.writeRequest(42, at, w.writing);
      if (w.kind == 2) q = c.readRequest(42, at, w.length);
      if (w.kind == 3) {
        q = c.request();
        auto z = q.body<schema::OsdRequest>().initZero();
        z.setChunk(42);
        z.setOffset(at);
        z.setLength(w.length);
      }
      w.answer = c.alive(c.primary()) ? c.askLater(c.primary(), std::move(q), 2s) : nullptr;
    };
    std::map<size_t, int> dead;  // and for how many ticks more
    size_t served = 0;
    for (int tick = 0; tick < 1500; ++tick) {
      const bool ending = tick >= 1200;
      for (Worker& w : workers) {
        if (w.answer && !w.answer->has_value()) continue;
        if (w.kind != 0 && w.answer && w.answer->value()) {
          ++served;
          if (w.kind == 1) std::ranges::copy(w.writing, w.bytes.begin() + w.at);
          if (w.kind == 3) std::fill_n(w.bytes.begin() + w.at, w.length, 0);
          if (w.kind == 2) {
            const InMessage& got = **w.answer->operator->();
            auto r = got.body<schema::OsdReply>().getRead();
            std::vector<uint8_t> bytes(w.length);
            if (!r.getHole()) std::memcpy(bytes.data(), got.payload().data(), w.length);
            REQUIRE(std::equal(bytes.begin(), bytes.end(), w.bytes.begin() + w.at));
          }
          w.kind = 0;
        }
        w.answer = nullptr;
        if (w.kind == 0) {
          if (ending) continue;
          w.kind = 1 + static_cast<int>(random(10)) / 4;
          w.length = 1 + random(random(3) == 0 ? w.blocks * kB : 2 * kB);
          w.at = random(w.blocks * kB - w.length + 1);
          if (w.kind == 2) {
            w.at = static_cast<uint32_t>(roundDown(w.at, kB));
            w.length = static_cast<uint32_t>(roundUp(w.length, kB));
            if (w.at + w.length > w.blocks * kB) w.at = w.blocks * kB - w.length;
          }
          if (w.kind == 1) w.writing = bytesOf(w.length, random(1u << 30));
        }
        send(w);
      }
      for (auto at = dead.begin(); at != dead.end();) {
        if (--at->second > 0 && !ending) {
          ++at;
          continue;
        }
        c.restart(at->first);
        at = dead.erase(at);
      }
      const bool spare =
          bold ? dead.size() <= l.parity : c.group().inSync() > l.data && dead.size() < l.parity;
      if (!ending && spare && random(25) == 0) {
        const size_t victim = 1 + random(l.shards());
        if (c.alive(victim) &&
            std::ranges::count(c.group().osds, OsdId{static_cast<uint32_t>(victim)}) != 0) {
          c.kill(victim);
          if (random(2) == 0) c.mds.markDown(OsdId{static_cast<uint32_t>(victim)});
          dead[victim] = 5 + static_cast<int>(random(120));
        }
      }
      // Disks that are slow now and then, and connections that are cut for a while.
      if (random(10) == 0)
        c.disk(1 + random(l.shards())).delay = std::chrono::microseconds(50 + random(8000));
      if (ending || random(60) == 0)
        c.world.network().healAll();
      else if (random(60) == 0)
        c.world.network().cut(TestCluster::host(1 + random(l.shards())),
                              TestCluster::host(1 + random(l.shards())));
      for (auto& [id, ticks] : dead)
        if (c.mds.map.osds[OsdId{static_cast<uint32_t>(id)}].up && random(40) == 0)
          c.mds.markDown(OsdId{static_cast<uint32_t>(id)});
      c.run(std::chrono::microseconds(200 + random(20000)));
    }
    CHECK(served > (bold || stripes.minSize != 0 ? 5 : 100));
    for (Worker& w : workers) CHECK(w.kind == 0);
    REQUIRE(c.waitForCopies(l.shards(), 60s));
    for (Worker& w : workers) {
      auto got = c.readUntilDone(42, w.from * kB, w.blocks * kB);
      REQUIRE_MESSAGE(got, got.error().text());
      CHECK(got->data == w.bytes);
    }
    c.run(2s);
    checkWords(c, 42, l.rowsOf({0, 5 * kRegion}).to);
  }
}

namespace {

// Bytes that their checksum vouches for, and that are wrong all the same.
void forge(TestCluster& c, size_t osd, uint64_t chunk, uint32_t row) {
  auto& block =
      c.disk(osd).chunks.at(inStore(ChunkId{chunk}, static_cast<uint8_t>(osd - 1))).blocks.at(row);
  block.bytes[7] ^= 1;
  block.crc = crc32c(block.bytes);
}

ScrubProgress scrubAll(TestCluster& c) {
  OutMessage m;
  m.body<schema::OsdRequest>().initScrub().setDeep(true);
  REQUIRE(c.ask(c.primary(), std::move(m), schema::Hello::Role::ADMIN));
  auto& service = c.osd(c.primary()).service;
  REQUIRE(c.world.runUntil([&] { return service.scrub().groupsLeft == 0; }, 60s));
  return service.scrub();
}

}  // namespace

TEST_CASE("stripes: a deep scrub mends what is damaged, and what is wrong with a right checksum") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  c.run(1s);
  c.disk(3).chunks.at(inStore(ChunkId{42}, 2)).blocks.at(4).bytes[9] ^= 1;
  c.disk(6).chunks.at(inStore(ChunkId{42}, 5)).blocks.at(4).bytes[9] ^= 1;
  forge(c, 2, 42, 6);
  forge(c, 5, 42, 9);
  Model gone(c, 43, 64);
  gone.write(0, 64 * kB, 2);
  c.run(1s);
  c.disk(4).chunks.erase(inStore(ChunkId{43}, 3));  // as if it had never been there
  CHECK(scrubAll(c).unrepairable == 0);
  checkWords(c, 42, 16);
  checkWords(c, 43, 16);
  m.check();
  gone.check();
}

TEST_CASE("stripes: nobody is called wrong while somebody cannot be asked") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  c.run(1s);
  forge(c, 2, 42, 6);
  const auto good = shard(c, 5, 42, 16);
  c.kill(6);  // the map does not say so yet
  OutMessage q;
  q.body<schema::OsdRequest>().initScrub().setDeep(true);
  REQUIRE(c.ask(1, std::move(q), schema::Hello::Role::ADMIN));
  c.run(20s);
  CHECK(shard(c, 5, 42, 16) == good);
  c.restart(6);
  REQUIRE(c.waitForCopies(6));
  CHECK(c.world.runUntil([&] { return c.osd(1).service.scrub().groupsLeft == 0; }, 60s));
  checkWords(c, 42, 16);
  m.check();
}

TEST_CASE("stripes: what no scrub can mend is said by its blocks") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  c.run(1s);
  for (uint8_t s : {0, 1, 4})
    c.disk(s + 1u).chunks.at(inStore(ChunkId{42}, s)).blocks.at(5).bytes[1] ^= 1;
  CHECK(scrubAll(c).unrepairable == 1);
  OutMessage q;
  q.body<schema::OsdRequest>().initDamaged().setLimit(10);
  auto answer = c.ask(c.primary(), std::move(q), schema::Hello::Role::ADMIN);
  REQUIRE(answer);
  auto chunks = answer->body<schema::OsdReply>().getDamaged().getChunks();
  REQUIRE(chunks.size() == 1);
  CHECK(chunks[0].getChunk() == 42);
  // Row 5 is the second of stripe 2: blocks 17 and 19 lie on shards 0 and 1.
  REQUIRE(chunks[0].getRanges().size() == 2);
  CHECK(chunks[0].getRanges()[0].getOffset() == 17 * kB);
  CHECK(chunks[0].getRanges()[1].getOffset() == 19 * kB);
  CHECK(chunks[0].getRanges()[1].getLength() == kB);
  m.write(16 * kB, 8 * kB, 2);
  CHECK(scrubAll(c).unrepairable == 0);
  m.check();
}

TEST_CASE("stripes: data is found where its shard is away and the parity of it is zero") {
  TestCluster c({2, 1, 1});
  const auto block = bytesOf(kB, 3);
  auto twice = block;
  twice.insert(twice.end(), block.begin(), block.end());
  REQUIRE(c.write(1, 42, 0, twice));
  c.lose(1);
  c.waitForMap();
  OutMessage q = c.request();
  q.body<schema::OsdRequest>().initExtents().setChunk(42);
  auto answer = c.ask(c.primary(), std::move(q));
  REQUIRE(answer);
  auto found = answer->body<schema::OsdReply>().getExtents().getData();
  REQUIRE(found.size() == 1);
  CHECK(found[0].getOffset() == 0);
  CHECK(found[0].getLength() == 2 * kB);
  CHECK(c.readUntilDone(42, 0, 2 * kB)->data == twice);
}

TEST_CASE("stripes: a member that is given another shard while it joins begins anew") {
  TestCluster c(kSix);
  std::vector<Model> models;
  for (uint64_t chunk = 42; chunk < 52; ++chunk) {
    models.emplace_back(c, chunk, 64);
    models.back().write(0, 64 * kB, static_cast<uint32_t>(chunk));
  }
  c.lose(5);
  c.lose(6);
  c.waitForMap();
  for (size_t i : {5, 6}) {
    c.disk(i).chunks.clear();
    c.disk(i).groups.clear();
  }
  c.disk(5).delay = 20ms;  // it takes its time
  const uint64_t before = c.disk(5).mutations;
  c.restart(5);
  REQUIRE(c.world.runUntil([&] { return c.disk(5).mutations > before + 3; }, 30s));
  auto& group = c.mds.map.pools[kPool].pgs[0];
  std::swap(group.shards[OsdId{5}], group.shards[OsdId{6}]);
  c.mds.newEpoch();
  group.epoch = c.mds.map.epoch;
  c.disk(5).delay = 50us;
  c.restart(6);
  REQUIRE(c.waitForCopies(6, 60s));
  c.run(1s);
  for (Model& m : models) {
    m.check();
    checkWords(c, m.chunk, 16);
  }
}
