// Scrubs: what they find, what they mend, when they are due.
#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

void ask(TestCluster& c, bool deep) {
  for (size_t i = 1; i <= 3; ++i) {
    OutMessage m;
    m.body<schema::OsdRequest>().initScrub().setDeep(deep);
    REQUIRE(c.ask(i, std::move(m), schema::Hello::Role::ADMIN));
  }
}

bool done(TestCluster& c) {
  return c.world.runUntil([&] { return c.osd(1).service.scrub().groupsLeft == 0; }, 60s);
}

void flip(TestCluster& c, size_t osd, uint64_t chunk, uint32_t block) {
  c.disk(osd).chunks[ChunkId{chunk}].blocks[block].bytes[99] ^= 4;
}

}  // namespace

TEST_CASE("a deep scrub finds flipped bytes on every member and mends them") {
  TestCluster c(3);
  for (uint64_t chunk = 40; chunk < 50; ++chunk)
    REQUIRE(c.write(1, chunk, 0, bytesOf(8 * kB, static_cast<uint32_t>(chunk))));
  flip(c, 1, 41, 3);
  flip(c, 1, 42, 0);
  flip(c, 2, 42, 5);
  flip(c, 3, 49, 7);
  flip(c, 3, 41, 2);
  ask(c, true);
  CHECK(c.osd(1).service.scrub().groupsLeft == 1);
  REQUIRE(done(c));
  const ScrubProgress p = c.osd(1).service.scrub();
  CHECK(p.errorsFound == 5);
  CHECK(p.errorsRepaired == 5);
  CHECK(p.unrepairable == 0);
  for (uint64_t chunk = 40; chunk < 50; ++chunk)
    CHECK(c.everywhere(chunk, 0, 8 * kB) == bytesOf(8 * kB, static_cast<uint32_t>(chunk)));
}

TEST_CASE("what is damaged everywhere is counted until it is written anew or removed") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  for (size_t i = 1; i <= 3; ++i) flip(c, i, 42, 3);
  ask(c, true);
  REQUIRE(done(c));
  CHECK(c.osd(1).service.scrub().unrepairable == 1);
  CHECK(c.read(1, 42, 3 * kB, kB).error().code == Errc::kCorrupt);
  REQUIRE(c.write(1, 42, 3 * kB, bytesOf(kB, 2)));
  ask(c, true);
  REQUIRE(done(c));
  CHECK(c.osd(1).service.scrub().unrepairable == 0);
  (void)c.everywhere(42, 0, 8 * kB);
  for (size_t i = 1; i <= 3; ++i) flip(c, i, 42, 3);
  ask(c, true);
  REQUIRE(done(c));
  CHECK(c.osd(1).service.scrub().unrepairable == 1);
  OutMessage m = c.request();
  m.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, 42);
  REQUIRE(c.ask(1, std::move(m), schema::Hello::Role::MDS));
  ask(c, false);
  REQUIRE(done(c));
  CHECK(c.osd(1).service.scrub().unrepairable == 0);
}

TEST_CASE("a light scrub reads no data, and finds chunks that a member lacks or has too many") {
  TestCluster c(3);
  for (uint64_t chunk : {42, 43}) REQUIRE(c.write(1, chunk, 0, bytesOf(4 * kB, 1)));
  const uint64_t reads = c.disk(1).reads;
  ask(c, false);
  REQUIRE(done(c));
  CHECK(c.disk(1).reads == reads);
  // A member's disk has forgotten one, and another one has what was removed everywhere else.
  c.disk(2).chunks.erase(ChunkId{43});
  REQUIRE(c.write(1, 44, 0, bytesOf(4 * kB, 3)));
  const auto kept = c.disk(3).chunks[ChunkId{44}];
  OutMessage m = c.request();
  m.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, 44);
  REQUIRE(c.ask(1, std::move(m), schema::Hello::Role::MDS));
  c.disk(3).chunks[ChunkId{44}] = kept;
  ask(c, false);
  REQUIRE(done(c));
  CHECK(c.everywhere(43, 0, 4 * kB) == bytesOf(4 * kB, 1));
  CHECK_FALSE(c.disk(3).chunks.contains(ChunkId{44}));
}

TEST_CASE("a primary whose store has lost changes takes them from the others, not the reverse") {
  for (const bool deep : {false, true}) {
    CAPTURE(deep);
    TestCluster c(3);
    for (uint64_t chunk : {42, 43}) REQUIRE(c.write(1, chunk, 0, bytesOf(8 * kB, 1)));
    const auto before = c.disk(1).chunks[ChunkId{42}];
    REQUIRE(c.write(1, 42, kB, bytesOf(2 * kB, 2)));
    // One chunk as it was before a write that was acknowledged, the other one not at all.
    c.disk(1).chunks[ChunkId{42}] = before;
    c.disk(1).chunks.erase(ChunkId{43});
    ask(c, deep);
    REQUIRE(done(c));
    auto all = bytesOf(8 * kB, 1);
    std::ranges::copy(bytesOf(2 * kB, 2), all.begin() + kB);
    CHECK(c.everywhere(42, 0, 8 * kB) == all);
    CHECK(c.everywhere(43, 0, 8 * kB) == bytesOf(8 * kB, 1));
    CHECK(c.osd(1).service.scrub().errorsFound > 0);
  }
}

