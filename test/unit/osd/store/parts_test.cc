// The parts of the store by themselves: allocator, guard, groups, records, superblock.
#include <doctest/doctest.h>

#include <set>

#include "common/reactor/clock.h"
#include "common/sim/sim_world.h"
#include "osd/store/allocator.h"
#include "osd/store/block_guard.h"
#include "osd/store/extent_group.h"
#include "osd/store/metadata.h"
#include "osd/store/record.h"
#include "osd/store/superblock.h"

using namespace cairn;
using namespace cairn::osd;

TEST_CASE("allocator: what is taken is exactly what was free, once") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    constexpr uint64_t kSize = 3000;
    Allocator allocator;
    allocator.add({0, kSize});
    std::vector<bool> used(kSize);
    std::vector<PhysRun> held;
    uint64_t usedCount = 0;
    for (int i = 0; i < 2000; ++i) {
      uint64_t count = 1 + random.below(random.chance(1, 4) ? 300 : 5);
      if (random.chance(1, 2) && count <= allocator.freeBlocks()) {
        std::vector<PhysRun> out;
        allocator.take(count, random.below(kSize + 10), out);
        uint64_t got = 0;
        for (const PhysRun& run : out) {
          got += run.count;
          for (uint64_t b = run.start; b < run.start + run.count; ++b) {
            REQUIRE(b < kSize);
            REQUIRE(!used[b]);
            used[b] = true;
          }
          held.push_back(run);
        }
        CHECK(got == count);
        usedCount += count;
      } else if (!held.empty()) {
        size_t at = random.below(held.size());
        PhysRun run = held[at];
        // A part of it, so that fragments form.
        uint64_t part = 1 + random.below(run.count);
        held[at] = {run.start + part, run.count - part};
        if (held[at].count == 0) held.erase(held.begin() + static_cast<ptrdiff_t>(at));
        allocator.add({run.start, part});
        for (uint64_t b = run.start; b < run.start + part; ++b) used[b] = false;
        usedCount -= part;
      }
      CHECK(allocator.freeBlocks() == kSize - usedCount);
    }
    for (const PhysRun& run : held) allocator.add(run);
    CHECK(allocator.fragments() == 1);
    CHECK(allocator.freeBlocks() == kSize);
  }
}

TEST_CASE("allocator: it grows a file in place, and prefers one piece") {
  Allocator allocator;
  allocator.add({0, 100});
  allocator.add({200, 1000});
  std::vector<PhysRun> out;
  allocator.take(10, 200, out);
  CHECK(out == std::vector<PhysRun>{{200, 10}});
  out.clear();
  allocator.take(20, 210, out);
  CHECK(out == std::vector<PhysRun>{{210, 20}});
  out.clear();
  allocator.take(500, kMaxPhysBlocks, out);
  CHECK(out.size() == 1);
  out.clear();
  allocator.take(allocator.freeBlocks(), kMaxPhysBlocks, out);
  CHECK(allocator.freeBlocks() == 0);
}

TEST_CASE("block guard: freed blocks wait for those who were there, not for those who came later") {
  sim::SimWorld world(1);
  auto& node = world.addNode("host");
  Allocator allocator;
  BlockGuard guard(node.reactor(), allocator);
  guard.retire({{0, 5}});
  CHECK(allocator.freeBlocks() == 5);  // nobody there
  {
    auto first = std::make_optional(guard.enter());
    guard.retire({{10, 3}});
    CHECK(allocator.freeBlocks() == 5);
    CHECK(guard.retiredBlocks() == 3);
    auto second = std::make_optional(guard.enter());
    guard.retire({{20, 2}});
    first.reset();
    CHECK(allocator.freeBlocks() == 8);
    CHECK(guard.retiredBlocks() == 2);
    second.reset();
  }
  CHECK(allocator.freeBlocks() == 10);
  CHECK(guard.retiredBlocks() == 0);
}

