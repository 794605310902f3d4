#include "common/sim/sim_disk.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

constexpr uint64_t kFileBytes = 1 << 20;

std::unique_ptr<File> openFile(SimWorld& world, SimNode& node, OpenOptions options = {}) {
  auto file = world.await(node, node.disk().open("/disk", options));
  REQUIRE(file.has_value());
  REQUIRE_MESSAGE(file->has_value(), file->error().text());
  return std::move(**file);
}

// A buffer of `blocks` blocks, every byte of them `fill`.
Buffer filled(SimNode& node, uint8_t fill, size_t blocks = 1) {
  Buffer b = node.buffers().get(blocks * kBlockSize);
  std::memset(b.data(), fill, b.size());
  return b;
}

std::vector<Buffer> parts(Buffer b) {
  std::vector<Buffer> v;
  v.push_back(std::move(b));
  return v;
}

Errc codeOf(const std::optional<Result<void>>& r) {
  REQUIRE(r.has_value());
  return r->has_value() ? Errc::kOk : r->error().code;
}

Errc write(SimWorld& world, SimNode& node, File& file, uint64_t offset, uint8_t fill,
           size_t blocks = 1, bool durable = false) {
  return codeOf(world.await(node, file.write(parts(filled(node, fill, blocks)), offset, durable)));
}

Errc sync(SimWorld& world, SimNode& node, File& file) {
  return codeOf(world.await(node, file.sync()));
}

// The block at `offset`, as stored now.
std::vector<uint8_t> stored(SimWorld& world, uint64_t offset) {
  std::vector<uint8_t> block(kBlockSize);
  world.machine("host").disk.find("/disk")->read(offset, block);
  return block;
}

// The values that the sectors of the block hold.
std::set<int> sectors(SimWorld& world, uint64_t offset) {
  const auto block = stored(world, offset);
  std::set<int> values;
  for (size_t s = 0; s < kBlockSize; s += 512) {
    CHECK(std::all_of(block.begin() + static_cast<ptrdiff_t>(s),
                      block.begin() + static_cast<ptrdiff_t>(s + 512),
                      [&](uint8_t b) { return b == block[s]; }));
    values.insert(block[s]);
  }
  return values;
}

}  // namespace

TEST_CASE("sim: a completed write is readable, also in parts and by a later process") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  CHECK(file->size() == kFileBytes);
  std::vector<Buffer> two;
  two.push_back(filled(node, 1, 2));
  two.push_back(filled(node, 2, 1));
  CHECK(codeOf(world.await(node, file->write(std::move(two), 4 * kBlockSize, false))) == Errc::kOk);
  Buffer in = node.buffers().get(4 * kBlockSize);
  CHECK(codeOf(world.await(node, file->read(in, 3 * kBlockSize))) == Errc::kOk);
  CHECK(in.data()[0] == 0);
  CHECK(in.data()[kBlockSize] == 1);
  CHECK(in.data()[2 * kBlockSize] == 1);
  CHECK(in.data()[3 * kBlockSize] == 2);
  world.kill(node);
  SimNode& again = world.addNode("host");
  auto reopened = openFile(world, again);
  CHECK(codeOf(world.await(again, reopened->read(in, 6 * kBlockSize - 3 * kBlockSize))) ==
        Errc::kOk);
  CHECK(in.data()[kBlockSize] == 1);
}

TEST_CASE("sim: reads and writes past the end, or not aligned, are invalid") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  Buffer in = node.buffers().get(2 * kBlockSize);
  CHECK(codeOf(world.await(node, file->read(in, kFileBytes - kBlockSize))) == Errc::kInvalid);
  CHECK(codeOf(world.await(node, file->read(in, 512))) == Errc::kInvalid);
  CHECK(write(world, node, *file, kFileBytes, 1) == Errc::kInvalid);
  auto readOnly = openFile(world, node, {.writable = false, .exclusive = false});
  CHECK(write(world, node, *readOnly, 0, 1) == Errc::kReadOnly);
}

TEST_CASE("sim: opening: missing, existing, in use, no room") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  SimNode& other = world.addNode("host", {.name = "other"});
  auto codeOfOpen = [&](SimNode& n, const char* path, OpenOptions o) {
    auto r = world.await(n, n.disk().open(path, o));
    REQUIRE(r.has_value());
    return r->has_value() ? Errc::kOk : r->error().code;
  };
  CHECK(codeOfOpen(node, "/disk", {}) == Errc::kNotFound);
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  CHECK(codeOfOpen(node, "/disk", {.createBytes = kFileBytes}) == Errc::kExists);
  CHECK(codeOfOpen(other, "/disk", {}) == Errc::kBusy);
  CHECK(codeOfOpen(other, "/disk", {.exclusive = false}) == Errc::kOk);
  world.kill(node);  // its locks go with it
  CHECK(codeOfOpen(other, "/disk", {}) == Errc::kOk);
  world.machine("host").disk.faults.capacityBytes = 2 * kFileBytes;
  CHECK(codeOfOpen(other, "/big", {.createBytes = 2 * kFileBytes}) == Errc::kNoSpace);
  CHECK(codeOfOpen(other, "/fits", {.createBytes = kFileBytes}) == Errc::kOk);
}

