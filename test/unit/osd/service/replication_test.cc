// Groups in which something goes wrong: what is acknowledged, what readers see, what converges.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

// Sends it again while that may help, as clients do.
Result<uint64_t> writeUntilDone(TestCluster& c, size_t to, uint64_t chunk, uint32_t offset,
                                const std::vector<uint8_t>& data, int attempts = 100) {
  Result<uint64_t> done = fail(Errc::kTimeout);
  for (int i = 0; i < attempts; ++i) {
    done = c.write(to, chunk, offset, data);
    if (done || !done.error().retryable()) break;
    c.run(100ms);
  }
  return done;
}

}  // namespace

TEST_CASE(
    "a write is not acknowledged while a replica is down, and the same write is once it is back") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.kill(3);
  auto refused = c.write(1, 42, 0, bytesOf(kB, 2));
  CHECK(refused.error().code == Errc::kUnavailable);
  c.restart(3);
  auto done = writeUntilDone(c, 1, 42, 0, bytesOf(kB, 2));
  REQUIRE(done);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("a mutation that needs a replica known to be away changes nothing anywhere") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.kill(2);
  CHECK_FALSE(c.write(1, 42, 0, bytesOf(kB, 2)));  // finds out
  const uint64_t before = c.disk(1).mutations;
  for (int i = 0; i < 5; ++i) CHECK_FALSE(c.write(1, 50, 0, bytesOf(kB, 3)));
  CHECK(c.disk(1).mutations == before);
  c.restart(2);
  c.run(3s);
}

TEST_CASE("a read never shows a write that is not on every replica; when it converged, it does") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  c.kill(2);
  // The write reaches the primary's disk, not the replica's.
  CHECK_FALSE(c.write(1, 42, kB, bytesOf(kB, 2)));
  REQUIRE(c.disk(1).content(kChunk, kB, kB) == bytesOf(kB, 2));
  CHECK(c.read(1, 42, 0, 4 * kB).error().code == Errc::kUnavailable);
  CHECK(c.read(1, 42, kB, kB).error().code == Errc::kUnavailable);
  CHECK(c.read(1, 42, 0, kB));  // its neighbours are certain
  CHECK(c.read(1, 42, 2 * kB, 2 * kB));

  // The client has given up. The replica comes back and is made equal.
  c.restart(2);
  REQUIRE(c.world.runUntil([&] { return !c.osd(1).service.chunks().owesAnything(); }, 10s));
  auto now = c.read(1, 42, 0, 4 * kB);
  REQUIRE(now);
  CHECK(now->data == c.everywhere(42, 0, 4 * kB));
  CHECK(c.osd(1).service.chunks().size() == 0);
}

TEST_CASE("what is owed is forgotten when the replica leaves the group") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.kill(2);
  CHECK_FALSE(c.write(1, 42, 0, bytesOf(kB, 2)));
  CHECK(c.read(1, 42, 0, kB).error().code == Errc::kUnavailable);
  c.setGroup({1});
  REQUIRE(c.world.runUntil([&] { return !c.osd(1).service.chunks().owesAnything(); }, 10s));
  CHECK(c.read(1, 42, 0, kB));
}

TEST_CASE("the primary dies in the middle: the client's retry makes all members equal") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(8 * kB, 1)));
  c.disk(1).delay = 20ms;  // dies before its own disk has it
  auto answer = c.askLater(1, c.writeRequest(42, 0, bytesOf(8 * kB, 2)));
  REQUIRE(c.world.runUntil([&] { return c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 2); }, 1s));
  c.kill(1);
  c.disk(1).delay = 50us;
  c.run(100ms);
  REQUIRE(answer->has_value());
  CHECK_FALSE(**answer);
  c.restart(1);
  REQUIRE(writeUntilDone(c, 1, 42, 0, bytesOf(8 * kB, 2)));
  CHECK(c.everywhere(42, 0, 8 * kB) == bytesOf(8 * kB, 2));
}

TEST_CASE("a replica that is cut off delays the answer; it never shortens the list of copies") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.world.network().cut("osd1", "osd2");
  auto refused = c.write(1, 42, 0, bytesOf(kB, 2));
  CHECK(refused.error().code == Errc::kUnavailable);
  c.world.network().healAll();
  REQUIRE(writeUntilDone(c, 1, 42, 0, bytesOf(kB, 3)));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 3));
  c.run(5s);  // what was under way in the cut network does not undo it
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 3));
}

TEST_CASE("a full replica fails the write with no space, and what was a hole is a hole again") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(3).capacityBlocks = c.disk(3).blocks();
  CHECK(c.write(1, 42, 10 * kB, bytesOf(4 * kB, 2)).error().code == Errc::kNoSpace);
  auto got = c.read(1, 42, 10 * kB, 4 * kB);
  REQUIRE(got);
  CHECK(got->hole);
  for (size_t i = 1; i <= 3; ++i) CHECK(c.disk(i).blocks() == 1);
  CHECK_FALSE(c.osd(1).service.chunks().owesAnything());
}

