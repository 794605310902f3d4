// One OSD, or a group of them where all are well: what is served, what is stored, what is refused.
#include "osd/service/service.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

TEST_CASE("a write is on every member of the group when it is answered, and reads give it back") {
  TestCluster c(3);
  auto data = bytesOf(3 * kB, 1);
  auto version = c.write(1, 42, 8 * kB, data);
  REQUIRE(version);
  // Not after a while: now.
  for (size_t i = 1; i <= 3; ++i) {
    CHECK(c.disk(i).content(kChunk, 8 * kB, 3 * kB) == data);
    CHECK(c.disk(i).chunks[kChunk].version.value == *version);
  }
  auto got = c.read(1, 42, 7 * kB, 5 * kB);
  REQUIRE(got);
  CHECK(got->version == *version);
  std::vector<uint8_t> expected(5 * kB);
  std::copy(data.begin(), data.end(), expected.begin() + kB);
  CHECK(got->data == expected);
  CHECK(c.read(1, 42, 20 * kB, kB)->hole);
  CHECK(c.read(1, 43, 0, kB)->hole);
}

TEST_CASE("versions grow with every mutation of a chunk, across a restart too") {
  TestCluster c(2);
  auto first = c.write(1, 42, 0, bytesOf(kB, 1));
  auto second = c.write(1, 42, kB, bytesOf(kB, 2));
  REQUIRE(second);
  CHECK(*second > *first);
  c.kill(1);
  c.restart(1);
  c.waitForMap();
  auto third = c.write(1, 42, 0, bytesOf(kB, 3));
  REQUIRE(third);
  CHECK(*third > *second);
}

TEST_CASE("writes of any bytes merge with what is stored, equally on every member") {
  TestCluster c(2);
  constexpr uint32_t kSpan = 8 * kB;
  std::vector<uint8_t> model(kSpan);
  SeededRandom random(7);
  for (uint32_t i = 0; i < 200; ++i) {
    auto offset = static_cast<uint32_t>(random.below(kSpan));
    auto length = static_cast<uint32_t>(1 + random.below(std::min(3 * kB, kSpan - offset)));
    if (random.chance(1, 4)) {
      REQUIRE(c.zero(1, 42, offset, length));
      std::fill_n(model.begin() + offset, length, uint8_t{0});
    } else {
      auto data = bytesOf(length, i);
      REQUIRE(c.write(1, 42, offset, data));
      std::copy(data.begin(), data.end(), model.begin() + offset);
    }
    REQUIRE(c.everywhere(42, 0, kSpan) == model);
  }
  auto got = c.read(1, 42, 0, kSpan);
  REQUIRE(got);
  CHECK(got->data == model);
}

TEST_CASE("zeroed whole blocks give their space back; a hole stays one when its edge is zeroed") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(4 * kB, 1)));
  REQUIRE(c.zero(1, 42, 100, 4 * kB - 200));
  for (size_t i = 1; i <= 2; ++i) CHECK(c.disk(i).chunks[kChunk].blocks.size() == 2);
  REQUIRE(c.zero(1, 42, 10 * kB + 5, 20));
  for (size_t i = 1; i <= 2; ++i) CHECK(c.disk(i).chunks[kChunk].blocks.size() == 2);
  REQUIRE(c.zero(1, 42, 0, kChunkSize));
  for (size_t i = 1; i <= 2; ++i) CHECK(c.disk(i).chunks[kChunk].blocks.empty());
}

TEST_CASE("the largest unaligned write is accepted") {
  TestCluster c(2);
  auto data = bytesOf(kMaxIoBytes, 3);
  REQUIRE(c.write(1, 42, 100, data));
  CHECK(c.everywhere(42, 100, kMaxIoBytes) == data);
}

TEST_CASE("allocated space reads as zeros and is there on every member") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  REQUIRE(c.allocate(1, 42, 100, 4 * kB));
  for (size_t i = 1; i <= 2; ++i) CHECK(c.disk(i).chunks[kChunk].reserved.size() == 4);
  CHECK(c.read(1, 42, kB, 4 * kB)->hole);
  // Not for lack of space: it is reserved.
  for (size_t i = 1; i <= 2; ++i) c.disk(i).capacityBlocks = c.disk(i).blocks();
  CHECK(c.write(1, 42, kB, bytesOf(kB, 2)));
  CHECK(c.write(1, 42, 8 * kB, bytesOf(kB, 2)).error().code == Errc::kNoSpace);
}

