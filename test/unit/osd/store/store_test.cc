// What osd/store.h promises, case by case, on a simulated disk.
#include <doctest/doctest.h>

#include "osd/store/layout.h"
#include "osd/store/superblock.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

TEST_CASE("store: small and large writes read back, also after a restart") {
  StoreHost host(1);
  host.createAndOpen();
  CHECK(host.write(7, 3, 100, 1, 1) == Errc::kOk);
  CHECK(host.write(7, 10, 200, 300, 2) == Errc::kOk);
  CHECK(host.write(7, 12, 900, 2, 3) == Errc::kOk);
  for (int round = 0; round < 2; ++round) {
    auto tags = host.tags(7, 0, 320);
    for (uint32_t b = 0; b < 320; ++b) {
      uint64_t expected = b == 3               ? 100
                          : b == 12 || b == 13 ? 900 + b - 12
                          : b >= 10 && b < 310 ? 200 + b - 10
                                               : 0;
      CHECK(tags[b] == expected);
    }
    auto info = host.store->stat(ChunkId(7));
    REQUIRE((info && *info));
    CHECK((*info)->version == ChunkVersion(3));
    CHECK((*info)->blocks == 301);
    CHECK(host.store->space().usedBytes == 301 * kBlockSize);
    host.reopen();
  }
}

TEST_CASE("store: what is not there is hole, and reserved space reads as zeros") {
  StoreHost host(2);
  host.createAndOpen();
  CHECK(host.read(1, 0, 4)->hole);
  CHECK(host.read(1, 0, 4)->version == ChunkVersion(0));
  CHECK(!*host.store->stat(ChunkId(1)));
  CHECK(host.zero(1, 0, 4, 5) == Errc::kOk);
  CHECK(!*host.store->stat(ChunkId(1)));  // zeros of nothing make nothing
  CHECK(host.allocate(1, 2, 100, 6) == Errc::kOk);
  CHECK(host.read(1, 0, 200)->hole);
  CHECK((*host.store->stat(ChunkId(1)))->blocks == 100);
  CHECK(host.store->extents(ChunkId(1), 0, 10)->empty());
  CHECK(host.write(1, 50, 10, 20, 7) == Errc::kOk);
  CHECK((*host.store->stat(ChunkId(1)))->blocks == 100);  // it had the space
  auto extents = host.store->extents(ChunkId(1), 0, 10);
  REQUIRE(extents->size() == 1);
  CHECK(extents->front() == std::pair<uint32_t, uint32_t>(50 * 4096, 20 * 4096));
  CHECK(host.tags(1, 49, 22)[1] == 10);
  CHECK(host.tags(1, 49, 22)[0] == 0);
  CHECK(host.zero(1, 0, 16384, 8) == Errc::kOk);
  CHECK(host.store->space().usedBytes == 0);
  CHECK((*host.store->stat(ChunkId(1)))->version == ChunkVersion(8));
}

TEST_CASE("store: the recorded version is the greatest that was given") {
  StoreHost host(3);
  host.createAndOpen();
  CHECK(host.write(1, 0, 1, 1, 9) == Errc::kOk);
  CHECK(host.write(1, 1, 2, 1, 4) == Errc::kOk);
  CHECK(host.read(1, 0, 2)->version == ChunkVersion(9));
}

TEST_CASE("store: ranges that are not whole blocks of a chunk are refused") {
  StoreHost host(4);
  host.createAndOpen();
  auto& store = *host.store;
  Buffer data = tagged(host.node->buffers(), 1, 1);
  auto crcs = crcsOf(data);
  auto badOffset = host.world.await(*host.node, store.write(ChunkId(1), 100, data, crcs, {}));
  CHECK(badOffset->error().code == Errc::kInvalid);
  auto badCrcs = host.world.await(*host.node, store.write(ChunkId(1), 0, data, {}, {}));
  CHECK(badCrcs->error().code == Errc::kInvalid);
  CHECK(host.zero(1, 16383, 2, 1) == Errc::kInvalid);
  CHECK(host.allocate(1, 0, 0, 1) == Errc::kInvalid);
  CHECK(host.read(1, 16384, 1).error().code == Errc::kInvalid);
  CHECK(host.store->extents(ChunkId(1), 64 * kMiB, 5)->empty());
}

