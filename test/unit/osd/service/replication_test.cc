// Groups in which something goes wrong: what is acknowledged, what readers see, what converges.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

TEST_CASE("writes go on without a member that died; it is made equal when it is back") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  REQUIRE(c.write(1, 43, 0, bytesOf(kB, 9)));
  c.kill(3);
  // The primary finds out, has it taken out, and acknowledges: one request, no retry.
  REQUIRE(c.write(1, 42, kB, bytesOf(2 * kB, 2)));
  CHECK(c.group().osds == std::vector{OsdId{1}, OsdId{2}});
  CHECK(c.disk(2).content(kChunk, kB, 2 * kB) == bytesOf(2 * kB, 2));
  CHECK(c.readUntilDone(42, kB, 2 * kB)->data == bytesOf(2 * kB, 2));
  REQUIRE(c.writeUntilDone(44, 5 * kB, bytesOf(kB, 3)));

  const uint64_t written = c.disk(3).mutations;
  c.restart(3);
  REQUIRE(c.waitForCopies(3));
  CHECK(c.everywhere(42, 0, 8 * kB) == c.disk(1).content(kChunk, 0, 8 * kB));
  (void)c.everywhere(44, 0, 8 * kB);
  // Only what had changed was sent: two blocks of one chunk, one of the other.
  CHECK(c.disk(3).mutations - written == 2);
}

TEST_CASE("with too few copies changes are refused, and reads go on") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.lose(2);
  c.lose(3);
  c.waitForMap();
  const uint64_t before = c.disk(1).mutations;
  auto refused = c.write(1, 42, 0, bytesOf(kB, 2));
  CHECK(refused.error().code == Errc::kUnavailable);
  CHECK(c.disk(1).mutations == before);
  CHECK(c.read(1, 42, 0, kB)->data == bytesOf(kB, 1));
  c.restart(2);
  REQUIRE(c.waitForCopies(2));
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 3)));
}

TEST_CASE("the last member in sync stays, and nobody else takes its place") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.lose(2);
  c.waitForMap();
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 2)));  // on osd.1 alone
  c.lose(1);
  c.restart(2);  // its copy is old
  c.run(5s);
  CHECK(c.group().osds == std::vector{OsdId{1}});
  CHECK_FALSE(c.read(2, 42, 0, kB));
  c.restart(1);
  REQUIRE(c.waitForCopies(2));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("the primary dies in the middle of a write: its successor makes the members equal") {
  for (const bool reached : {false, true}) {
    CAPTURE(reached);
    TestCluster c(3);
    REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
    // The write reaches osd.3 alone, or osd.2 alone, before the primary is gone.
    c.world.network().cut("osd1", reached ? "osd3" : "osd2");
    auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(8 * kB, 2)));
    const size_t has = reached ? 2 : 3;
    REQUIRE(
        c.world.runUntil([&] { return c.disk(has).content(kChunk, 0, kB) == bytesOf(kB, 2); }, 1s));
    REQUIRE_FALSE(answer->has_value());
    c.kill(1);
    c.world.network().healAll();
    c.mds.markDown(OsdId{1});
    c.waitForMap();
    // No client asks again. What the new primary had is what counts.
    auto got = c.readUntilDone(42, 0, 8 * kB);
    REQUIRE(got);
    CHECK(got->data == bytesOf(8 * kB, reached ? 2 : 1));
    CHECK(c.disk(2).content(kChunk, 0, 8 * kB) == c.disk(3).content(kChunk, 0, 8 * kB));
    c.restart(1);
    REQUIRE(c.waitForCopies(3));
    CHECK(c.everywhere(42, 0, 8 * kB) == got->data);
  }
}