TEST_CASE("sim: directories are made once and removed empty; files are removed when unused") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  CHECK(**world.await(node, node.disk().makeDirectory("/data/osd")));
  CHECK_FALSE(**world.await(node, node.disk().makeDirectory("/data")));
  CHECK(codeOf(world.await(node, node.disk().remove("/data"))) == Errc::kNotEmpty);
  CHECK(codeOf(world.await(node, node.disk().remove("/data/osd"))) == Errc::kOk);
  CHECK(codeOf(world.await(node, node.disk().remove("/data/osd"))) == Errc::kNotFound);
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  CHECK(codeOf(world.await(node, node.disk().remove("/disk"))) == Errc::kBusy);
  file.reset();
  CHECK(codeOf(world.await(node, node.disk().remove("/disk"))) == Errc::kOk);
}

TEST_CASE("sim: power loss keeps what was synced or written durably, whatever came before it") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    SimNode& node = world.addNode("host");
    auto file = openFile(world, node, {.createBytes = kFileBytes});
    CHECK(write(world, node, *file, 0, 1) == Errc::kOk);
    CHECK(write(world, node, *file, 0, 2) == Errc::kOk);
    CHECK(sync(world, node, *file) == Errc::kOk);
    CHECK(write(world, node, *file, kBlockSize, 3) == Errc::kOk);
    CHECK(write(world, node, *file, kBlockSize, 4, 1, true) == Errc::kOk);
    world.powerOff("host");
    CHECK(sectors(world, 0) == std::set{2});
    CHECK(sectors(world, kBlockSize) == std::set{4});
  }
}

TEST_CASE("sim: power loss leaves of unsynced writes any subset of blocks, old or new, or torn") {
  std::set<std::set<int>> seen;
  bool subset = false;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimWorld world(seed);
    SimNode& node = world.addNode("host");
    auto file = openFile(world, node, {.createBytes = kFileBytes});
    CHECK(write(world, node, *file, 0, 1, 2) == Errc::kOk);
    CHECK(sync(world, node, *file) == Errc::kOk);
    CHECK(write(world, node, *file, 0, 2, 2) == Errc::kOk);
    CHECK(write(world, node, *file, 0, 3, 2) == Errc::kOk);
    world.powerOff("host");
    seen.insert(sectors(world, 0));
    subset = subset || sectors(world, 0) != sectors(world, kBlockSize);
    for (int value : sectors(world, 0)) CHECK((value >= 1 && value <= 3));
  }
  CHECK(subset);
  CHECK(seen.contains({1}));     // lost
  CHECK(seen.contains({2}));     // the later write lost, the earlier one there
  CHECK(seen.contains({3}));     // there
  CHECK(seen.contains({1, 3}));  // torn
}

TEST_CASE("sim: a sync covers what completed before it, not what was written meanwhile") {
  bool lostLater = false;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    SimNode& node = world.addNode("host");
    world.machine("host").disk.options = {.writeLatency = 10us, .syncLatency = 1ms, .jitter = 0ns};
    auto file = openFile(world, node, {.createBytes = kFileBytes});
    CHECK(write(world, node, *file, 0, 1) == Errc::kOk);
    auto synced = node.start(file->sync());
    world.run(100us);
    CHECK(write(world, node, *file, kBlockSize, 2) == Errc::kOk);
    CHECK_FALSE(synced->has_value());
    CHECK(world.drain(node));
    CHECK(codeOf(*synced) == Errc::kOk);
    world.powerOff("host");
    CHECK(sectors(world, 0) == std::set{1});
    lostLater = lostLater || sectors(world, kBlockSize) != std::set{2};
  }
  CHECK(lostLater);
}

TEST_CASE("sim: a killed process's write in flight is stored whole, in part or not; others stay") {
  std::set<std::pair<int, int>> seen;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SimWorld world(seed);
    SimNode& node = world.addNode("host");
    auto file = openFile(world, node, {.createBytes = kFileBytes});
    CHECK(write(world, node, *file, 8 * kBlockSize, 9) == Errc::kOk);
    auto written = node.start(file->write(parts(filled(node, 5, 2)), 0, true));
    world.run(1us);
    world.kill(node);
    const auto after = std::pair{stored(world, 0)[0], stored(world, kBlockSize)[0]};
    CHECK(world.drain(node, 1s));
    CHECK(codeOf(*written) == Errc::kCanceled);
    CHECK(std::pair{stored(world, 0)[0], stored(world, kBlockSize)[0]} == after);
    CHECK(write(world, node, *file, 0, 7) == Errc::kCanceled);
    CHECK(stored(world, 0)[0] != 7);
    CHECK(stored(world, 8 * kBlockSize)[0] == 9);
    seen.insert(after);
  }
  CHECK(seen.contains({5, 5}));
  CHECK(seen.contains({0, 0}));
  CHECK((seen.contains({0, 5}) || seen.contains({5, 0})));
}

