// Clones: blocks that several chunks share, through changes on either side, full stores and
// crashes.
#include <doctest/doctest.h>

#include <set>

#include "common/kv/kv.h"
#include "osd/store/extent_group.h"
#include "osd/store/metadata.h"
#include "osd/store/shared_places.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

constexpr uint64_t kBlock = kBlockSize;

std::vector<uint64_t> zeros(size_t n) {
  return std::vector<uint64_t>(n);
}

uint64_t usedBlocks(StoreHost& host) {
  return host.store->space().usedBytes / kBlock;
}

}  // namespace

// ---- The count of names ----

TEST_CASE("shared places: what is released is free with its last name, block by block") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    constexpr uint64_t kSize = 60;
    std::vector<uint64_t> names(kSize, 1);  // of each place, which is used in all
    SharedPlaces shared;
    for (int i = 0; i < 400; ++i) {
      const uint64_t start = random.below(kSize), count = 1 + random.below(kSize - start);
      if (random.chance(1, 2)) {
        shared.add({start, count});
        for (uint64_t b = start; b < start + count; ++b) ++names[b];
      } else {
        std::vector<PhysRun> unnamed;
        shared.release({start, count}, unnamed);
        std::set<uint64_t> expected, got;
        for (uint64_t b = start; b < start + count; ++b)
          if (--names[b] == 0) expected.insert(b);
        for (const PhysRun& run : unnamed)
          for (uint64_t b = run.start; b < run.start + run.count; ++b) CHECK(got.insert(b).second);
        CHECK(got == expected);
        for (uint64_t b : expected) names[b] = 1;  // used anew
      }
      bool any = false;
      for (uint64_t b = 0; b < kSize; ++b) {
        REQUIRE(shared.contains(b) == (names[b] > 1));
        any |= names[b] > 1;
      }
      CHECK(shared.empty() == !any);
    }
    shared.discountFirst();
    for (uint64_t b = 0; b < kSize; ++b) REQUIRE(shared.contains(b) == (names[b] > 2));
  }
}

// ---- What a clone is ----

TEST_CASE("clone: it reads as its source, holes and reserved space as holes, and takes no space") {
  StoreHost host(1);
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);  // direct
  CHECK(host.write(1, 200, 2000, 3, 2) == Errc::kOk);  // inline
  CHECK(host.allocate(1, 120, 10, 3) == Errc::kOk);
  CHECK(host.write(2, 110, 9000, 30, 1) == Errc::kOk);  // in the way
  const uint64_t before = usedBlocks(host);
  CHECK(host.clone(1, 0, 2, 0, 300, 7) == Errc::kOk);
  CHECK(usedBlocks(host) == before - 30);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t chunk : {1u, 2u}) {
      CHECK(host.tags(chunk, 0, 100) == range(1000, 100));
      CHECK(host.tags(chunk, 100, 100) == zeros(100));
      CHECK(host.tags(chunk, 200, 3) == range(2000, 3));
    }
    CHECK((*host.store->stat(ChunkId(2)))->version == ChunkVersion(7));
    CHECK((*host.store->stat(ChunkId(1)))->version == ChunkVersion(3));
    CHECK((*host.store->stat(ChunkId(2)))->blocks == 103);
    CHECK(usedBlocks(host) == before - 30);
    if (round == 0) host.crash(sim::Crash::kPower);
    if (round == 0) host.mustOpen();
    if (round == 1) checkClean(host);
  }
}

TEST_CASE("clone: to another place, twice, within a chunk, and of nothing") {
  StoreHost host(2);
  host.createAndOpen();
  CHECK(host.write(1, 10, 100, 200, 1) == Errc::kOk);
  CHECK(host.clone(1, 10, 2, 70, 200, 1) == Errc::kOk);
  CHECK(host.clone(1, 10, 2, 70, 200, 2) == Errc::kOk);  // the same again changes nothing
  CHECK(host.clone(1, 50, 1, 1000, 100, 2) == Errc::kOk);
  CHECK(host.clone(1, 210, 3, 0, 50, 3) == Errc::kOk);  // a hole
  CHECK((*host.store->stat(ChunkId(3)))->blocks == 0);
  CHECK(host.clone(9, 0, 1, 0, 50, 3) == Errc::kNotFound);
  CHECK(host.clone(1, 0, 1, 99, 100, 3) == Errc::kInvalid);
  CHECK(host.clone(1, 0, 2, 16383, 2, 3) == Errc::kInvalid);
  for (int round = 0; round < 2; ++round) {
    CHECK(host.tags(2, 70, 200) == range(100, 200));
    CHECK(host.tags(1, 1000, 100) == range(140, 100));
    CHECK(usedBlocks(host) == 200);
    host.reopen();
  }
  CHECK(host.remove({1}) == Errc::kOk);
  CHECK(usedBlocks(host) == 200);
  CHECK(host.zero(2, 70, 100, 4) == Errc::kOk);
  CHECK(usedBlocks(host) == 100);
  CHECK(host.remove({2}) == Errc::kOk);
  CHECK(usedBlocks(host) == 0);
  checkClean(host);
}

