// Sessions that expired: refused from the moment that somebody who knows of it was let in.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

// The one that expires, and those that live.
constexpr uint64_t kExpired = 5, kNext = 6, kThird = 7;
using Role = schema::Hello::Role;

OutMessage by(uint64_t session, MapEpoch barrier, OutMessage m) {
  auto r = m.body<schema::OsdRequest>();
  r.setSession(session);
  r.setMapEpoch(barrier.value);
  return m;
}

OutMessage zeroRequest(TestCluster& c, uint64_t chunk, uint32_t offset, uint32_t length) {
  OutMessage m = c.request();
  auto z = m.body<schema::OsdRequest>().initZero();
  z.setChunk(chunk);
  z.setOffset(offset);
  z.setLength(length);
  return m;
}

// The MDS expires a session: the next epoch fences it. No OSD has heard of it yet.
MapEpoch fence(TestCluster& c) {
  c.mds.map.fence = {SessionId{kThird}, {SessionId{kNext}}};
  ++c.mds.map.epoch.value;
  return c.mds.map.epoch;
}

// Heartbeats become rare: OSDs learn of a new map only when they ask for it.
void makeHeartbeatsRare(TestCluster& c) {
  c.mds.lease = 60s;
  c.run(3s);
}

TestCluster::Answer send(TestCluster& c, uint64_t session, MapEpoch barrier, OutMessage m) {
  return c.askLater(1, by(session, barrier, std::move(m)), 10s, Role::CLIENT, session);
}

std::vector<uint8_t> dataOf(const InMessage& reply, size_t length) {
  auto r = reply.body<schema::OsdReply>().getRead();
  if (r.getHole()) return std::vector<uint8_t>(length);
  Bytes bytes = reply.payload().bytes();
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("a fenced session is served nothing; whoever lives is, and whoever is no client") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(2 * kB, 1)));
  fence(c);
  c.waitForMap();
  const uint64_t before = c.disk(1).mutations + c.disk(2).mutations;
  auto requests = [&] {
    std::vector<OutMessage> all;
    all.push_back(c.readRequest(42, 0, kB));
    all.push_back(c.writeRequest(42, 0, bytesOf(kB, 2)));
    all.push_back(zeroRequest(c, 42, 0, kB));
    OutMessage allocate = c.request();
    auto z = allocate.body<schema::OsdRequest>().initAllocate();
    z.setChunk(42);
    z.setLength(kB);
    all.push_back(std::move(allocate));
    all.push_back(c.cloneRequest(42, 0, 43, 0, kB));
    OutMessage extents = c.request();
    extents.body<schema::OsdRequest>().initExtents().setChunk(42);
    all.push_back(std::move(extents));
    return all;
  };
  for (OutMessage& m : requests()) {
    auto answer = c.ask(1, by(kExpired, {}, std::move(m)));
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::kSessionExpired);
    CHECK(answer.error().message.find("session 5") != std::string::npos);
    CHECK(answer.error().message.find("epoch " + std::to_string(c.mds.map.epoch.value)) !=
          std::string::npos);
  }
  CHECK(c.disk(1).mutations + c.disk(2).mutations == before);
  for (uint64_t session : {kNext, kThird, uint64_t{0}})
    for (OutMessage& m : requests()) CHECK(c.ask(1, by(session, {}, std::move(m))));
}

TEST_CASE("a request that knows of a newer map is not served under an older one") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  makeHeartbeatsRare(c);
  const MapEpoch barrier = fence(c);
  // Nobody has told the OSD: to it the session lives.
  REQUIRE(c.ask(1, by(kExpired, {}, c.writeRequest(42, 0, bytesOf(kB, 2)))));
  SUBCASE("it is served when the map has come, and the fenced one no more") {
    auto got = c.ask(1, by(kNext, barrier, c.readRequest(42, 0, kB)));
    REQUIRE(got);
    CHECK(dataOf(*got, kB) == bytesOf(kB, 2));
    CHECK(c.osd(1).map.epoch() == barrier);
    CHECK(c.ask(1, by(kExpired, {}, c.writeRequest(42, 0, bytesOf(kB, 3)))).error().code ==
          Errc::kSessionExpired);
    CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
    // What everybody carries from now on costs no question.
    const uint64_t asked = c.mds.heartbeats;
    CHECK(c.ask(1, by(kNext, barrier, c.readRequest(42, 0, kB))));
    CHECK(c.mds.heartbeats == asked);
  }
  SUBCASE("it is refused in bounded time, and nothing is done, while the map cannot be had") {
    c.world.network().cut("mds", "osd1");
    const uint64_t mutations = c.disk(1).mutations;
    const TimePoint start = c.world.now();
    std::vector<TestCluster::Answer> answers;
    for (uint32_t i = 0; i < 20; ++i) {
      answers.push_back(send(c, kNext, barrier, c.writeRequest(42, i * kB, bytesOf(kB, 3))));
      answers.push_back(send(c, kNext, barrier, c.readRequest(42, i * kB, kB)));
    }
    REQUIRE(c.waitFor(answers));
    for (auto& a : answers) CHECK((**a).error().code == Errc::kUnavailable);
    CHECK(c.world.now() - start < 4s);  // all of them share two questions
    CHECK(c.disk(1).mutations == mutations);
    c.world.network().healAll();
    c.waitForMap();
    CHECK(c.ask(1, by(kNext, barrier, c.readRequest(42, 0, kB))));
  }
  SUBCASE("an epoch that the MDS does not have either is not waited for") {
    CHECK(c.ask(1, by(kNext, MapEpoch{UINT64_MAX}, c.readRequest(42, 0, kB))).error().code ==
          Errc::kUnavailable);
  }
}