TEST_CASE("sim: disk faults: errors, a bad range, no space") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  DiskFaults& faults = world.machine("host").disk.faults;
  Buffer in = node.buffers().get(kBlockSize);
  faults.readError = 1;
  CHECK(codeOf(world.await(node, file->read(in, 0))) == Errc::kIo);
  faults = {.writeError = 1};
  CHECK(write(world, node, *file, 0, 1) == Errc::kIo);
  faults = {.syncError = 1};
  CHECK(sync(world, node, *file) == Errc::kIo);
  faults = {.noSpace = true};
  CHECK(write(world, node, *file, 0, 1) == Errc::kNoSpace);
  faults = {.bad = {{.path = "/disk", .offset = kBlockSize, .bytes = 512, .writes = false}}};
  CHECK(codeOf(world.await(node, file->read(in, kBlockSize))) == Errc::kIo);
  CHECK(codeOf(world.await(node, file->read(in, 2 * kBlockSize))) == Errc::kOk);
  CHECK(write(world, node, *file, kBlockSize, 1) == Errc::kOk);
}

TEST_CASE("sim: a block that cannot be read can be, once it is written again") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  DiskFaults& faults = world.machine("host").disk.faults;
  Buffer in = node.buffers().get(kBlockSize);
  faults.unreadable = 1;
  CHECK(write(world, node, *file, kBlockSize, 7) == Errc::kOk);
  faults.unreadable = 0;
  CHECK(codeOf(world.await(node, file->read(in, kBlockSize))) == Errc::kIo);
  CHECK(codeOf(world.await(node, file->read(in, 2 * kBlockSize))) == Errc::kOk);
  CHECK(write(world, node, *file, kBlockSize, 8) == Errc::kOk);
  CHECK(codeOf(world.await(node, file->read(in, kBlockSize))) == Errc::kOk);
  CHECK(in.data()[0] == 8);
}

TEST_CASE("sim: disk faults of one file alone, from some place on") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  DiskFaults& faults = world.machine("host").disk.faults;
  Buffer in = node.buffers().get(kBlockSize);
  faults = {.readError = 1, .lostWrite = 1, .file = "/disk", .from = 2 * kBlockSize};
  CHECK(codeOf(world.await(node, file->read(in, kBlockSize))) == Errc::kOk);
  CHECK(codeOf(world.await(node, file->read(in, 2 * kBlockSize))) == Errc::kIo);
  for (uint64_t at : {kBlockSize, 2 * kBlockSize})
    CHECK(write(world, node, *file, at, 7) == Errc::kOk);
  CHECK(stored(world, kBlockSize)[0] == 7);
  CHECK(stored(world, 2 * kBlockSize)[0] == 0);
  faults.file = "/other";
  CHECK(codeOf(world.await(node, file->read(in, 2 * kBlockSize))) == Errc::kOk);
}

TEST_CASE("sim: disk faults that nobody reports: flipped bits, lost and misdirected writes") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto file = openFile(world, node, {.createBytes = kFileBytes});
  SimDiskStore& disk = world.machine("host").disk;
  auto onesIn = [](const uint8_t* p, size_t n) {
    int ones = 0;
    for (size_t i = 0; i < n; ++i) ones += __builtin_popcount(p[i]);
    return ones;
  };
  Buffer in = node.buffers().get(kBlockSize);
  disk.faults = {.flipOnRead = 1};
  CHECK(codeOf(world.await(node, file->read(in, 0))) == Errc::kOk);
  CHECK(onesIn(in.data(), in.size()) == 1);
  CHECK(onesIn(stored(world, 0).data(), kBlockSize) == 0);

  disk.faults = {.flipOnWrite = 1};
  CHECK(write(world, node, *file, 0, 0) == Errc::kOk);
  CHECK(onesIn(stored(world, 0).data(), kBlockSize) == 1);

  disk.faults = {.lostWrite = 1};
  CHECK(write(world, node, *file, kBlockSize, 0xff, 1, true) == Errc::kOk);
  CHECK(sectors(world, kBlockSize) == std::set{0});

  disk.faults = {.misdirected = 1};
  CHECK(write(world, node, *file, kBlockSize, 0xee) == Errc::kOk);
  int found = 0;
  for (uint64_t at = 0; at < kFileBytes; at += kBlockSize) found += stored(world, at)[0] == 0xee;
  CHECK(found == 1);
  CHECK(sectors(world, kBlockSize) == std::set{0});

  disk.faults = {};
  disk.find("/disk")->flipBit(5 * kBlockSize + 17, 3);
  CHECK(stored(world, 5 * kBlockSize)[17] == (stored(world, 5 * kBlockSize)[16] ^ 8));
}