TEST_CASE("extents are the data from an offset on, merged") {
  TestCluster c(1);
  REQUIRE(c.write(1, 42, 0, bytesOf(2 * kB, 1)));
  REQUIRE(c.write(1, 42, 2 * kB, bytesOf(kB, 1)));
  REQUIRE(c.write(1, 42, 9 * kB, bytesOf(kB, 1)));
  auto ask = [&](uint32_t offset) {
    OutMessage m = c.request();
    auto e = m.body<schema::OsdRequest>().initExtents();
    e.setChunk(42);
    e.setOffset(offset);
    auto answer = c.ask(1, std::move(m));
    REQUIRE(answer);
    auto reply = answer->body<schema::OsdReply>().getExtents();
    CHECK(reply.getEnd() == kChunkSize);
    std::vector<std::pair<uint32_t, uint32_t>> out;
    for (auto r : reply.getData()) out.emplace_back(r.getOffset(), r.getLength());
    return out;
  };
  using Pairs = std::vector<std::pair<uint32_t, uint32_t>>;
  CHECK(ask(0) == Pairs{{0, 3 * kB}, {9 * kB, kB}});
  CHECK(ask(5 * kB) == Pairs{{9 * kB, kB}});
  CHECK(ask(20 * kB).empty());
}

TEST_CASE("the MDS removes chunks, as often as it likes, and nobody else does") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  auto remove = [&](size_t from, schema::Hello::Role as) {
    OutMessage m = c.request();
    auto list = m.body<schema::OsdRequest>().initRemove().initChunks(2);
    list.set(0, 42);
    list.set(1, 43);
    return c.ask(from, std::move(m), as);
  };
  CHECK(remove(1, schema::Hello::Role::CLIENT).error().code == Errc::kPermission);
  CHECK(remove(2, schema::Hello::Role::MDS).error().code == Errc::kStaleEpoch);
  CHECK(c.disk(1).chunks.contains(kChunk));
  for (int i = 0; i < 2; ++i) {
    CHECK(remove(1, schema::Hello::Role::MDS));
    CHECK_FALSE(c.disk(1).chunks.contains(kChunk));
    CHECK_FALSE(c.disk(2).chunks.contains(kChunk));
  }
  // A write that comes late does not bring it back.
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kStale);
  CHECK_FALSE(c.disk(1).chunks.contains(kChunk));
  CHECK_FALSE(c.disk(2).chunks.contains(kChunk));
}

TEST_CASE("stat and list show what is stored, on any member") {
  TestCluster c(2);
  auto version = c.write(1, 42, 0, bytesOf(3 * kB, 1));
  REQUIRE(c.write(1, 50, 0, bytesOf(kB, 1)));
  for (size_t i = 1; i <= 2; ++i) {
    OutMessage m = c.request();
    m.body<schema::OsdRequest>().initStat().setChunk(42);
    auto stat = c.ask(i, std::move(m));
    REQUIRE(stat);
    auto s = stat->body<schema::OsdReply>().getStat();
    CHECK(s.getExists());
    CHECK(s.getVersion() == *version);
    CHECK(s.getBlocks() == 3);

    OutMessage l = c.request();
    auto list = l.body<schema::OsdRequest>().initList();
    list.setAfter(0);
    list.setLimit(1);
    auto page = c.ask(i, std::move(l), schema::Hello::Role::ADMIN);
    REQUIRE(page);
    auto reply = page->body<schema::OsdReply>().getList();
    REQUIRE(reply.getChunks().size() == 1);
    CHECK(reply.getChunks()[0].getChunk() == 42);
    CHECK(reply.getMore());
  }
}

TEST_CASE("data that does not match its checksums is refused and changes nothing") {
  TestCluster c(2);
  for (uint32_t flip : {0u, 5000u, 3 * kB - 1}) {
    OutMessage m = c.writeRequest(42, 0, bytesOf(3 * kB, 1));
    m.payload()[0].data()[flip] ^= 1;
    CHECK(c.ask(1, std::move(m)).error().code == Errc::kCorrupt);
  }
  OutMessage few = c.writeRequest(42, 0, bytesOf(3 * kB, 1));
  few.body<schema::OsdRequest>().getWrite().initCrcs(8);
  CHECK(c.ask(1, std::move(few)).error().code == Errc::kCorrupt);
  CHECK(c.disk(1).chunks.empty());
  CHECK(c.disk(2).chunks.empty());
}

TEST_CASE("stored bytes that do not match their checksum are never served or merged") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(2 * kB, 1)));
  for (size_t i = 1; i <= 2; ++i) c.disk(i).chunks[kChunk].blocks[1].bytes[77] ^= 1;
  CHECK(c.read(1, 42, 0, 2 * kB).error().code == Errc::kCorrupt);
  CHECK(c.read(1, 42, 0, kB));
  CHECK(c.write(1, 42, kB + 5, bytesOf(10, 2)).error().code == Errc::kCorrupt);
  CHECK(c.write(1, 42, kB, bytesOf(kB, 2)));  // whole: does not need what is there
  CHECK(c.read(1, 42, 0, 2 * kB));
}