TEST_CASE("store: removed chunks give their space back, twice removed is once") {
  StoreHost host(5);
  host.createAndOpen();
  for (uint64_t c = 1; c <= 30; ++c) CHECK(host.write(c, 0, c * 1000, 20, 1) == Errc::kOk);
  CHECK(host.store->space().chunks == 30);
  std::vector<uint64_t> odd;
  for (uint64_t c = 1; c <= 30; c += 2) odd.push_back(c);
  odd.push_back(1);
  odd.push_back(555);
  CHECK(host.remove(odd) == Errc::kOk);
  CHECK(host.remove(odd) == Errc::kOk);
  for (int round = 0; round < 2; ++round) {
    CHECK(host.store->space().chunks == 15);
    CHECK(host.store->space().usedBytes == 15 * 20 * kBlockSize);
    CHECK(host.read(1, 0, 20)->hole);
    CHECK(host.tags(2, 0, 20) == range(2000, 20));
    host.crash(sim::Crash::kPower);
    host.mustOpen();
  }
}

TEST_CASE("store: list goes through all chunks in order, in pieces") {
  StoreHost host(6);
  host.createAndOpen();
  for (uint64_t c : {5u, 900u, 17u, 3u, 70000u})
    CHECK(host.write(c, 0, 1, c == 17 ? 1000 : 1, c) == Errc::kOk);
  for (int round = 0; round < 2; ++round) {
    std::vector<uint64_t> ids;
    ChunkId after(0);
    for (;;) {
      auto some = host.store->list(after, 2);
      REQUIRE(some);
      for (const auto& c : *some) {
        ids.push_back(c.id.value);
        CHECK(c.info.version.value == c.id.value);
        CHECK(c.info.blocks == (c.id.value == 17 ? 1000 : 1));
      }
      if (some->size() < 2) break;
      after = some->back().id;
    }
    CHECK(ids == std::vector<uint64_t>{3, 5, 17, 900, 70000});
    host.reopen();
  }
  CHECK(host.store->list(ChunkId(UINT64_MAX), 5)->empty());
}

TEST_CASE("store: extents stop at the limit and start where asked") {
  StoreHost host(7);
  host.createAndOpen();
  for (uint32_t b = 0; b < 40; b += 4) CHECK(host.write(1, b, 1 + b, 2, b + 1) == Errc::kOk);
  CHECK(host.store->extents(ChunkId(1), 0, 3)->size() == 3);
  auto some = host.store->extents(ChunkId(1), 5 * 4096 + 100, 2);
  REQUIRE(some->size() == 2);
  CHECK(some->front() == std::pair<uint32_t, uint32_t>(5 * 4096 + 100, 4096 - 100));
  CHECK((*some)[1] == std::pair<uint32_t, uint32_t>(8 * 4096, 8192));
}

// ---- Space ----

