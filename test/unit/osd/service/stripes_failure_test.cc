// Erasure-coded groups whose members die, return, are lost or get another shard.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/stripes_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

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
    rest(c);
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
