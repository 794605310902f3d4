// Clones on a group: equal everywhere, ordered with what else touches either chunk, and refused
// where the members could differ.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

constexpr uint32_t kAll = 8 * kB;

uint64_t violations(TestCluster& c, size_t count) {
  uint64_t n = 0;
  for (size_t i = 1; i <= count; ++i) n += c.disk(i).violations;
  return n;
}

}  // namespace

TEST_CASE("a clone is on every member when it is answered, made there of its own copy") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kAll, 1)));
  REQUIRE(c.write(1, 43, 0, bytesOf(2 * kAll, 2)));
  const uint64_t version = (*c.read(1, 43, 0, kB)).version;
  auto done = c.clone(1, 42, 0, 43, 2 * kB, kAll);
  REQUIRE(done);
  CHECK(*done > version);
  for (size_t i = 1; i <= 3; ++i) {
    CHECK(c.disk(i).clones == 1);
    CHECK(c.disk(i).chunks[ChunkId{43}].version.value == *done);
  }
  auto expected = bytesOf(2 * kAll, 2);
  std::ranges::copy(bytesOf(kAll, 1), expected.begin() + 2 * kB);
  CHECK(c.everywhere(43, 0, 2 * kAll) == expected);
  CHECK(c.everywhere(42, 0, kAll) == bytesOf(kAll, 1));
  // Within a chunk, and the other way round.
  REQUIRE(c.clone(1, 43, 0, 43, 20 * kB, 4 * kB));
  REQUIRE(c.clone(1, 43, 0, 42, 0, kB));
  CHECK(c.read(1, 43, 20 * kB, 4 * kB)->data == c.everywhere(43, 0, 4 * kB));
  CHECK(c.read(1, 42, 0, kB)->data == c.everywhere(43, 0, kB));
  CHECK(c.osd(1).service.chunks().size() == 0);
}

TEST_CASE("clones that make no sense, or of chunks that are not there, are refused") {
  TestCluster c(2);
  auto& pool = c.mds.map.pools[kPool];
  pool.pgs.resize(2, pool.pgs[0]);
  c.setGroup({1, 2});
  pool.pgs[1].epoch = c.epoch;
  c.waitForMap();
  std::vector<uint64_t> here, elsewhere;
  for (uint64_t id = 1; here.size() < 4 || elsewhere.empty(); ++id)
    (pool.pgOf(ChunkId{id}) == PgIndex{0} ? here : elsewhere).push_back(id);
  REQUIRE(c.write(1, here[0], 0, bytesOf(kAll, 1)));
  const uint64_t before = c.disk(1).mutations;
  // Source or target in another group: this one's primary knows nothing of the other's order.
  CHECK(c.clone(1, here[0], 0, elsewhere[0], 0, kB).error().code == Errc::kInvalid);
  CHECK(c.clone(1, elsewhere[0], 0, here[0], 0, kB).error().code == Errc::kInvalid);
  CHECK(c.clone(1, here[0], 0, here[0], kB, 2 * kB).error().code == Errc::kInvalid);
  CHECK(c.clone(1, here[0], 1, here[1], 0, kB).error().code == Errc::kInvalid);
  CHECK(c.clone(1, here[0], 0, here[1], 0, 100).error().code == Errc::kInvalid);
  CHECK(c.clone(1, here[0], kChunkSize - kB, here[1], 0, 2 * kB).error().code == Errc::kInvalid);
  CHECK(c.clone(1, here[0], 0, here[1], 0, 0).error().code == Errc::kInvalid);
  CHECK(c.clone(2, here[0], 0, here[1], 0, kB).error().code == Errc::kStaleEpoch);
  // Never written, or removed: who asks must know which.
  CHECK(c.clone(1, here[2], 0, here[1], 0, kB).error().code == Errc::kStale);
  CHECK(c.disk(1).mutations == before);
  CHECK(c.disk(2).mutations == before);
}

TEST_CASE("a clone of or into a removed chunk is refused") {
  for (uint64_t removed : {42u, 43u}) {
    CAPTURE(removed);
    TestCluster c(2);
    REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
    REQUIRE(c.write(1, 43, 0, bytesOf(kB, 2)));
    OutMessage remove = c.request();
    remove.body<schema::OsdRequest>().initRemove().initChunks(1).set(0, removed);
    REQUIRE(c.ask(1, std::move(remove), schema::Hello::Role::MDS));
    CHECK(c.clone(1, 42, 0, 43, 0, kB).error().code == Errc::kStale);
    for (size_t i = 1; i <= 2; ++i) CHECK_FALSE(c.disk(i).chunks.contains(ChunkId{removed}));
  }
}