TEST_CASE("extent group: random changes against a plain array, through encoding") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    struct Plain {
      PhysBlock phys = kMaxPhysBlocks;
      bool written = false;
      bool shared = false;
      uint32_t crc = 0;
    };
    std::array<Plain, kGroupBlocks> plain;
    ExtentGroup group;
    PhysBlock next = 0;
    const uint64_t dataBlocks = 100'000;
    for (int i = 0; i < 200; ++i) {
      auto first = static_cast<uint32_t>(random.below(kGroupBlocks));
      auto count = static_cast<uint32_t>(1 + random.below(kGroupBlocks - first));
      std::set<PhysBlock> expected;
      std::vector<PhysRun> freed;
      const uint64_t what = random.below(5);
      if (what == 4) {
        // Marked as it lies, or not at all.
        const PhysBlock phys = plain[first].phys;
        bool fits = phys != kMaxPhysBlocks;
        for (uint32_t b = 0; b < count; ++b)
          fits = fits && plain[first + b].written && plain[first + b].phys == phys + b;
        if (phys != kMaxPhysBlocks) CHECK(group.markShared(first, count, phys) == fits);
        for (uint32_t b = first; fits && b < first + count; ++b) plain[b].shared = true;
        continue;
      }
      for (uint32_t b = first; b < first + count; ++b)
        if (plain[b].phys != kMaxPhysBlocks) expected.insert(plain[b].phys);
      if (what == 0) {
        group.clear(first, count, freed);
        for (uint32_t b = first; b < first + count; ++b) plain[b] = {};
      } else {
        std::vector<uint32_t> crcs;
        for (uint32_t b = 0; b < count; ++b) crcs.push_back(static_cast<uint32_t>(random.next()));
        const bool written = what != 2;
        if (what == 3) {
          std::vector<PhysRun> named;
          group.share(first, count, next, crcs.data(), freed, named);
          CHECK(named == std::vector<PhysRun>{{next, count}});
          named.clear();
          group.share(first, count, next, crcs.data(), freed, named);
          CHECK(named.empty());
        } else {
          group.assign(first, count, next, written ? crcs.data() : nullptr, freed);
        }
        for (uint32_t b = 0; b < count; ++b)
          plain[first + b] = {next + b, written, what == 3, written ? crcs[b] : 0};
        next += count + random.below(2);
      }
      std::set<PhysBlock> got;
      for (const PhysRun& run : freed)
        for (PhysBlock b = run.start; b < run.start + run.count; ++b) CHECK(got.insert(b).second);
      CHECK(got == expected);
      if (group.empty()) continue;
      auto again = ExtentGroup::decode("key", group.encode("key"), dataBlocks);
      REQUIRE(again);
      CHECK(again->runs() == group.runs());
      uint32_t blocks = 0;
      for (const auto& run : again->runs())
        for (uint32_t b = 0; b < run.count; ++b) {
          const Plain& p = plain[run.first + b];
          CHECK(p.phys == run.phys + b);
          CHECK(p.written == run.written);
          CHECK(p.shared == run.shared);
          if (p.written) CHECK(again->crc(run.first + b) == p.crc);
          ++blocks;
        }
      for (const Plain& p : plain)
        if (p.phys != kMaxPhysBlocks) --blocks;
      CHECK(blocks == 0);
    }
  }
}

TEST_CASE("extent group: damaged, moved or out-of-range values are refused") {
  ExtentGroup group;
  std::vector<PhysRun> freed;
  uint32_t crcs[4] = {1, 2, 3, 4};
  group.assign(2, 4, 90, crcs, freed);
  group.assign(20, 3, 50, nullptr, freed);
  std::string value = group.encode("a");
  CHECK(ExtentGroup::decode("a", value, 100));
  CHECK(!ExtentGroup::decode("b", value, 100));
  CHECK(!ExtentGroup::decode("a", value, 93));
  for (size_t byte = 0; byte < value.size(); ++byte) {
    std::string bad = value;
    bad[byte] ^= 4;
    CHECK(!ExtentGroup::decode("a", bad, 100));
    CHECK(!ExtentGroup::decode("a", value.substr(0, byte), 100));
  }
}

TEST_CASE("record: what is decoded is what was encoded, and garbage is refused") {
  Record r;
  r.kind = RecordKind::kInline;
  r.chunk = ChunkId(77);
  r.stamp = {{PoolId(2), PgIndex(3)}, ChunkVersion(5), ChunkVersion(4)};
  r.pieces = {{3, 2, 40}, {5, 1, 90}};
  r.crcs = {1, 2, 3};
  std::string bytes = r.encode() + std::string(3 * kBlockSize, 'x');
  Bytes data;
  auto again = Record::decode(bytesOf(bytes), 100, data);
  REQUIRE(again);
  CHECK(again->pieces == r.pieces);
  CHECK(again->crcs == r.crcs);
  CHECK(again->chunk == r.chunk);
  CHECK(again->stamp.group == r.stamp.group);
  CHECK(again->stamp.version == r.stamp.version);
  CHECK(again->stamp.committed == r.stamp.committed);
  CHECK(data.size() == 3 * kBlockSize);
  CHECK(!Record::decode(bytesOf(bytes), 90, data));  // outside the store
  CHECK(!Record::decode(bytesOf(bytes + "x"), 100, data));
  for (size_t cut = 0; cut < bytes.size(); cut += cut < 100 ? 1 : 501)
    CHECK(!Record::decode(bytesOf(bytes.substr(0, cut)), 100, data));

  Record zero;
  zero.kind = RecordKind::kZero;
  zero.pieces = {{0, kChunkBlocks, 0}};
  CHECK(Record::decode(bytesOf(zero.encode()), 100, data));
  Record remove;
  remove.kind = RecordKind::kRemove;
  remove.chunks = {ChunkId(4), ChunkId(9)};
  auto removed = Record::decode(bytesOf(remove.encode()), 100, data);
  REQUIRE(removed);
  CHECK(removed->chunks == remove.chunks);
  remove.kind = RecordKind::kDrop;
  CHECK(Record::decode(bytesOf(remove.encode()), 100, data));
  remove.kind = RecordKind::kForget;
  CHECK(!Record::decode(bytesOf(remove.encode()), 100, data));  // a group has no chunks then
  remove.chunks.clear();
  CHECK(Record::decode(bytesOf(remove.encode()), 100, data));
  remove.kind = RecordKind::kRemove;
  CHECK(!Record::decode(bytesOf(remove.encode()), 100, data));

  Record clone;
  clone.kind = RecordKind::kClone;
  clone.chunk = ChunkId(8);
  clone.pieces = {{10, 2, 40}, {13, 1, 50}};
  clone.crcs = {7, 8, 9};
  clone.clone = {ChunkId(9), 100, 10, 5};
  auto cloned = Record::decode(bytesOf(clone.encode()), 100, data);
  REQUIRE(cloned);
  CHECK(cloned->clone == clone.clone);
  CHECK(cloned->pieces == clone.pieces);
  CHECK(cloned->crcs == clone.crcs);
  Record holes = clone;  // only
  holes.pieces.clear();
  holes.crcs.clear();
  CHECK(Record::decode(bytesOf(holes.encode()), 100, data));
  for (CloneRange bad : {CloneRange{ChunkId(9), 100, 10, 3},               // less than its pieces
                         CloneRange{ChunkId(9), 100, 11, 5},               // behind their start
                         CloneRange{ChunkId(9), kChunkBlocks - 4, 10, 5},  // outside the source
                         CloneRange{ChunkId(8), 12, 10, 5}}) {             // over itself
    Record wrong = clone;
    wrong.clone = bad;
    CHECK(!Record::decode(bytesOf(wrong.encode()), 100, data));
  }

  // Whatever it is fed, it ends.
  SeededRandom random(1);
  const std::string cloneBytes = clone.encode();
  for (int i = 0; i < 20'000; ++i) {
    std::string garbage = (i % 2 == 0 ? bytes : cloneBytes).substr(0, random.below(120));
    for (uint64_t flips = random.below(6); flips > 0 && !garbage.empty(); --flips)
      garbage[random.below(garbage.size())] = static_cast<char>(random.next());
    if (auto decoded = Record::decode(bytesOf(garbage), 100, data))
      for (const Piece& p : decoded->pieces) CHECK(p.first + p.count <= kChunkBlocks);
  }
}