TEST_CASE("a chunk that only a dead primary's last write had made is on no member afterwards") {
  TestCluster c(2);
  c.mds.ignoreReports = true;  // before it can go on alone
  c.world.network().cut("osd1", "osd2");
  auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 1)));
  REQUIRE(c.world.runUntil([&] { return c.disk(1).content(kChunk, 0, kB) == bytesOf(kB, 1); }, 1s));
  c.kill(1);
  c.mds.ignoreReports = false;
  c.mds.markDown(OsdId{1});
  c.waitForMap();
  c.world.network().healAll();
  CHECK(c.readUntilDone(42, 0, kB)->hole);
  c.restart(1);
  REQUIRE(c.waitForCopies(2));
  CHECK(c.disk(1).chunks.empty());
  CHECK(c.disk(2).chunks.empty());
  // The client's own retry makes it.
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 1)));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 1));
}

TEST_CASE("a primary that was only restarted makes its members equal before it serves") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  c.disk(1).delay = 20ms;  // dies before its own disk has it
  auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(8 * kB, 2)));
  REQUIRE(c.world.runUntil([&] { return c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 2); }, 1s));
  c.kill(1);
  c.disk(1).delay = 50us;
  c.restart(1);
  c.waitForMap();
  auto got = c.readUntilDone(42, 0, 8 * kB);
  REQUIRE(got);
  CHECK(c.everywhere(42, 0, 8 * kB) == got->data);
}

TEST_CASE("a removal that a member missed reaches it, also when it is long forgotten") {
  for (const bool forgotten : {false, true}) {
    CAPTURE(forgotten);
    TestCluster c(3);
    for (uint64_t chunk : {42, 43}) REQUIRE(c.write(1, chunk, 0, bytesOf(kB, 1)));
    c.lose(3);
    c.waitForMap();
    OutMessage m = c.request();
    m.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, 42);
    REQUIRE(c.ask(1, std::move(m), schema::Hello::Role::MDS));
    REQUIRE(c.writeUntilDone(43, 0, bytesOf(kB, 2)));
    if (forgotten) {
      // The group is whole without it for a while, and removals are trimmed.
      c.mds.map.pools[kPool].replicas = 2;
      c.mds.target = {OsdId{1}, OsdId{2}};
      c.mds.newEpoch();
      REQUIRE(c.waitForCopies(2));
      REQUIRE(c.world.runUntil([&] { return c.disk(1).removals.empty(); }, 30s));
      c.mds.map.pools[kPool].replicas = 3;
      c.mds.target = {OsdId{1}, OsdId{2}, OsdId{3}};
      c.mds.newEpoch();
    }
    CHECK(c.disk(3).chunks.contains(kChunk));
    c.restart(3);
    REQUIRE(c.waitForCopies(3));
    CHECK_FALSE(c.disk(3).chunks.contains(kChunk));
    CHECK(c.everywhere(43, 0, kB) == bytesOf(kB, 2));
  }
}

TEST_CASE("an empty member is filled while clients go on writing") {
  TestCluster c(3);
  for (uint64_t chunk = 40; chunk < 60; ++chunk)
    REQUIRE(c.write(1, chunk, 0, bytesOf(4 * kB, static_cast<uint32_t>(chunk))));
  c.lose(3);
  c.disk(3).chunks.clear();
  c.disk(3).groups.clear();
  c.disk(3).removals.clear();
  c.waitForMap();
  c.restart(3);
  for (uint32_t i = 0; i < 200; ++i)
    REQUIRE(c.writeUntilDone(40 + i % 20, (i % 7) * kB, bytesOf(kB + i, i)));
  REQUIRE(c.waitForCopies(3));
  for (uint64_t chunk = 40; chunk < 60; ++chunk) (void)c.everywhere(chunk, 0, 16 * kB);
}

TEST_CASE("clones made while a member was joining are right on it") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  c.lose(2);
  c.waitForMap();
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(2 * kB, 2)));
  c.disk(2).delay = 5ms;  // it takes a while to join
  c.restart(2);
  REQUIRE(c.world.runUntil([&] { return !c.group().joining.empty(); }, 5s));
  c.waitForMap();
  REQUIRE(c.clone(1, 42, 0, 50, 0, 4 * kB));
  REQUIRE(c.waitForCopies(2));
  CHECK(c.everywhere(50, 0, 4 * kB) == c.everywhere(42, 0, 4 * kB));
}