TEST_CASE("store: a full store refuses growth before it changes anything, and takes the rest") {
  StoreHost host(8);
  host.options.sizeBytes = 21 * kMiB;  // 16 MiB of data
  host.createAndOpen();
  const uint64_t total = host.store->space().totalBytes;
  CHECK(total == 16 * kMiB);
  uint64_t chunk = 1;
  uint64_t version = 1;
  CHECK_FALSE(host.store->space().nearlyFull);
  uint64_t left = total;
  while (host.write(chunk, 0, chunk * 1000, 200, version++) == Errc::kOk) {
    ++chunk;
    if (!host.store->space().nearlyFull) left = total - host.store->space().usedBytes;
  }
  CHECK(host.error.code == Errc::kNoSpace);
  // It says so when a quarter of it is left beside the reserve.
  CHECK(left < kMiB + total / 4 + 201 * kBlockSize);
  CHECK(left >= kMiB + total / 4);
  while (host.write(chunk, 0, chunk * 1000, 1, version++) == Errc::kOk) ++chunk;
  const uint64_t used = host.store->space().usedBytes;
  CHECK(used <= total - kMiB);  // the reserve
  CHECK(used > total - kMiB - kBlockSize);
  CHECK(!*host.store->stat(ChunkId(chunk)));  // nothing was made
  CHECK(host.allocate(chunk, 0, 1, version++) == Errc::kNoSpace);
  // Overwrites of every size go on, and give the new data.
  for (int i = 0; i < 20; ++i) {
    CHECK(host.write(1, 0, 500'000 + i, 200, version++) == Errc::kOk);
    CHECK(host.write(2, 3, 600'000 + i, 2, version++) == Errc::kOk);
  }
  CHECK(host.tags(1, 0, 200) == range(500'019, 200));
  CHECK(host.store->space().usedBytes == used);
  // zero() and remove() too, and what they free can be used.
  CHECK(host.zero(1, 0, 100, version++) == Errc::kOk);
  CHECK(host.remove({2}) == Errc::kOk);
  CHECK(host.store->space().usedBytes == used - 300 * kBlockSize);
  CHECK(host.write(3, 200, 7000, 200, version++) == Errc::kOk);
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  CHECK(host.tags(3, 200, 200) == range(7000, 200));
  CHECK(host.tags(1, 100, 100) == range(500'119, 100));
}

TEST_CASE("store: overwriting works when not one block is free") {
  StoreHost host(9);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 1024, 1) == Errc::kOk);
  CHECK(host.store->space().usedBytes == host.store->space().totalBytes);
  CHECK(host.write(2, 0, 1, 1, 2) == Errc::kNoSpace);
  // Larger than one record: the log carries it in pieces.
  CHECK(host.write(1, 10, 50'000, 1000, 3) == Errc::kOk);
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  CHECK(host.tags(1, 10, 1000) == range(50'000, 1000));
  CHECK(host.tags(1, 0, 10) == range(1000, 10));
  host.stop();
  CHECK(host.check().clean());
}

TEST_CASE("store: what must not be written in parts is not, on a full store") {
  StoreHost host(9);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.write(1, 0, 1000, 1024, 1) == Errc::kOk);
  CHECK(host.write(1, 0, 5000, 129, 2, Store::InParts::kNever) == Errc::kNoSpace);
  CHECK(host.tags(1, 0, 1024) == range(1000, 1024));
  CHECK(host.write(1, 0, 5000, 128, 3, Store::InParts::kNever) == Errc::kOk);
  CHECK(host.write(1, 128, 6000, 129, 4) == Errc::kOk);
  CHECK(host.tags(1, 0, 128) == range(5000, 128));
  CHECK(host.tags(1, 128, 129) == range(6000, 129));
}

TEST_CASE("store: reserved space takes writes on a full store") {
  StoreHost host(10);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.allocate(1, 0, 1024, 1) == Errc::kOk);
  CHECK(host.write(2, 0, 1, 1, 1) == Errc::kNoSpace);
  CHECK(host.write(1, 0, 1000, 500, 2) == Errc::kOk);
  CHECK(host.write(1, 700, 7000, 3, 3) == Errc::kOk);
  CHECK(host.tags(1, 0, 500) == range(1000, 500));
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  CHECK(host.tags(1, 0, 500) == range(1000, 500));
  CHECK(host.tags(1, 700, 3) == range(7000, 3));
  CHECK(host.tags(1, 600, 1)[0] == 0);
}

// ---- Crashes ----

TEST_CASE("store: a block freed and reused by a large write is not overwritten by the old record") {
  // The small write is in the log only; its block is freed, and given to another chunk, whose data
  // goes there directly. Replaying the log must not bring the small write's bytes back.
  StoreHost host(11);
  host.options.sizeBytes = 9 * kMiB;
  host.options.reserveBytes = 0;
  host.createAndOpen();
  CHECK(host.write(1, 0, 1111, 8, 1) == Errc::kOk);
  CHECK(host.remove({1}) == Errc::kOk);
  // All blocks of the store: so it takes those eight.
  CHECK(host.write(2, 0, 5000, 1024, 1) == Errc::kOk);
  for (auto how : {sim::Crash::kProcess, sim::Crash::kPower}) {
    host.crash(how);
    host.mustOpen();
    CHECK(host.tags(2, 0, 1024) == range(5000, 1024));
    CHECK(host.read(1, 0, 8)->hole);
  }
}

TEST_CASE("store: the same when the metadata knows already that the block was freed") {
  // So much metadata that a part of it is in LevelDB when the process dies: replaying the removal
  // changes nothing then, and does not show which blocks it freed.
  for (auto how : {sim::Crash::kProcess, sim::Crash::kPower}) {
    StoreHost host(12);
    host.options.sizeBytes = 5 * kMiB + 132 * kMiB;
    host.options.reserveBytes = 0;
    host.createAndOpen();
    CHECK(host.write(1, 0, 1111, 8, 1) == Errc::kOk);
    CHECK(host.remove({1}) == Errc::kOk);
    // Round the whole store, to the block where it began.
    for (uint64_t c = 2; c < 35; ++c) CHECK(host.write(c, 0, c * 10'000, 1024, 1) == Errc::kOk);
    CHECK(host.store->space().usedBytes == host.store->space().totalBytes);
    host.crash(how);
    host.mustOpen();
    for (uint64_t c = 2; c < 35; ++c) CHECK(host.tags(c, 0, 1024) == range(c * 10'000, 1024));
  }
}

TEST_CASE("store: a crash during recovery is recovered from") {
  for (uint64_t seed = 50; seed < 90; ++seed) {
    CAPTURE(seed);
    StoreHost host(seed);
    host.createAndOpen();
    for (uint64_t c = 1; c <= 40; ++c) CHECK(host.write(c, 0, c * 100, 10, 1) == Errc::kOk);
    host.crash(sim::Crash::kPower);
    SeededRandom random(seed);
    for (int i = 0; i < 5; ++i) {
      sim::SimNode& node = *host.node;
      host.world.after(Duration(random.below(3'000'000)),
                       [&host, &node] { host.world.crash(node, sim::Crash::kPower); });
      (void)host.open();
      host.world.run(5ms);
      host.stop();
      host.restart();
    }
    host.mustOpen();
    for (uint64_t c = 1; c <= 40; ++c) CHECK(host.tags(c, 0, 10) == range(c * 100, 10));
  }
}

// ---- Damage ----

TEST_CASE("store: create refuses what is there, and takes back what it made when it fails") {
  StoreHost host(30);
  CHECK(host.open() == Errc::kNotFound);
  auto& machine = host.world.machine(kHost);

  host.options.sizeBytes = 2 * kMiB;
  CHECK(host.create() == Errc::kInvalid);
  host.options = smallStore();
  machine.disk.faults.capacityBytes = 65 * kMiB;  // no room for the ballast
  CHECK(host.create() == Errc::kNoSpace);
  CHECK(machine.disk.list().empty());
  machine.disk.faults.capacityBytes.reset();
  machine.disk.faults.bad.push_back({std::string(kDirectory) + "/block", 0, 4096, false, true});
  CHECK(host.create() == Errc::kIo);
  CHECK(machine.disk.list().empty());
  machine.disk.faults.bad.clear();
  machine.kv.faults.appendError = 1;
  CHECK(host.create() != Errc::kOk);
  machine.kv.faults.appendError = 0;
  CHECK(machine.disk.list().empty());

  REQUIRE(host.create() == Errc::kOk);
  CHECK(host.create() == Errc::kExists);
  host.mustOpen();
  CHECK(host.store->cluster() == kStoreCluster);
  CHECK(host.store->space().chunks == 0);
}

TEST_CASE("store: one process at a time") {
  StoreHost host(31);
  host.createAndOpen();
  sim::SimNode& second = host.world.addNode(kHost);
  Env env = second.env();
  auto opened = host.world.await(second, Store::open(env, host.options));
  REQUIRE((opened && !*opened));
  CHECK(opened->error().code == Errc::kBusy);
  auto checked = host.world.await(second, checkStore(env, host.options, [](const std::string&) {}));
  REQUIRE((checked && !*checked));
  CHECK(checked->error().code == Errc::kBusy);
}

TEST_CASE("store: the id that the MDS gave survives power loss") {
  StoreHost host(32);
  host.createAndOpen();
  CHECK(host.store->osdId() == OsdId(0));
  const Uuid uuid = host.store->uuid();
  CHECK(uuid);
  auto done = host.world.await(*host.node, host.store->recordOsdId(OsdId(42)));
  CHECK((done && *done));
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  CHECK(host.store->osdId() == OsdId(42));
  CHECK(host.store->uuid() == uuid);
}

TEST_CASE("store: metadata of another store is refused") {
  StoreHost host(33);
  host.createAndOpen();
  host.stop();
  // Another store's data file takes the place of this one's.
  StoreOptions other = smallStore();
  other.directory = "/other";
  Env env = host.node->env();
  auto made = host.world.await(*host.node, Store::create(env, other, kStoreCluster));
  REQUIRE((made && *made));
  auto from = host.world.machine(kHost).disk.find("/other/block");
  auto to = host.blockFile();
  std::vector<uint8_t> bytes(kMiB);
  from->read(0, bytes);
  to->write(0, bytes, true);
  host.restart();
  CHECK(host.open() == Errc::kWrongCluster);
}

TEST_CASE("store: a newer or older format is refused with what to do") {
  StoreHost host(34);
  host.createAndOpen();
  host.stop();
  for (uint64_t field : {8u, 24u}) {  // version; incompatible features
    std::vector<uint8_t> original(kBlockSize), block;
    host.blockFile()->read(0, original);
    block = original;
    block[field] = 9;
    uint32_t crc = crc32c(Bytes(block).first(kBlockSize - 4));
    std::memcpy(block.data() + kBlockSize - 4, &crc, 4);
    host.blockFile()->write(0, block, true);
    host.restart();
    CHECK(host.open() == Errc::kVersion);
    CHECK(host.error.message.find("newer") != std::string::npos);
    host.blockFile()->write(0, original, true);
  }
  std::vector<uint8_t> original(kBlockSize), block;
  host.blockFile()->read(0, original);
  block = original;
  block[8] = 1;
  const uint32_t oldCrc = crc32c(Bytes(block).first(kBlockSize - 4));
  std::memcpy(block.data() + kBlockSize - 4, &oldCrc, 4);
  host.blockFile()->write(0, block, true);
  host.restart();
  CHECK(host.open() == Errc::kVersion);
  CHECK(host.error.message.find("create a new one") != std::string::npos);
  host.blockFile()->write(0, original, true);
  // Compatible features are no obstacle.
  for (uint64_t copy : {0u, 1u}) {
    std::vector<uint8_t> block(kBlockSize);
    host.blockFile()->read(copy * kBlockSize, block);
    block[16] = 9;
    uint32_t crc = crc32c(Bytes(block).first(kBlockSize - 4));
    std::memcpy(block.data() + kBlockSize - 4, &crc, 4);
    host.blockFile()->write(copy * kBlockSize, block, true);
  }
  host.restart();
  host.mustOpen();
}

TEST_CASE("store: a raw device is recorded, found again, and not taken twice") {
  StoreHost host(35);
  host.options.device = "/dev/disk";
  REQUIRE(host.world.machine(kHost).disk.create("/dev/disk", 64 * kMiB));
  host.createAndOpen();
  CHECK(host.write(1, 0, 10, 100, 1) == Errc::kOk);
  host.stop();
  host.restart();
  host.options.device.reset();
  host.mustOpen();
  CHECK(host.tags(1, 0, 100) == range(10, 100));
  host.stop();
  host.options.device = "/dev/disk";
  host.options.directory = "/second";
  CHECK(host.create() == Errc::kExists);
}

TEST_CASE("store: a log that was put back to an older state, or is gone, is refused") {
  StoreHost host(36);
  host.createAndOpen();
  CHECK(host.write(1, 0, 10, 100, 1) == Errc::kOk);
  host.reopen();
  host.stop();
  auto& disk = host.world.machine(kHost).disk;
  const std::string path = std::string(kDirectory) + "/log";
  std::vector<uint8_t> log(4 * kMiB);
  disk.find(path)->read(0, log);
  host.restart();
  host.mustOpen();
  CHECK(host.write(1, 0, 20, 100, 2) == Errc::kOk);
  host.stop();
  disk.find(path)->write(0, log, true);
  host.restart();
  CHECK(host.open() == Errc::kCorrupt);
  REQUIRE(disk.remove(path));
  CHECK(host.open() == Errc::kCorrupt);
}