TEST_CASE("superblock: round trip, and every flipped bit is seen") {
  auto planned = planLayout(64 * kMiB + 4096, 8 * kMiB, true);
  REQUIRE(planned);
  planned->store = {1, 2};
  planned->cluster = {3, 4};
  CHECK(planned->dataOffset == 9 * kMiB);
  CHECK(planned->dataBlocks == (64 - 9) * 256 + 1);
  auto files = planLayout(64 * kMiB + 4096, 8 * kMiB, false);
  REQUIRE(files);
  CHECK(files->ownLogFile());
  CHECK(files->sizeBytes == 56 * kMiB + 4096);
  CHECK(files->dataBlocks == planned->dataBlocks);
  BufferPool pool;
  Buffer block = pool.get(kBlockSize);
  encodeSuperblock(*planned, block.bytes());
  auto again = decodeSuperblock(block.bytes(), "here");
  REQUIRE(again);
  CHECK(*again == *planned);
  for (size_t byte = 0; byte < kBlockSize; byte += byte < 120 ? 1 : 37) {
    block.data()[byte] ^= 16;
    auto bad = decodeSuperblock(block.bytes(), "here");
    CHECK(!bad);
    block.data()[byte] ^= 16;
  }
  CHECK(planLayout(5 * kMiB, 4 * kMiB, false).error().code == Errc::kInvalid);
  CHECK(planLayout(64 * kMiB, kMiB, true).error().code == Errc::kInvalid);
}

TEST_CASE("metadata: reads see the buffer and the database as one, before and after a flush") {
  sim::SimWorld world(1);
  auto& node = world.addNode("host");
  auto kv = node.kv().open(node.reactor(), "/meta", {});
  REQUIRE(kv);
  Metadata metadata(std::move(*kv));
  std::map<std::string, std::string> model;
  SeededRandom random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string key = "c" + std::to_string(random.below(60));
    switch (random.below(5)) {
      case 4:
        if (model.contains(key)) break;
        metadata.putNew(key, std::to_string(i));
        model[key] = std::to_string(i);
        break;
      case 0:
        metadata.del(key);
        model.erase(key);
        break;
      case 1:
        if (random.chance(1, 20)) CHECK(metadata.flush(static_cast<Lsn>(i)));
        break;
      case 2: {
        std::string from = "c" + std::to_string(random.below(60));
        auto expected = model.lower_bound(from);
        int limit = static_cast<int>(random.below(30)), seen = 0;
        CHECK(metadata.scan(from, [&](auto k, auto v) {
          REQUIRE(expected != model.end());
          CHECK(k == expected->first);
          CHECK(v == expected->second);
          ++expected;
          return ++seen < limit;
        }));
        if (seen < limit) CHECK(expected == model.end());
        break;
      }
      default:
        metadata.put(key, std::to_string(i));
        model[key] = std::to_string(i);
    }
    auto value = metadata.get(key);
    REQUIRE(value);
    auto it = model.find(key);
    CHECK(*value == (it == model.end() ? std::nullopt : std::optional(it->second)));
  }
}