TEST_CASE("a group that moved leaves nothing behind") {
  TestCluster c(3);
  c.mds.map.pools[kPool].replicas = 2;
  c.mds.map.pools[kPool].minSize = 1;
  c.setGroup({1, 2});
  c.waitForMap();
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  c.mds.target = {OsdId{3}, OsdId{2}};
  c.mds.newEpoch();
  REQUIRE(c.waitForCopies(2));
  CHECK(c.group().osds == std::vector{OsdId{3}, OsdId{2}});
  CHECK(c.readUntilDone(42, 0, 4 * kB)->data == bytesOf(4 * kB, 1));
  CHECK(c.disk(3).content(kChunk, 0, 4 * kB) == bytesOf(4 * kB, 1));
  REQUIRE(c.world.runUntil([&] { return c.disk(1).chunks.empty(); }, 30s));
  CHECK(c.disk(1).groups.empty());
}

TEST_CASE("an old primary that was not told serves nothing once its successor serves") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  const MapEpoch old = c.epoch;
  c.mds.mutedOsds[OsdId{1}] = true;  // osd.1 keeps its lease for a while, and its map
  c.run(100ms);
  c.setGroup({2, 3, 1});
  REQUIRE(c.world.runUntil([&] { return c.osd(2).map.epoch() == c.mds.map.epoch; }, 5s));
  REQUIRE(c.osd(1).map.leased());
  REQUIRE(c.osd(1).map.epoch() < c.mds.map.epoch);
  // As long as osd.1 may serve, osd.2 does not.
  while (c.osd(1).map.leased()) {
    CHECK_FALSE(c.osd(2).service.groups().find({kPool, PgIndex{0}})->active);
    c.run(20ms);
  }
  c.epoch = old;
  CHECK_FALSE(c.write(1, 42, 0, bytesOf(kB, 2)));
  CHECK(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 1));
  c.mds.mutedOsds.clear();
  c.waitForMap();
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 3)));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 3));
}

TEST_CASE("a member that is cut off from the primary alone is taken out, and comes back") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.world.network().cut("osd1", "osd2");
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 2)));
  CHECK(c.group().osds == std::vector{OsdId{1}, OsdId{3}});
  CHECK(c.group().joining == std::vector{OsdId{2}});
  CHECK(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 1));
  c.world.network().healAll();
  REQUIRE(c.waitForCopies(3));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
  c.run(5s);  // what was under way in the cut network does not undo it
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("while the MDS does not confirm that a member is out, the write is not acknowledged") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.mds.ignoreReports = true;
  c.kill(3);
  auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 2)), 60s);
  c.run(10s);
  CHECK_FALSE(answer->has_value());
  // Nor is what it would have written shown.
  auto reading = c.askLater(1, c.readRequest(42, 0, kB), 2s);
  c.run(3s);
  CHECK((!reading->has_value() || !**reading));
  c.mds.ignoreReports = false;
  REQUIRE(c.waitFor({answer}));
  CHECK(**answer);
}

TEST_CASE("a full member fails the write with no space, and what was a hole is a hole again") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(3).capacityBlocks = c.disk(3).blocks();
  CHECK(c.write(1, 42, 10 * kB, bytesOf(4 * kB, 2)).error().code == Errc::kNoSpace);
  auto got = c.read(1, 42, 10 * kB, 4 * kB);
  REQUIRE(got);
  CHECK(got->hole);
  for (size_t i = 1; i <= 3; ++i) CHECK(c.disk(i).blocks() == 1);
  CHECK(c.group().osds.size() == 3);
}