// ---- Changes on either side ----

TEST_CASE("clone: a change on one side is not seen on the other, small or large") {
  for (uint64_t changed : {1u, 2u, 3u})
    for (size_t count : {1u, 5u, 16u, 100u}) {
      CAPTURE(changed);
      CAPTURE(count);
      StoreHost host(3);
      host.createAndOpen();
      CHECK(host.write(1, 0, 1000, 128, 1) == Errc::kOk);
      CHECK(host.clone(1, 0, 2, 0, 128, 1) == Errc::kOk);
      CHECK(host.clone(2, 0, 3, 0, 128, 1) == Errc::kOk);
      CHECK(host.write(changed, 20, 5000, count, 2) == Errc::kOk);
      CHECK(usedBlocks(host) == 128 + count);
      // Again: its own blocks are overwritten now.
      CHECK(host.write(changed, 20, 7000, count, 3) == Errc::kOk);
      CHECK(usedBlocks(host) == 128 + count);
      for (int round = 0; round < 3; ++round) {
        for (uint64_t chunk : {1u, 2u, 3u}) {
          auto expected = range(1000, 128);
          if (chunk == changed)
            for (size_t i = 0; i < count; ++i) expected[20 + i] = 7000 + i;
          CHECK(host.tags(chunk, 0, 128) == expected);
        }
        if (round == 0) host.crash(sim::Crash::kPower);
        if (round == 0) host.mustOpen();
        if (round == 1) checkClean(host);
      }
      CHECK(host.remove({1, 2, 3}) == Errc::kOk);
      CHECK(usedBlocks(host) == 0);
    }
}

TEST_CASE("clone: blocks live as long as their last name, in whatever order the names go") {
  for (auto how : {sim::Crash::kProcess, sim::Crash::kPower})
    for (auto order : std::vector<std::vector<uint64_t>>{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}}) {
      StoreHost host(4);
      host.createAndOpen();
      CHECK(host.write(1, 0, 1000, 300, 1) == Errc::kOk);
      CHECK(host.write(1, 300, 1300, 4, 1) == Errc::kOk);
      CHECK(host.clone(1, 0, 2, 5, 304, 1) == Errc::kOk);
      CHECK(host.clone(1, 0, 3, 9, 304, 1) == Errc::kOk);
      const uint32_t at[] = {0, 0, 5, 9};
      for (size_t gone = 0; gone < 3; ++gone) {
        for (size_t i = gone; i < 3; ++i)
          CHECK(host.tags(order[i], at[order[i]], 304) == range(1000, 304));
        CHECK(usedBlocks(host) == 304);
        CHECK(host.remove({order[gone]}) == Errc::kOk);
        host.crash(how);
        host.mustOpen();
      }
      CHECK(usedBlocks(host) == 0);
    }
}

// ---- Data that is in the log only ----

TEST_CASE("clone: data that has not reached its place yet follows its last name") {
  // A small write stays in the log; its place is named by a clone, and the chunk that it was
  // written to is changed or removed before it goes to its place. Then the process ends, or power,
  // or neither but a clean close.
  enum class Then { kNothing, kOverwritten, kOverwrittenLarge, kZeroed, kRemoved };
  for (Then then :
       {Then::kNothing, Then::kOverwritten, Then::kOverwrittenLarge, Then::kZeroed, Then::kRemoved})
    for (int end = 0; end < 3; ++end)
      for (bool cloneChanges : {false, true}) {
        CAPTURE(static_cast<int>(then));
        CAPTURE(end);
        StoreHost host(5);
        host.createAndOpen();
        CHECK(host.write(1, 0, 1111, 8, 1) == Errc::kOk);
        CHECK(host.clone(1, 0, 2, 0, 8, 1) == Errc::kOk);
        const uint64_t changed = cloneChanges ? 2 : 1, other = cloneChanges ? 1 : 2;
        switch (then) {
          case Then::kNothing:
            break;
          case Then::kOverwritten:
            CHECK(host.write(changed, 0, 2222, 8, 2) == Errc::kOk);
            break;
          case Then::kOverwrittenLarge:
            CHECK(host.write(changed, 0, 2222, 64, 2) == Errc::kOk);
            break;
          case Then::kZeroed:
            CHECK(host.zero(changed, 0, 8, 2) == Errc::kOk);
            break;
          case Then::kRemoved:
            CHECK(host.remove({changed}) == Errc::kOk);
            break;
        }
        for (int round = 0; round < 2; ++round) {
          CHECK(host.tags(other, 0, 8) == range(1111, 8));
          const bool overwritten = then == Then::kOverwritten || then == Then::kOverwrittenLarge;
          CHECK(host.tags(changed, 0, 8) == (then == Then::kNothing ? range(1111, 8)
                                             : overwritten          ? range(2222, 8)
                                                                    : zeros(8)));
          if (end == 2)
            host.reopen();
          else
            host.crash(end == 0 ? sim::Crash::kProcess : sim::Crash::kPower);
          if (end != 2) host.mustOpen();
        }
        checkClean(host);
      }
}