TEST_CASE("a fenced write that waits for its blocks is not done after who knows of the fence") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  makeHeartbeatsRare(c);
  c.disk(2).delay = 300ms;
  auto holder = send(c, kNext, {}, c.writeRequest(42, 0, bytesOf(kB, 2)));
  c.run(10ms);
  auto waiting = send(c, kExpired, {}, c.writeRequest(42, 0, bytesOf(kB, 3)));
  c.run(10ms);
  REQUIRE_FALSE(holder->has_value());
  const MapEpoch barrier = fence(c);
  // What it asks for first is another block: it is answered while the fenced one still waits.
  auto elsewhere = send(c, kNext, barrier, c.readRequest(42, kB, kB));
  REQUIRE(c.waitFor({elsewhere}, 100ms));
  CHECK(**elsewhere);
  REQUIRE_FALSE(waiting->has_value());
  auto got = send(c, kNext, barrier, c.readRequest(42, 0, kB));
  REQUIRE(c.waitFor({holder, waiting, got}));
  CHECK(**holder);
  CHECK((**waiting).error().code == Errc::kSessionExpired);
  REQUIRE(**got);
  CHECK(dataOf(***got, kB) == bytesOf(kB, 2));
  c.run(5s);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("a fenced write that reads the edges of its blocks is not done either") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  makeHeartbeatsRare(c);
  for (size_t i = 1; i <= 2; ++i) c.disk(i).delay = 100ms;
  auto partial = send(c, kExpired, {}, c.writeRequest(42, 10, bytesOf(20, 3)));
  c.run(20ms);  // it holds the lock of the block and reads it
  const uint64_t mutations = c.disk(1).mutations;
  const MapEpoch barrier = fence(c);
  auto elsewhere = send(c, kNext, barrier, c.writeRequest(42, 8 * kB, bytesOf(kB, 4)));
  auto got = send(c, kNext, barrier, c.readRequest(42, 0, kB));
  REQUIRE(c.waitFor({partial, elsewhere, got}));
  CHECK((**partial).error().code == Errc::kSessionExpired);
  CHECK(**elsewhere);
  REQUIRE(**got);
  CHECK(dataOf(***got, kB) == bytesOf(kB, 1));
  CHECK(c.disk(1).mutations == mutations + 1);
}

TEST_CASE("a fenced write that is under way already is waited for, and seen") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  makeHeartbeatsRare(c);
  c.disk(2).delay = 300ms;
  auto under = send(c, kExpired, {}, c.writeRequest(42, 0, bytesOf(kB, 2)));
  c.run(10ms);
  const MapEpoch barrier = fence(c);
  auto got = send(c, kNext, barrier, c.readRequest(42, 0, kB));
  REQUIRE(c.waitFor({under, got}));
  CHECK(**under);
  REQUIRE(**got);
  CHECK(dataOf(***got, kB) == bytesOf(kB, 2));
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("what a session that knows of the fence has read stays, whatever was under way") {
  constexpr uint32_t kBlocks = 12;
  uint64_t refused = 0, done = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    TestCluster c(2, seed);
    SeededRandom random(seed);
    REQUIRE(c.write(1, 42, 0, bytesOf(kBlocks * kB, 1000)));
    makeHeartbeatsRare(c);
    for (size_t i = 1; i <= 2; ++i)
      c.disk(i).delay = std::chrono::microseconds(50 + random.below(20'000));
    std::vector<TestCluster::Answer> late, reads;
    auto change = [&](uint64_t session, MapEpoch barrier) {
      const auto offset = static_cast<uint32_t>(random.below(kBlocks * kB - 1));
      const auto length =
          static_cast<uint32_t>(1 + random.below(std::min(3 * kB, kBlocks * kB - offset)));
      auto data = bytesOf(length, static_cast<uint32_t>(random.next()));
      return send(c, session, barrier,
                  random.chance(1, 4) ? zeroRequest(c, 42, offset, length)
                                      : c.writeRequest(42, offset, data));
    };
    for (int i = 0; i < 30; ++i) {
      late.push_back(change(kExpired, {}));
      if (random.chance(1, 4)) c.run(std::chrono::microseconds(random.below(10'000)));
    }
    c.run(std::chrono::microseconds(random.below(300'000)));
    const MapEpoch barrier = fence(c);
    for (uint32_t b = 0; b < kBlocks; ++b) {
      reads.push_back(send(c, kNext, barrier, c.readRequest(42, b * kB, kB)));
      // It does not know and goes on.
      late.push_back(change(kExpired, {}));
      if (random.chance(1, 4)) c.run(std::chrono::microseconds(random.below(5'000)));
    }
    REQUIRE(c.waitFor(reads));
    std::vector<uint8_t> seen;
    for (auto& r : reads) {
      REQUIRE(**r);
      auto block = dataOf(***r, kB);
      seen.insert(seen.end(), block.begin(), block.end());
    }
    for (int i = 0; i < 5; ++i) late.push_back(change(kExpired, {}));
    REQUIRE(c.waitFor(late));
    for (auto& a : late) {
      if (**a)
        ++done;
      else
        ++refused;
      CHECK((**a || (**a).error().code == Errc::kSessionExpired));
    }
    c.run(2s);
    CHECK(c.everywhere(42, 0, kBlocks * kB) == seen);
  }
  // Both sides of the fence were met.
  CAPTURE(done);
  CAPTURE(refused);
  CHECK(done > 400);
  CHECK(refused > 400);
}