TEST_CASE("a primary says that a member is nearly full, for as long as it is") {
  TestCluster c(3);
  const auto says = [&] {
    auto answer = c.ask(1, c.writeRequest(42, 0, bytesOf(kB, 1)));
    REQUIRE(answer);
    return answer->body<schema::OsdReply>().getNearlyFull();
  };
  CHECK_FALSE(says());
  for (size_t i : {1, 3}) {
    c.disk(i).nearlyFull = true;
    CHECK(says());
    c.disk(i).nearlyFull = false;
    CHECK_FALSE(says());
  }
  // What it has heard once it does not say for ever.
  c.disk(3).nearlyFull = true;
  CHECK(says());
  c.run(6s);
  auto answer = c.ask(1, c.readRequest(42, 0, kB));
  REQUIRE(answer);
  CHECK_FALSE(answer->body<schema::OsdReply>().getNearlyFull());
}

TEST_CASE("an append that a full member refuses leaves the bytes before it readable") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(5000, 1)));
  c.disk(3).capacityBlocks = c.disk(3).blocks();
  CHECK(c.write(1, 42, 5000, bytesOf(100'000, 2)).error().code == Errc::kNoSpace);
  auto got = c.read(1, 42, 0, 8192);
  REQUIRE(got);
  CHECK(std::equal(got->data.begin(), got->data.begin() + 5000, bytesOf(5000, 1).begin()));
  auto behind = c.read(1, 42, 8192, 4096);
  REQUIRE(behind);
  CHECK(behind->hole);
}

TEST_CASE("when every member is full, a failed overwrite leaves the old data readable") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  for (size_t i = 1; i <= 2; ++i) c.disk(i).failMutations = Error(Errc::kNoSpace, "full");
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kNoSpace);
  auto got = c.read(1, 42, 0, kB);
  REQUIRE(got);
  CHECK(got->data == bytesOf(kB, 1));
  CHECK(c.group().osds.size() == 2);
}

TEST_CASE("a member without room for an overwrite is taken out, and back in when it has some") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(2).failMutations = Error(Errc::kNoSpace, "full");
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 2)));
  CHECK(c.group().osds == std::vector{OsdId{1}});
  CHECK(c.readUntilDone(42, 0, kB)->data == bytesOf(kB, 2));
  c.run(2s);
  CHECK(c.group().osds.size() == 1);
  c.disk(2).failMutations.reset();
  REQUIRE(c.waitForCopies(2));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("a primary without room for an overwrite takes it back from the others") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(1).failMutations = Error(Errc::kNoSpace, "full");
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kNoSpace);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 1));
  CHECK(c.group().osds.size() == 2);
}

TEST_CASE("a store that fails is reported, and the client is told to try elsewhere") {
  TestCluster c(2);
  c.disk(1).failMutations = Error(Errc::kIo, "the disk is gone");
  CHECK(c.write(1, 42, 0, bytesOf(kB, 1)).error().code == Errc::kUnavailable);
  CHECK(c.osd(1).storeErrors.size() == 1);
  CHECK(c.osd(2).storeErrors.empty());
}

TEST_CASE("a store that fails while a damaged block is written anew is reported as such") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(1).chunks[kChunk].blocks[0].bytes[17] ^= 1;
  c.disk(1).failMutations = Error(Errc::kIo, "the disk is gone");
  CHECK(c.read(1, 42, 0, kB).error().code == Errc::kUnavailable);
  CHECK(c.osd(1).storeErrors.size() == 1);
}

TEST_CASE("a damaged block of the primary is read from another member and written anew") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  c.disk(1).chunks[kChunk].blocks[2].bytes[17] ^= 1;
  auto got = c.read(1, 42, 0, 4 * kB);
  REQUIRE(got);
  CHECK(got->data == bytesOf(4 * kB, 1));
  CHECK(c.everywhere(42, 0, 4 * kB) == bytesOf(4 * kB, 1));
  // On both it is lost: an error, never wrong bytes; its neighbours are there.
  for (size_t i = 1; i <= 2; ++i) c.disk(i).chunks[kChunk].blocks[2].bytes[17] ^= 1;
  CHECK(c.read(1, 42, 0, 4 * kB).error().code == Errc::kCorrupt);
  CHECK(c.read(1, 42, 0, 2 * kB));
  CHECK(c.read(1, 42, 3 * kB, kB));
  REQUIRE(c.write(1, 42, 2 * kB, bytesOf(kB, 5)));
  CHECK(c.read(1, 42, 0, 4 * kB));
}