TEST_CASE("clone: when its last name is gone, a place in the log is not written over another's") {
  StoreHost host(6);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.write(1, 0, 1111, 8, 1) == Errc::kOk);
  CHECK(host.clone(1, 0, 2, 100, 8, 1) == Errc::kOk);
  CHECK(host.remove({1}) == Errc::kOk);
  CHECK(host.write(3, 0, 5000, 1016, 1) == Errc::kOk);  // all that is free
  CHECK(host.remove({2}) == Errc::kOk);
  CHECK(host.write(4, 0, 8000, 8, 1) == Errc::kOk);  // those eight again, through the log
  CHECK(host.remove({4}) == Errc::kOk);
  CHECK(host.write(3, 1016, 6016, 8, 2) == Errc::kOk);
  for (auto how : {sim::Crash::kProcess, sim::Crash::kPower}) {
    host.crash(how);
    host.mustOpen();
    CHECK(host.tags(3, 0, 1016) == range(5000, 1016));
    CHECK(host.tags(3, 1016, 8) == range(6016, 8));
    CHECK(usedBlocks(host) == 1024);
  }
}

TEST_CASE("clone: a crash at any moment leaves every block as before or as after") {
  for (uint64_t at = 0; at < 4000; at += 25) {
    CAPTURE(at);
    StoreHost host(7);
    host.createAndOpen();
    CHECK(host.write(1, 0, 1000, 20, 1) == Errc::kOk);
    CHECK(host.write(1, 20, 1020, 4, 1) == Errc::kOk);
    CHECK(host.write(2, 0, 2000, 24, 1) == Errc::kOk);
    sim::SimNode& node = *host.node;
    host.world.after(at * 1us, [&host, &node] { host.world.crash(node, sim::Crash::kPower); });
    int done = 0;
    auto work = [](StoreHost& h, int& done) -> Task<void> {
      Store& store = *h.store;
      constexpr uint32_t kRange = 24 * kBlockSize;
      auto ok = [&done](const Result<void>& r) {
        if (r) ++done;
        return r.has_value();
      };
      if (!ok(co_await store.clone(ChunkId(1), 0, ChunkId(2), 0, kRange, stampOf(2)))) co_return;
      Buffer data = tagged(h.node->buffers(), 3000, 4);
      auto crcs = crcsOf(data);
      if (!ok(co_await store.write(ChunkId(1), 20 * kBlockSize, data, crcs, stampOf(2)))) co_return;
      if (!ok(co_await store.clone(ChunkId(2), 0, ChunkId(3), 0, kRange, stampOf(1)))) co_return;
      std::vector<ChunkId> second{ChunkId(2)};
      (void)ok(co_await store.remove(second, stampOf(3)));
    };
    node.spawn(work(host, done));
    host.world.run(5ms);
    host.stop();
    host.restart();
    host.mustOpen();
    auto one = host.tags(1, 0, 24), two = host.tags(2, 0, 24), three = host.tags(3, 0, 24);
    auto overwritten = range(1000, 24);
    for (size_t i = 0; i < 4; ++i) overwritten[20 + i] = 3000 + i;
    // What was acknowledged is there; the next operation may be.
    if (done == 0) CHECK((two == range(2000, 24) || two == range(1000, 24)));
    if (done == 1 || done == 2) CHECK(two == range(1000, 24));
    if (done == 3) CHECK((two == range(1000, 24) || two == zeros(24)));
    if (done == 4) CHECK(two == zeros(24));
    CHECK((one == overwritten || (done < 2 && one == range(1000, 24))));
    CHECK((three == range(1000, 24) || (done < 3 && three == zeros(24))));
    checkClean(host);
    CHECK(host.remove({1, 2, 3}) == Errc::kOk);
    CHECK(usedBlocks(host) == 0);
  }
}

// ---- Full stores ----