TEST_CASE("a clone that a member did not do reaches it as what the target holds") {
  TestCluster c(3);
  REQUIRE(c.write(1, 42, 0, bytesOf(kAll, 1)));
  REQUIRE(c.write(1, 43, 4 * kB, bytesOf(kAll, 2)));
  REQUIRE(c.zero(1, 42, 2 * kB, 2 * kB));
  c.world.network().cut("osd1", "osd3");
  REQUIRE(c.clone(1, 42, 0, 43, 0, kAll));
  CHECK(c.group().osds.size() == 2);
  // The source goes on.
  REQUIRE(c.writeUntilDone(42, 0, bytesOf(kAll, 3)));
  c.world.network().healAll();
  REQUIRE(c.waitForCopies(3));
  auto got = c.readUntilDone(43, 0, 12 * kB);
  REQUIRE(got);
  CHECK(got->data == c.everywhere(43, 0, 12 * kB));
  auto expected = bytesOf(kAll, 1);
  expected.resize(2 * kB);
  CHECK(c.everywhere(43, 0, 2 * kB) == expected);
  CHECK(c.everywhere(43, 2 * kB, 2 * kB) == std::vector<uint8_t>(2 * kB));
  CHECK(c.everywhere(42, 0, kAll) == bytesOf(kAll, 3));
}

TEST_CASE("a fenced session's clone that waits for its blocks is not done") {
  TestCluster c(2);
  c.mds.lease = 60s;
  c.run(3s);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(2).delay = 300ms;
  auto slow = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 2)));
  c.run(10ms);
  OutMessage clone = c.cloneRequest(42, 0, 43, 0, kB);
  clone.body<schema::OsdRequest>().setSession(5);
  auto waiting = c.askLater(1, std::move(clone), 10s, schema::Hello::Role::CLIENT, 5);
  c.run(10ms);
  c.mds.map.fence = {SessionId{7}, {SessionId{6}}};
  ++c.mds.map.epoch.value;
  OutMessage knows = c.readRequest(60, 0, kB);
  knows.body<schema::OsdRequest>().setMapEpoch(c.mds.map.epoch.value);
  auto reader = c.askLater(1, std::move(knows), 10s, schema::Hello::Role::CLIENT, 6);
  REQUIRE(c.waitFor({slow, waiting, reader}));
  CHECK((*waiting)->error().code == Errc::kSessionExpired);
  CHECK(c.disk(1).clones == 0);
}

TEST_CASE("clones both ways, writes and removals of the same chunks neither hang nor mix") {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    TestCluster c(3, seed);
    auto& random = c.world.random();
    for (uint64_t id : {40u, 41u, 42u}) REQUIRE(c.write(1, id, 0, bytesOf(kAll, 1)));
    std::vector<TestCluster::Answer> answers;
    for (uint32_t i = 0; i < 120; ++i) {
      const uint64_t a = 40 + random.below(3), b = 40 + random.below(3);
      const auto from = static_cast<uint32_t>(random.below(8)) * kB;
      const auto to = static_cast<uint32_t>(random.below(8)) * kB;
      const auto length = static_cast<uint32_t>(1 + random.below(4)) * kB;
      if (i == 100) {
        OutMessage remove = c.request();
        auto list = remove.body<schema::OsdRequest>().initRemove().initChunks(2);
        list.set(0, 41);
        list.set(1, 50);
        answers.push_back(c.askLater(1, std::move(remove), 10s, schema::Hello::Role::MDS));
      } else if (random.chance(1, 2)) {
        answers.push_back(c.askLater(1, c.writeRequest(a, from, bytesOf(length, i))));
      } else if (a != b || to >= from + length || from >= to + length) {
        answers.push_back(c.askLater(1, c.cloneRequest(a, from, b, to, length)));
      }
      c.run(Duration(random.below(200'000)));
    }
    REQUIRE(c.waitFor(answers));
    for (auto& a : answers) CHECK((**a || (**a).error().code == Errc::kStale));
    for (uint64_t id : {40u, 42u}) (void)c.everywhere(id, 0, 12 * kB);
    CHECK(violations(c, 3) == 0);
    CHECK(c.osd(1).service.chunks().size() == 0);
  }
}