TEST_CASE("damage on either side does not keep a group from being served") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  c.disk(1).chunks[kChunk].blocks[1].bytes[0] ^= 1;
  c.disk(2).chunks[kChunk].blocks[2].bytes[0] ^= 1;
  c.disk(1).groups.clear();  // looks at everything
  c.disk(2).groups.clear();
  c.kill(1);
  c.restart(1);
  c.waitForMap();
  auto got = c.readUntilDone(42, 0, 4 * kB);
  REQUIRE(got);
  CHECK(got->data == bytesOf(4 * kB, 1));
}

TEST_CASE("a member that was filled can lead the return of one that was away before it came") {
  TestCluster c(4);
  Pool& pool = c.mds.map.pools[kPool];
  pool.replicas = 3;
  pool.minSize = 2;
  c.setGroup({1, 2, 3});
  c.waitForMap();
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));  // will be punched
  REQUIRE(c.write(1, 43, 0, bytesOf(4 * kB, 2)));  // removed
  REQUIRE(c.write(1, 44, 0, bytesOf(4 * kB, 3)));  // changed
  c.lose(3);
  c.waitForMap();
  REQUIRE(c.zero(1, 42, 0, 4 * kB));
  OutMessage remove = c.request();
  remove.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, 43);
  REQUIRE(c.ask(1, std::move(remove), schema::Hello::Role::MDS));
  REQUIRE(c.writeUntilDone(44, kB, bytesOf(kB, 4)));
  // An empty one takes the place of osd.3, and the lead.
  c.mds.target = {OsdId{4}, OsdId{1}, OsdId{2}};
  c.mds.newEpoch();
  REQUIRE(c.waitForCopies(3));
  REQUIRE(c.primary() == 4);
  // osd.3 is back and takes that of osd.2: what it lacks only osd.4's history says.
  c.restart(3);
  c.mds.target = {OsdId{4}, OsdId{3}, OsdId{1}};
  c.mds.newEpoch();
  REQUIRE(c.world.runUntil([&] { return c.group().osds == c.mds.target; }, 30s));
  CHECK(c.disk(3).content(kChunk, 0, 4 * kB) == std::vector<uint8_t>(4 * kB));
  CHECK_FALSE(c.disk(3).chunks.contains(ChunkId{43}));
  CHECK(c.disk(3).content(ChunkId{44}, 0, 4 * kB) == c.disk(1).content(ChunkId{44}, 0, 4 * kB));
}

TEST_CASE("what was announced before a lapse of the lease does not count after it") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.lose(3);
  c.waitForMap();
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kB, 2)));
  c.mds.ignoreReports = true;
  c.restart(3);
  REQUIRE(
      c.world.runUntil([&] { return c.disk(3).content(kChunk, 0, kB) == bytesOf(kB, 2); }, 10s));
  c.run(500ms);  // osd.1 has announced it, and is not heard
  const uint64_t reports = c.mds.reports;
  CHECK(reports > 0);
  c.mds.mutedOsds[OsdId{1}] = true;
  REQUIRE(c.world.runUntil([&] { return !c.osd(1).map.leased(); }, 10s));
  c.mds.mutedOsds.clear();
  REQUIRE(c.world.runUntil([&] { return c.osd(1).map.leased(); }, 10s));
  c.disk(3).delay = 300ms;  // what is written now reaches it late
  auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 3)), 20s);
  c.mds.ignoreReports = false;
  REQUIRE(c.waitFor({answer}));
  (void)c.writeUntilDone(42, 0, bytesOf(kB, 4));
  // Whenever somebody is counted as in sync, it has what was acknowledged.
  for (int i = 0; i < 100; ++i) {
    for (OsdId id : c.group().osds)
      CHECK(c.disk(id.value).content(kChunk, 0, kB) == bytesOf(kB, 4));
    c.run(20ms);
  }
  c.disk(3).delay = 50us;
  REQUIRE(c.waitForCopies(3));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 4));
}