TEST_CASE("a request from another map is refused with our epoch, never served") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  const MapEpoch old = c.epoch;
  c.setGroup({2, 1});
  c.waitForMap();
  const MapEpoch current = c.epoch;
  c.epoch = old;
  auto late = c.write(2, 42, 0, bytesOf(kB, 2));
  CHECK(late.error().code == Errc::kStaleEpoch);
  CHECK(late.error().message.find(std::to_string(current.value)) != std::string::npos);
  CHECK(c.read(2, 42, 0, kB).error().code == Errc::kStaleEpoch);
  c.epoch = current;
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kStaleEpoch);  // not primary now
  CHECK(c.read(1, 42, 0, kB).error().code == Errc::kStaleEpoch);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 1));
  CHECK(c.write(2, 42, 0, bytesOf(kB, 2)));
}

TEST_CASE("a sender with a newer map makes the OSD fetch it, and is served") {
  TestCluster c(2);
  c.mds.lease = 60s;  // heartbeats become rare: it must ask by itself
  c.run(3s);
  c.setGroup({2, 1});
  (void)c.write(2, 42, 0, bytesOf(kB, 1));
  CHECK(c.osd(2).map.epoch() == c.mds.map.epoch);
  CHECK(c.writeUntilDone(42, 0, bytesOf(kB, 1)));
  SUBCASE("an epoch that nobody has heard of is not waited for") {
    c.epoch = MapEpoch{1000};
    CHECK(c.write(2, 42, 0, bytesOf(kB, 2)).error().code == Errc::kUnavailable);
  }
}

TEST_CASE("without a lease nothing is served, and with the next one it is again") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.mds.mute = true;
  c.run(c.mds.lease);
  CHECK(c.read(1, 42, 0, kB).error().code == Errc::kUnavailable);
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)).error().code == Errc::kUnavailable);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 1));
  c.mds.mute = false;
  c.waitForMap();
  CHECK(c.write(1, 42, 0, bytesOf(kB, 2)));
}

TEST_CASE("a chunk is served only under the group that it lives in") {
  TestCluster c(1);
  auto& pool = c.mds.map.pools[kPool];
  pool.pgs.resize(2, pool.pgs[0]);
  c.setGroup({1});
  pool.pgs[1].epoch = c.epoch;
  c.waitForMap();
  uint64_t other = 1;
  while (pool.pgOf(ChunkId{other}) == PgIndex{0}) ++other;
  CHECK(c.write(1, other, 0, bytesOf(kB, 1)).error().code == Errc::kInvalid);
  CHECK(c.read(1, other, 0, kB).error().code == Errc::kInvalid);
}

TEST_CASE("a replica takes mutations from the primary of its group and from nobody else") {
  TestCluster c(3);
  using Role = schema::Hello::Role;
  auto tell = [&](size_t to, Role as, uint64_t peer) {
    return c.ask(to, c.replicateRequest(42, 0, bytesOf(kB, 1), 1), as, 10s, peer);
  };
  for (auto [as, peer] : {std::pair<Role, uint64_t>{Role::CLIENT, 0},
                          {Role::CLIENT, 1},  // the number alone says nothing
                          {Role::MDS, 1},
                          {Role::OSD, 0},
                          {Role::OSD, 3}})
    CHECK(tell(2, as, peer).error().code == Errc::kStaleEpoch);
  CHECK(tell(1, Role::OSD, 1).error().code == Errc::kStaleEpoch);  // to the primary itself
  CHECK(c.disk(1).chunks.empty());
  CHECK(c.disk(2).chunks.empty());
  CHECK(tell(2, Role::OSD, 1));
  CHECK(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 1));
}

TEST_CASE("a replica does overlapping mutations one after the other, as they came") {
  TestCluster c(2);
  c.disk(2).delay = 10ms;
  std::vector<TestCluster::Answer> answers;
  for (uint32_t i = 1; i <= 20; ++i)
    answers.push_back(c.askLater(2, c.replicateRequest(42, (i % 2) * kB, bytesOf(2 * kB, i), i),
                                 10s, schema::Hello::Role::OSD, 1));
  REQUIRE(c.waitFor(answers));
  CHECK(c.disk(2).content(kChunk, 0, 2 * kB) == bytesOf(2 * kB, 20));
  CHECK(c.disk(2).violations == 0);
}

