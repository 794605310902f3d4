// A store whose disk lies or fails: what is served, what is refused, what goes on.
#include <doctest/doctest.h>

#include "osd/store/layout.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

// Where the data of `smallStore()` starts in its file.
constexpr uint64_t kDataOffset = kHeadBytes;

// The offsets in the file of all blocks that hold `tag`'s bytes.
std::vector<uint64_t> placesOf(StoreHost& host, uint64_t tag) {
  std::vector<uint64_t> places;
  std::vector<uint8_t> block(kBlockSize), wanted(kBlockSize);
  fillBlock(tag, wanted);
  auto file = host.blockFile();
  for (uint64_t at = kDataOffset; at < file->size(); at += kBlockSize) {
    file->read(at, block);
    if (block == wanted) places.push_back(at);
  }
  return places;
}

}  // namespace

TEST_CASE("store: a flipped bit in stored data is never served, and the checker names the block") {
  StoreHost host(12);
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);
  CHECK(host.write(2, 0, 2000, 4, 1) == Errc::kOk);
  host.reopen();  // everything is in its place
  for (uint64_t tag : {1033u, 2002u}) {
    auto places = placesOf(host, tag);
    REQUIRE(places.size() == 1);
    host.blockFile()->flipBit(places[0] + 77, 5);
  }
  auto bad = host.read(1, 30, 10);
  REQUIRE(!bad);
  CHECK(bad.error().code == Errc::kCorrupt);
  CHECK(bad.error().message.find("block 33 of chunk 1") != std::string::npos);
  CHECK(host.read(2, 0, 4).error().code == Errc::kCorrupt);
  CHECK(host.tags(1, 34, 66) == range(1034, 66));  // the rest is served
  CHECK(host.write(3, 0, 1, 1, 1) == Errc::kOk);   // and the store goes on
  CHECK(host.write(1, 33, 7, 1, 2) == Errc::kOk);  // a new write heals
  CHECK(host.tags(1, 33, 1)[0] == 7);
  host.stop();
  std::vector<std::string> lines;
  auto result = host.check(&lines);
  CHECK(result.badBlocks == 1);
  CHECK(result.otherErrors == 0);
  CHECK(result.chunks == 3);
  CHECK(result.blocks == 105);
  bool named = false;
  for (const auto& line : lines) named |= line.find("chunk 2 block 2") != std::string::npos;
  CHECK(named);
}

TEST_CASE("store: lost and misdirected writes are seen") {
  for (int kind = 0; kind < 2; ++kind) {
    CAPTURE(kind);
    StoreHost host(13);
    host.createAndOpen();
    CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);
    auto& faults = host.world.machine(kHost).disk.faults;
    (kind == 0 ? faults.lostWrite : faults.misdirected) = 1;
    Buffer data = tagged(host.node->buffers(), 3000, 100);
    auto crcs = crcsOf(data);
    auto task = host.store->write(ChunkId(1), 0, data, crcs, stampOf(2));
    bool done = false;
    // Only the data write: the log's own is honest again.
    host.world.after(30us, [&] { (void)done; });
    auto runner = [](Task<Result<void>> t, bool& d) -> Task<void> {
      (void)co_await std::move(t);
      d = true;
    };
    host.node->spawn(runner(std::move(task), done));
    auto before = host.blockFile()->version();
    host.world.runUntil(
        [&] { return host.blockFile()->version() != before || host.world.elapsed() > 1s; }, 400us);
    faults.lostWrite = faults.misdirected = 0;
    REQUIRE(host.world.runUntil([&] { return done; }, 1s));
    auto data2 = host.read(1, 0, 100);
    REQUIRE(!data2);
    CHECK(data2.error().code == Errc::kCorrupt);
  }
}

TEST_CASE("store: one damaged superblock is reported by the checker and does not stop the store") {
  StoreHost host(14);
  host.createAndOpen();
  CHECK(host.write(1, 0, 5, 3, 1) == Errc::kOk);
  host.stop();
  host.blockFile()->flipBit(40, 1);
  host.restart();
  auto result = host.check();
  CHECK(result.otherErrors == 1);
  host.restart();
  host.mustOpen();
  CHECK(host.tags(1, 0, 3) == range(5, 3));
  host.stop();
  host.blockFile()->flipBit(4096 + 40, 1);
  host.restart();
  CHECK(host.open() == Errc::kCorrupt);
}