TEST_CASE("concurrent writes to the same blocks leave every member with the same bytes") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    TestCluster c(3, seed);
    std::vector<TestCluster::Answer> answers;
    for (uint32_t i = 0; i < 60; ++i) {
      auto offset = static_cast<uint32_t>(c.world.random().below(6 * kB));
      auto length = static_cast<uint32_t>(1 + c.world.random().below(3 * kB));
      answers.push_back(c.askLater(1, c.writeRequest(42, offset, bytesOf(length, i))));
    }
    REQUIRE(c.waitFor(answers));
    for (auto& a : answers) CHECK(**a);
    (void)c.everywhere(42, 0, 10 * kB);
    CHECK(c.osd(1).service.chunks().size() == 0);
    CHECK(c.osd(2).service.chunks().size() == 0);
  }
}

// The guarantee that fsync rests on, under whatever happens: the last acknowledged write of a block
// is what is read, and all members come to hold the same.
TEST_CASE("acknowledged writes survive kills, cuts, changes of the primary and retries") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    TestCluster c(3, seed);
    auto& random = c.world.random();
    std::map<uint32_t, uint32_t> acked;  // block -> seed of its bytes
    uint32_t stamp = 0;
    size_t down = 0;  // at most one at a time
    for (int step = 0; step < 80; ++step) {
      const uint64_t what = random.below(12);
      if (what == 0 && down == 0) {
        c.kill(1 + random.below(3));
        for (size_t i = 1; i <= 3; ++i)
          if (!c.alive(i)) c.restart(i);  // before its lease is over
      } else if (what == 1 && down == 0) {
        down = 1 + random.below(3);
        c.kill(down);
        // Its lease is over before the MDS says so.
        const size_t who = down;
        c.world.after(2500ms, [&c, who] {
          if (!c.alive(who)) c.mds.markDown(OsdId{static_cast<uint32_t>(who)});
        });
      } else if (what == 2 && down != 0) {
        c.restart(std::exchange(down, 0));
      } else if (what == 3) {
        const size_t a = 1 + random.below(3), b = 1 + random.below(3);
        if (a != b) c.world.network().cut(TestCluster::host(a), TestCluster::host(b));
      } else if (what == 4) {
        c.world.network().healAll();
      } else if (what == 5) {
        c.run(std::chrono::milliseconds(random.below(3000)));
      } else {
        auto block = static_cast<uint32_t>(random.below(6));
        auto data = bytesOf(kB, ++stamp);
        // The client does not give up on a block before it goes on: so the outcome is known.
        c.world.after(8s, [&c] { c.world.network().healAll(); });
        if (down != 0)
          c.world.after(12s, [&c, &down] {
            if (down != 0 && !c.alive(down)) c.restart(std::exchange(down, 0));
          });
        REQUIRE(c.writeUntilDone(42, block * kB, data, 400));
        acked[block] = stamp;
        auto got = c.readUntilDone(42, block * kB, kB, 400);
        REQUIRE(got);
        REQUIRE(got->data == data);
      }
    }
    c.world.network().healAll();
    if (down != 0) c.restart(down);
    REQUIRE(c.waitForCopies(3, 60s));
    for (auto [block, s] : acked) {
      CHECK(c.everywhere(42, block * kB, kB) == bytesOf(kB, s));
      auto got = c.readUntilDone(42, block * kB, kB);
      REQUIRE(got);
      CHECK(got->data == bytesOf(kB, s));
    }
  }
}
