// Erasure-coded groups with damaged, forged and missing shards: reads, scrubs, what is said of
// them.
#include <algorithm>

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/stripes_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

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

TEST_CASE("stripes: a row that cannot be made any more keeps no empty member out") {
  TestCluster c(kSix);
  Model m(c, 42, 64);
  m.write(0, 64 * kB, 1);
  rest(c);
  for (uint8_t s : {0, 1, 4})
    c.disk(s + 1u).chunks.at(inStore(ChunkId{42}, s)).blocks.at(5).bytes[1] ^= 1;
  c.lose(6);
  c.disk(6).chunks.clear();
  c.disk(6).groups.clear();
  c.disk(6).removals.clear();
  c.waitForMap();
  c.restart(6);
  REQUIRE(c.waitForCopies(6));
  CHECK(c.read(c.primary(), 42, 17 * kB, kB).error().code == Errc::kCorrupt);
  auto others = c.readUntilDone(42, 0, 16 * kB);
  REQUIRE(others);
  CHECK(std::equal(others->data.begin(), others->data.end(), m.bytes.begin()));
  m.write(16 * kB, 8 * kB, 2);
  m.check();
  checkWords(c, 42, 16);
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