TEST_CASE("an append that a full replica refuses leaves the bytes before it readable") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(5000, 1)));
  c.disk(3).capacityBlocks = c.disk(3).blocks();
  CHECK(c.write(1, 42, 5000, bytesOf(100'000, 2)).error().code == Errc::kNoSpace);
  auto got = c.read(1, 42, 0, 8192);
  REQUIRE(got);
  CHECK(std::equal(got->data.begin(), got->data.begin() + 5000, bytesOf(5000, 1).begin()));
  CHECK_FALSE(c.osd(1).service.chunks().owesAnything());
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
  CHECK_FALSE(c.osd(1).service.chunks().owesAnything());
}

TEST_CASE("an overwrite that a full replica refused settles once it has room") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(2).failMutations = Error(Errc::kNoSpace, "full");
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kNoSpace);
  CHECK(c.read(1, 42, 0, kB).error().code == Errc::kUnavailable);
  c.disk(2).failMutations.reset();
  REQUIRE(c.world.runUntil([&] { return !c.osd(1).service.chunks().owesAnything(); }, 10s));
  CHECK(c.read(1, 42, 0, kB)->data == c.everywhere(42, 0, kB));
}

TEST_CASE("a store that fails is reported, and the client is told to try elsewhere") {
  TestCluster c(2);
  c.disk(1).failMutations = Error(Errc::kIo, "the disk is gone");
  CHECK(c.write(1, 42, 0, bytesOf(kB, 1)).error().code == Errc::kUnavailable);
  CHECK(c.osd(1).storeErrors.size() == 1);
  CHECK(c.osd(2).storeErrors.empty());
}

TEST_CASE("a replica with a newer map stops a primary that has not heard of it") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  const MapEpoch old = c.epoch;
  c.mds.mutedOsds[OsdId{1}] = true;  // osd.1 keeps its lease for a while, and its map
  c.run(100ms);
  c.setGroup({2, 3, 1});
  REQUIRE(c.world.runUntil([&] { return c.osd(2).map.epoch() == c.mds.map.epoch; }, 5s));
  REQUIRE(c.osd(1).map.leased());
  REQUIRE(c.osd(1).map.epoch() < c.mds.map.epoch);
  c.epoch = old;
  CHECK_FALSE(c.write(1, 42, 0, bytesOf(kB, 2)));
  CHECK(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 1));
  c.mds.mutedOsds.clear();
  c.waitForMap();
  c.epoch = c.mds.map.pools[kPool].pgs[0].epoch;
  REQUIRE(writeUntilDone(c, 2, 42, 0, bytesOf(kB, 3)));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 3));
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

// The guarantee that fsync rests on, under whatever happens: an acknowledged write is on every
// member, and the last acknowledged write of a block is what is read.
TEST_CASE("acknowledged writes survive kills, cuts and retries, for many seeds") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    TestCluster c(3, seed);
    auto& random = c.world.random();
    std::map<uint32_t, uint32_t> acked;  // block -> seed of its bytes
    uint32_t stamp = 0;
    std::vector<bool> alive{true, true, true};
    for (int step = 0; step < 60; ++step) {
      const uint64_t what = random.below(10);
      if (what == 0) {
        size_t victim = 1 + random.below(3);
        if (alive[victim - 1]) {
          c.kill(victim);
          c.restart(victim);
        }
      } else if (what == 1) {
        c.world.network().cut("osd1", "osd" + std::to_string(2 + random.below(2)));
      } else if (what == 2) {
        c.world.network().healAll();
      } else if (what == 3) {
        c.run(std::chrono::milliseconds(random.below(2000)));
      } else {
        auto block = static_cast<uint32_t>(random.below(6));
        auto data = bytesOf(kB, ++stamp);
        // The client does not give up on a block before it goes on: so the outcome is known.
        c.world.after(8s, [&c] { c.world.network().healAll(); });
        REQUIRE(writeUntilDone(c, 1, 42, block * kB, data, 400));
        acked[block] = stamp;
        REQUIRE(c.everywhere(42, block * kB, kB) == data);
      }
    }
    c.world.network().healAll();
    c.waitForMap();
    c.run(5s);
    for (auto [block, s] : acked) {
      CHECK(c.everywhere(42, block * kB, kB) == bytesOf(kB, s));
      auto got = c.read(1, 42, block * kB, kB);
      REQUIRE(got);
      CHECK(got->data == bytesOf(kB, s));
    }
  }
}