TEST_CASE("clone: on a full store sharing works, and what is shared is not overwritten in place") {
  StoreHost host(8);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 1024, 1) == Errc::kOk);
  CHECK(host.clone(1, 0, 2, 0, 512, 1) == Errc::kOk);
  for (size_t count : {1u, 16u, 300u}) {
    CHECK(host.write(1, 100, 5000, count, 2) == Errc::kNoSpace);
    CHECK(host.write(2, 100, 5000, count, 2) == Errc::kNoSpace);
  }
  CHECK(host.write(1, 500, 5000, 300, 2) == Errc::kNoSpace);  // a part of it is shared
  CHECK(host.tags(1, 0, 1024) == range(1000, 1024));
  CHECK(host.tags(2, 0, 512) == range(1000, 512));
  CHECK(host.write(1, 512, 5000, 300, 3) == Errc::kOk);  // its own
  // Without the other name, in place.
  CHECK(host.remove({2}) == Errc::kOk);
  CHECK(host.write(1, 0, 7000, 300, 4) == Errc::kOk);
  CHECK(host.write(1, 300, 7300, 3, 4) == Errc::kOk);
  for (int round = 0; round < 2; ++round) {
    CHECK(host.tags(1, 0, 303) == range(7000, 303));
    CHECK(host.tags(1, 512, 300) == range(5000, 300));
    CHECK(usedBlocks(host) == 1024);
    host.crash(sim::Crash::kPower);
    host.mustOpen();
  }
  checkClean(host);
}

TEST_CASE("clone: overwriting what is shared takes from the reserve, growth does not") {
  StoreHost host(9);
  host.options.sizeBytes = 21 * kMiB;  // 16 MiB of data, 1 MiB of it reserved
  host.createAndOpen();
  const uint64_t room = host.store->space().totalBytes / kBlock - 256;
  uint32_t at = 0;
  for (; at + 256 <= room; at += 256) CHECK(host.write(1, at, 1000 + at, 256, 1) == Errc::kOk);
  CHECK(host.clone(1, 0, 2, 0, 300, 1) == Errc::kOk);
  CHECK(host.write(3, 0, 1, 1, 1) == Errc::kNoSpace);
  CHECK(host.write(2, 0, 50'000, 4, 2) == Errc::kOk);
  CHECK(host.write(2, 4, 50'004, 252, 2) == Errc::kOk);
  CHECK(host.write(2, 256, 50'256, 1, 2) == Errc::kNoSpace);
  CHECK(host.tags(1, 0, 256) == range(1000, 256));
  CHECK(host.tags(2, 0, 256) == range(50'000, 256));
}

// ---- Damage ----

TEST_CASE("clone: a block with two names, of which one does not say that it is shared, is damage") {
  for (int flags = 0; flags < 4; ++flags) {
    CAPTURE(flags);
    StoreHost host(10);
    host.createAndOpen();
    CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);
    CHECK(host.write(2, 0, 2000, 100, 1) == Errc::kOk);
    host.stop();
    host.restart();
    {
      auto kv = host.node->kv().open(host.node->reactor(), std::string(kDirectory) + "/meta", {});
      REQUIRE(kv);
      Metadata metadata(std::move(*kv));
      std::vector<PhysRun> lost, gained;
      const std::string first = keys::group(ChunkId(1), 0), second = keys::group(ChunkId(2), 0);
      auto one = ExtentGroup::decode(first, **metadata.get(first), 1 << 20);
      auto two = ExtentGroup::decode(second, **metadata.get(second), 1 << 20);
      REQUIRE((one && two));
      const PhysBlock phys = one->runs()[0].phys;
      const uint32_t crc = one->crc(0);
      if ((flags & 1) != 0) CHECK(one->markShared(0, 1, phys));
      if ((flags & 2) != 0)
        two->share(0, 1, phys, &crc, lost, gained);
      else
        two->assign(0, 1, phys, &crc, lost);
      CHECK(metadata.putDurably(first, one->encode(first)));
      CHECK(metadata.putDurably(second, two->encode(second)));
    }
    host.restart();
    std::vector<std::string> lines;
    auto result = host.check(&lines);
    CHECK(result.badBlocks == 0);
    CHECK(result.otherErrors == (flags == 3 ? 0 : 1));
    host.restart();
    CHECK(host.open() == (flags == 3 ? Errc::kOk : Errc::kCorrupt));
    if (flags != 3) {
      CHECK(host.error.message.find("used already") != std::string::npos);
    } else {
      CHECK(usedBlocks(host) == 199);
      CHECK(host.tags(2, 0, 2) == std::vector<uint64_t>{1000, 2001});
    }
  }
}