TEST_CASE("a read during a write waits until the write is everywhere") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(2).delay = 300ms;  // the primary has it long before
  auto write = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 2)));
  REQUIRE(c.world.runUntil([&] { return c.disk(1).content(kChunk, 0, kB) == bytesOf(kB, 2); }, 1s));
  REQUIRE(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 1));
  auto got = c.read(1, 42, 0, kB);
  REQUIRE(got);
  CHECK(got->data == bytesOf(kB, 2));
  CHECK(c.disk(2).content(kChunk, 0, kB) == bytesOf(kB, 2));
  // What it does not touch is not held up.
  c.disk(2).delay = 300ms;
  auto other = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 3)));
  c.run(10ms);
  CHECK(c.read(1, 42, kB, kB));
  CHECK_FALSE(other->has_value());
  REQUIRE(c.waitFor({write, other}));
}

TEST_CASE("a request that its sender no longer waits for is not begun") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  c.disk(2).delay = 300ms;
  auto slow = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 2)));
  c.run(10ms);
  auto late = c.askLater(1, c.writeRequest(42, 0, bytesOf(kB, 3)), 50ms);
  REQUIRE(c.waitFor({slow, late}));
  CHECK(**slow);
  CHECK((**late).error().code == Errc::kTimeout);
  c.run(3s);
  CHECK(c.everywhere(42, 0, kB) == bytesOf(kB, 2));
}

TEST_CASE("requests beyond the limits are refused, not queued") {
  TestCluster c(1);
  c.disk(1).delay = 100ms;
  ServiceOptions small;
  std::vector<TestCluster::Answer> answers;
  for (uint64_t i = 0; i < 100; ++i)
    answers.push_back(c.askLater(1, c.readRequest(i + 1, 0, kMaxIoBytes)));
  REQUIRE(c.waitFor(answers));
  size_t served = 0, busy = 0;
  for (auto& a : answers) {
    if (**a)
      ++served;
    else if ((**a).error().code == Errc::kBusyTryLater)
      ++busy;
  }
  CHECK(served == small.maxBytes / kMaxIoBytes);
  CHECK(served + busy == answers.size());
  c.disk(1).delay = 0ms;
  CHECK(c.read(1, 1, 0, kB));
}

TEST_CASE("requests that make no sense are refused and change nothing") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  const uint64_t before = c.disk(1).mutations + c.disk(2).mutations;
  for (auto [offset, length] : {std::pair<uint32_t, uint32_t>{0, 0},
                                {1, kB},
                                {0, 100},
                                {0, kMaxIoBytes + kB},
                                {kChunkSize, kB},
                                {kChunkSize - kB, 2 * kB},
                                {UINT32_MAX, UINT32_MAX}})
    CHECK(c.read(1, 42, offset, length).error().code == Errc::kInvalid);
  for (auto [offset, length] : {std::pair<uint32_t, uint32_t>{0, 0},
                                {kChunkSize, 1},
                                {kChunkSize - 1, 2},
                                {UINT32_MAX, UINT32_MAX}}) {
    CHECK(c.zero(1, 42, offset, length).error().code == Errc::kInvalid);
    CHECK(c.allocate(1, 42, offset, length).error().code == Errc::kInvalid);
  }
  CHECK(c.write(1, 42, kChunkSize - 10, bytesOf(11, 1)).error().code == Errc::kInvalid);
  CHECK(c.write(1, 0, 0, bytesOf(10, 1)).error().code == Errc::kInvalid);
  OutMessage wrongLength = c.writeRequest(42, 0, bytesOf(kB, 1));
  wrongLength.body<schema::OsdRequest>().getWrite().setLength(kB + 1);
  CHECK(c.ask(1, std::move(wrongLength)).error().code == Errc::kInvalid);
  OutMessage empty = c.request();
  empty.body<schema::OsdRequest>().initReplicate();
  CHECK_FALSE(c.ask(2, std::move(empty)));
  CHECK(c.disk(1).mutations + c.disk(2).mutations == before);
}

TEST_CASE("garbage in a request's body does no harm") {
  TestCluster c(2);
  REQUIRE(c.write(1, 42, 0, bytesOf(kB, 1)));
  SeededRandom random(99);
  for (int i = 0; i < 500; ++i) {
    OutMessage m =
        random.chance(1, 2) ? c.writeRequest(42, 0, bytesOf(kB, 1)) : c.readRequest(42, 0, kB);
    // Anything in the words after the header's own: unions, lengths, pointers.
    Bytes flat = m.flatHeader();
    auto* bytes = const_cast<uint8_t*>(flat.data());
    const size_t skip = std::min<size_t>(flat.size(), 64);
    for (uint64_t n = 1 + random.below(8); n > 0 && flat.size() > skip; --n)
      bytes[skip + random.below(flat.size() - skip)] = static_cast<uint8_t>(random.next());
    (void)c.ask(1, std::move(m), schema::Hello::Role::CLIENT, 3s);
  }
  // Whatever it was, the service is well.
  auto got = c.read(1, 42, 0, kB);
  REQUIRE(got);
  CHECK(c.write(1, 44, 0, bytesOf(kB, 1)));
}