TEST_CASE("store: any damaged byte of the metadata is refused, not used") {
  // Whatever bit flips in the database's files: the store either does not open, or a read says
  // kCorrupt, or the answer is right (the byte did not count).
  for (uint64_t seed = 200; seed < 260; ++seed) {
    CAPTURE(seed);
    StoreHost host(seed);
    host.createAndOpen();
    for (uint64_t c = 1; c <= 20; ++c) CHECK(host.write(c, 0, c * 1000, 100, c) == Errc::kOk);
    host.stop();
    SeededRandom random(seed);
    auto& volume = host.world.machine(kHost).kv;
    auto names = volume.list();
    std::erase_if(names, [&](const std::string& n) { return volume.find(n)->bytes.empty(); });
    REQUIRE(!names.empty());
    auto& bytes = volume.find(names[random.below(names.size())])->bytes;
    bytes[random.below(bytes.size())] ^= static_cast<char>(1 << random.below(8));
    host.restart();
    if (Errc code = host.open(); code != Errc::kOk) {
      CHECK_MESSAGE((code == Errc::kCorrupt || code == Errc::kIo || code == Errc::kWrongCluster ||
                     code == Errc::kInvalid || code == Errc::kNotFound),
                    host.error.text());
      continue;
    }
    for (uint64_t c = 1; c <= 20; ++c) {
      auto data = host.read(c, 0, 100);
      if (!data) {
        CHECK(data.error().code == Errc::kCorrupt);
        continue;
      }
      REQUIRE(!data->hole);
      for (uint32_t i = 0; i < 100; ++i)
        CHECK(tagOf(data->data.bytes().subspan(i * kBlockSize, kBlockSize)) == c * 1000 + i);
    }
    auto history = host.store->changes(kGroup, {}, 100);
    if (!history) {
      CHECK(history.error().code == Errc::kCorrupt);
      continue;
    }
    CHECK(history->size() == 20);
    for (const Changed& change : *history)
      CHECK((change.version.value == change.chunk.value && !change.removed));
    CHECK(host.store->groupState(kGroup)->last == ChunkVersion(20));
  }
}

TEST_CASE(
    "store: a sector that cannot be read is damage of its block alone, and a new write heals it") {
  StoreHost host(19);
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);
  host.reopen();  // everything is in its place
  const auto places = placesOf(host, 1033);
  REQUIRE(places.size() == 1);
  auto& faults = host.world.machine(kHost).disk.faults;
  faults.bad.push_back({std::string(kDirectory) + "/block", places[0] + 512, 512, true, false});
  CHECK(host.read(1, 30, 10).error().code == Errc::kCorrupt);
  CHECK(host.read(1, 33, 1).error().code == Errc::kCorrupt);
  CHECK(host.tags(1, 34, 66) == range(1034, 66));  // the rest is served
  CHECK(host.write(1, 33, 7, 1, 2) == Errc::kOk);
  faults.bad.clear();  // as the disk does for a sector that is written
  CHECK(host.tags(1, 33, 1)[0] == 7);
}

// ---- Failing parts ----

TEST_CASE("store: when the log fails the store takes no more changes but goes on reading") {
  StoreHost host(15);
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 100, 1) == Errc::kOk);
  CHECK(host.write(1, 100, 1100, 2, 2) == Errc::kOk);
  auto& faults = host.world.machine(kHost).disk.faults;
  faults.bad.push_back({std::string(kDirectory) + "/log", 0, 4 * kMiB, false, true});
  CHECK(host.write(1, 0, 5000, 1, 3) == Errc::kIo);
  faults.bad.clear();
  CHECK(host.write(2, 0, 5000, 100, 1) == Errc::kIo);
  CHECK(host.zero(1, 0, 1, 4) == Errc::kIo);
  CHECK(host.remove({1}) == Errc::kIo);
  CHECK(host.tags(1, 0, 102) == range(1000, 102));
  host.reopen();
  CHECK(host.tags(1, 1, 101) == range(1001, 101));
}

TEST_CASE("store: a failing sync stops the store") {
  StoreHost host(16);
  host.createAndOpen();
  host.world.machine(kHost).disk.faults.syncError = 1;
  CHECK(host.write(1, 0, 1, 100, 1) == Errc::kIo);
  host.world.machine(kHost).disk.faults.syncError = 0;
  CHECK(host.write(1, 0, 1, 100, 1) == Errc::kIo);
  host.reopen();
  CHECK(host.read(1, 0, 100)->hole);
}

TEST_CASE("store: an unwritable data block fails its write alone") {
  StoreHost host(17);
  host.createAndOpen();
  auto& faults = host.world.machine(kHost).disk.faults;
  faults.bad.push_back(
      {std::string(kDirectory) + "/block", kDataOffset, 1024 * kBlockSize, false, true});
  CHECK(host.write(1, 0, 1, 100, 1) == Errc::kIo);
  CHECK(host.read(1, 0, 100)->hole);
  CHECK(host.store->space().usedBytes == 0);
  faults.bad.clear();
  CHECK(host.write(1, 0, 1, 100, 1) == Errc::kOk);
}

TEST_CASE("store: a full file system under the metadata stops the store with the way out") {
  StoreHost host(18);
  host.createAndOpen();
  host.world.machine(kHost).kv.faults.capacityBytes = 0;
  Errc code = Errc::kOk;
  for (uint64_t c = 1; c < 3000 && code == Errc::kOk; ++c) code = host.write(c, 0, c, 1, 1);
  CHECK(code == Errc::kIo);
  CHECK(host.error.message.find("free space") != std::string::npos);
  host.world.machine(kHost).kv.faults.capacityBytes.reset();
  host.stop();
  host.restart();
  host.mustOpen();
  CHECK(host.tags(1, 0, 1)[0] == 1);
}

// ---- Making and opening ----