TEST_CASE("a copy that is all that is left is not given up for a damaged block in it") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  c.disk(1).chunks.erase(ChunkId{42});
  for (size_t i : {2, 3}) flip(c, i, 42, 3);
  ask(c, true);
  REQUIRE(done(c));
  const auto all = bytesOf(8 * kB, 1);
  for (size_t i : {2, 3}) {
    REQUIRE(c.disk(i).chunks.contains(ChunkId{42}));
    CHECK(std::ranges::equal(c.disk(i).content(ChunkId{42}, 4 * kB, 4 * kB),
                             std::span(all).subspan(4 * kB)));
  }
}

TEST_CASE("a scrub is due after its interval, and a restart does not forget when it was done") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  ask(c, true);
  REQUIRE(done(c));
  const WallNs at = c.osd(1).service.scrub().oldestNs;
  CHECK(at != 0);
  c.kill(1);
  c.restart(1);
  c.waitForMap();
  CHECK(c.osd(1).service.scrub().oldestNs == at);
  CHECK(c.osd(1).service.scrub().groupsLeft == 0);
  // Nobody asks; its time comes.
  flip(c, 2, 42, 1);
  c.run(62min);
  CHECK(c.osd(1).service.scrub().oldestNs > at);
  CHECK(c.everywhere(42, 0, 4 * kB) == bytesOf(4 * kB, 1));
}

TEST_CASE("a clock that was set back keeps no scrub from coming, asked for or at its time") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  auto setClock = [&](Duration offset) {
    c.osd(1).node.reactor().simClock().setWallOffset(offset);
  };
  auto mended = [&] { return c.osd(1).service.scrub().errorsRepaired; };
  setClock(240h);
  ask(c, true);
  REQUIRE(done(c));
  setClock(0h);
  flip(c, 2, 42, 1);
  ask(c, true);
  REQUIRE(done(c));
  CHECK(mended() == 1);
  flip(c, 2, 42, 1);
  c.run(62min);
  CHECK(mended() == 2);
  // Set back between the question and the scrub: it is done once, not until the time has come.
  setClock(240h);
  ask(c, true);
  setClock(0h);
  REQUIRE(done(c));
  const uint64_t reads = c.disk(1).reads;
  c.run(10min);
  CHECK(c.disk(1).reads == reads);
}

TEST_CASE("a scrub does not disturb writes to the chunks that it looks at") {
  TestCluster c(3);
  for (uint32_t round = 0; round < 5; ++round) {
    ask(c, true);
    std::vector<TestCluster::Answer> answers;
    for (uint32_t i = 0; i < 40; ++i)
      answers.push_back(
          c.askLater(1, c.writeRequest(40 + i % 4, (i % 5) * kB, bytesOf(2 * kB, round * 50 + i))));
    REQUIRE(c.waitFor(answers));
    for (auto& a : answers) CHECK(**a);
  }
  REQUIRE(done(c));
  CHECK(c.osd(1).service.scrub().errorsFound == 0);
  for (uint64_t chunk = 40; chunk < 44; ++chunk) (void)c.everywhere(chunk, 0, 8 * kB);
}

TEST_CASE("a block that is damaged everywhere keeps no empty member out, and stays lost aloud") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  REQUIRE(c.write(1, 43, 0, bytesOf(8 * kB, 2)));
  c.lose(3);
  for (size_t i = 1; i <= 2; ++i) flip(c, i, 42, 3);
  c.disk(3).chunks.clear();
  c.disk(3).groups.clear();
  c.disk(3).removals.clear();
  c.waitForMap();
  c.restart(3);
  REQUIRE(c.waitForCopies(3));
  CHECK(c.read(1, 42, 3 * kB, kB).error().code == Errc::kCorrupt);
  CHECK(c.everywhere(43, 0, 8 * kB) == bytesOf(8 * kB, 2));
  // Also when others are asked.
  c.lose(1);
  c.waitForMap();
  auto lost = c.readUntilDone(42, 3 * kB, kB);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == Errc::kCorrupt);
  const auto& there = c.disk(3).chunks.at(ChunkId{42}).blocks.at(3);
  CHECK(there.crc != crc32c(there.bytes));
  auto rest = c.readUntilDone(42, 4 * kB, 4 * kB);
  REQUIRE(rest);
  const auto all = bytesOf(8 * kB, 1);
  CHECK(std::equal(rest->data.begin(), rest->data.end(), all.begin() + 4 * kB));
}

TEST_CASE("a member's own block is not given up for one that is damaged everywhere else") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  c.lose(3);
  REQUIRE(c.write(1, 42, 5 * kB, bytesOf(kB, 2)));
  for (size_t i = 1; i <= 2; ++i) flip(c, i, 42, 3);
  c.waitForMap();
  c.restart(3);
  c.run(5s);
  CHECK(c.group().osds.size() == 2);
  const auto all = bytesOf(8 * kB, 1);
  CHECK(std::ranges::equal(c.disk(3).content(ChunkId{42}, 3 * kB, kB),
                           std::span(all).subspan(3 * kB, kB)));
  // Written anew, it is no reason any more.
  REQUIRE(c.writeUntilDone(42, 3 * kB, bytesOf(kB, 3)));
  CHECK(c.waitForCopies(3));
}
