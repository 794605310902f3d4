// The ring log on a disk that loses power, tears what was in flight, and rots.
#include "common/wal/ring_log.h"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <map>

#include "common/sim/sim_world.h"
#include "common/wal/ring_format.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

const RingLog::Region kRegion{8 * kBlockSize, kMiB};
constexpr uint64_t kLogFileBytes = 2 * kMiB;
constexpr Uuid kIdentity{1, 2};
const char* const kPath = "/log";

// The bytes of record `tag`.
std::vector<uint8_t> contentOf(uint64_t tag, size_t size) {
  std::vector<uint8_t> bytes(size);
  SeededRandom random(tag);
  for (size_t i = 0; i < size; i += 8) {
    uint64_t v = random.next();
    std::memcpy(bytes.data() + i, &v, std::min<size_t>(8, size - i));
  }
  return bytes;
}

struct Attempt {
  uint64_t tag = 0;
  size_t size = 0;
  Lsn lsn = 0;
  bool acked = false;
  std::optional<Error> error;
};

using Replayed = std::map<Lsn, std::vector<uint8_t>>;

// One process with the log open.
struct Session {
  SimNode* node = nullptr;
  std::unique_ptr<Env> env;  // outlives what was opened with it
  std::unique_ptr<File> file;
  std::unique_ptr<RingLog> log;
  std::deque<Attempt> attempts;
  Replayed replayed;
  std::optional<Error> error;  // of open()
  bool ordered = true;
};

Task<void> openLog(Session& s, Uuid identity, bool format) {
  Env& env = *s.env;
  OpenOptions options;
  if (format) options.createBytes = kLogFileBytes;
  auto file = co_await env.disk.open(kPath, options);
  if (!file) {
    s.error = file.error();
    co_return;
  }
  s.file = std::move(*file);
  if (format)
    if (auto done = co_await RingLog::format(env, *s.file, kRegion, identity); !done) {
      s.error = done.error();
      co_return;
    }
  auto log = co_await RingLog::open(
      env, *s.file, kRegion, identity, [&s](Lsn lsn, Bytes bytes) -> Result<void> {
        if (!s.replayed.empty() && s.replayed.rbegin()->first + 1 != lsn) s.ordered = false;
        s.replayed[lsn].assign(bytes.begin(), bytes.end());
        return {};
      });
  if (log)
    s.log = std::move(*log);
  else
    s.error = log.error();
}

Session openSession(SimWorld& world, bool format = false, Uuid identity = kIdentity) {
  Session s;
  s.node = &world.addNode("host");
  s.env = std::make_unique<Env>(s.node->env());
  REQUIRE(world.await(*s.node, openLog(s, identity, format)));
  return s;
}

Task<void> appendOne(Session& s, Attempt& a) {
  auto content = contentOf(a.tag, a.size);
  std::vector<Buffer> parts;
  size_t cut = a.size / 3;
  parts.push_back(s.node->buffers().copyOf(Bytes(content).first(cut)));
  parts.push_back(s.node->buffers().copyOf(Bytes(content).subspan(cut)));
  auto lsn = co_await s.log->append(std::move(parts), &a.lsn);
  if (lsn) {
    CHECK(*lsn == a.lsn);
    a.acked = true;
  } else {
    a.error = lsn.error();
  }
}

Attempt& start(Session& s, uint64_t tag, size_t size) {
  s.attempts.push_back({tag, size, 0, false, {}});
  s.node->spawn(appendOne(s, s.attempts.back()));
  return s.attempts.back();
}

void appendNow(SimWorld& world, Session& s, uint64_t tag, size_t size) {
  Attempt& a = start(s, tag, size);
  REQUIRE(world.runUntil([&a] { return a.acked || a.error; }, 10s));
  REQUIRE_MESSAGE(a.acked, a.error->text());
}

void closeSession(SimWorld& world, Session& s) {
  if (s.log) REQUIRE(world.await(*s.node, s.log->close()));
  REQUIRE(world.drain(*s.node));
  s.log.reset();
  s.file.reset();
}

std::shared_ptr<StoredFile> storedFile(SimWorld& world) {
  return world.machine("host").disk.find(kPath);
}

}  // namespace

TEST_CASE("ring log: what was acknowledged is replayed in order, over many crashes and laps") {
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    SeededRandom random(seed * 77);
    std::map<Lsn, std::pair<uint64_t, size_t>> records;  // durable, as far as we know
    Lsn trimRequested = 0, trimDurable = 0;
    uint64_t nextTag = 1;
    const size_t maxSize = random.chance(1, 3) ? 200'000 : 9'000;

    for (int round = 0; round < 25; ++round) {
      CAPTURE(round);
      Session s = openSession(world, round == 0);
      REQUIRE_MESSAGE(!s.error, s.error->text());
      // The log holds what was acknowledged, in order, and nothing that was not appended.
      CHECK(s.ordered);
      const Lsn last = s.log->lastAppended();
      CHECK(last >= (records.empty() ? 0 : records.rbegin()->first));
      if (!s.replayed.empty()) {
        CHECK(s.replayed.begin()->first > trimDurable);
        CHECK(s.replayed.begin()->first <= trimRequested + 1);
        CHECK(s.replayed.rbegin()->first == last);
      } else {
        CHECK(last <= trimRequested);
      }
      for (const auto& [lsn, bytes] : s.replayed) {
        if (!records.contains(lsn)) FAIL("a record that nobody appended");
        const auto& [tag, size] = records[lsn];
        CHECK(bytes == contentOf(tag, size));
      }

      Lsn trimHere = trimDurable;  // as this session's log knows it
      const int steps = static_cast<int>(random.below(60));
      for (int i = 0; i < steps; ++i) {
        switch (random.below(8)) {
          case 0: {  // trim something that is durable
            Lsn upTo = trimRequested;
            for (const auto& a : s.attempts)
              if (a.acked && random.chance(2, 3)) upTo = std::max(upTo, a.lsn);
            s.log->trim(upTo);
            trimRequested = trimHere = upTo;
            break;
          }
          case 1: {
            Lsn before = trimHere;
            auto done = world.await(*s.node, s.log->checkpoint());
            REQUIRE(done);
            if (*done) trimDurable = std::max(trimDurable, before);
            break;
          }
          case 2:
            world.run(Duration(random.below(300'000)));
            break;
          default:
            start(s, nextTag++, random.below(maxSize));
        }
        // Room: all that is acknowledged may go when the log is nearly full.
        if (s.log->usedBytes() > s.log->capacityBytes() / 2 && random.chance(3, 4)) {
          for (const auto& a : s.attempts)
            if (a.acked) trimRequested = std::max(trimRequested, a.lsn);
          s.log->trim(trimRequested);
          trimHere = trimRequested;
        }
      }
      world.run(Duration(random.below(500'000)));
      const uint64_t end = random.below(4);
      if (end == 0) world.kill(*s.node);
      if (end == 1 || end == 2) world.powerOff("host");
      closeSession(world, s);
      for (const auto& a : s.attempts) {
        if (a.acked) records[a.lsn] = {a.tag, a.size};
      }
      // Those that were not acknowledged may have become durable in order, up to any one.
      const Lsn acked = records.empty() ? 0 : records.rbegin()->first;
      std::map<Lsn, const Attempt*> pending;
      for (const auto& a : s.attempts)
        if (!a.acked && a.lsn != 0) pending[a.lsn] = &a;
      for (const auto& [lsn, a] : pending) CHECK(lsn > acked);
      if (!pending.empty()) {
        Session peek = openSession(world);
        REQUIRE_MESSAGE(!peek.error, peek.error->text());
        const Lsn durable = peek.log->lastAppended();
        CHECK(durable >= acked);
        for (const auto& [lsn, a] : pending)
          if (lsn <= durable) records[lsn] = {a->tag, a->size};
        world.powerOff("host");
        closeSession(world, peek);
      }
    }
  }
}

TEST_CASE("ring log: a damaged batch that counts is never taken for the end of the log") {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    SeededRandom random(seed);
    Session s = openSession(world, true);
    REQUIRE(!s.error);
    // Some laps, so that the ring holds older batches behind the head.
    const int records = 30 + static_cast<int>(random.below(200));
    for (int i = 0; i < records; ++i) {
      appendNow(world, s, static_cast<uint64_t>(i + 1), random.below(20'000));
      if (s.log->usedBytes() > s.log->capacityBytes() / 2) s.log->trim(s.log->lastAppended() - 5);
    }
    const Lsn last = s.log->lastAppended();
    const uint64_t used = s.log->usedBytes();
    closeSession(world, s);

    // After a clean close even the last batch is known to have been there.
    auto file = storedFile(world);
    wal::Slot slot;
    std::vector<uint8_t> block(kBlockSize);
    for (uint64_t i = 0; i < wal::kSlots; ++i) {
      file->read(kRegion.offset + i * kBlockSize, block);
      auto decoded = wal::decodeSlot(block);
      REQUIRE(decoded);
      if (decoded->sequence > slot.sequence) slot = *decoded;
    }
    const wal::RingGeometry geometry(kRegion);
    const uint64_t blocks = used / kBlockSize;
    const uint64_t victim = slot.tailPosition + random.below(blocks);
    file->flipBit(geometry.blockOffset(victim) + random.below(kBlockSize),
                  static_cast<unsigned>(random.below(8)));
    Session again = openSession(world);
    REQUIRE(again.error);
    CHECK_MESSAGE(again.error->code == Errc::kCorrupt, again.error->text());
    CHECK(last > 0);
    closeSession(world, again);
  }
}

TEST_CASE("ring log: one damaged checkpoint slot does not lose a record") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    SeededRandom random(seed);
    Session s = openSession(world, true);
    const int records = 5 + static_cast<int>(random.below(40));
    for (int i = 1; i <= records; ++i) appendNow(world, s, static_cast<uint64_t>(i), 3000);
    s.log->trim(static_cast<Lsn>(records / 2));
    closeSession(world, s);
    storedFile(world)->flipBit(kRegion.offset + random.below(2) * kBlockSize + random.below(96), 3);
    Session again = openSession(world);
    REQUIRE_MESSAGE(!again.error, again.error->text());
    for (int i = records / 2 + 1; i <= records; ++i)
      CHECK(again.replayed[static_cast<Lsn>(i)] == contentOf(static_cast<uint64_t>(i), 3000));
    closeSession(world, again);
  }
}

TEST_CASE("ring log: both checkpoint slots damaged is corruption, not an empty log") {
  SimWorld world(1);
  Session s = openSession(world, true);
  appendNow(world, s, 1, 100);
  closeSession(world, s);
  for (uint64_t i = 0; i < 2; ++i) storedFile(world)->flipBit(kRegion.offset + i * kBlockSize, 0);
  Session again = openSession(world);
  REQUIRE(again.error);
  CHECK(again.error->code == Errc::kCorrupt);
  closeSession(world, again);
}

TEST_CASE("ring log: it waits when it is full and goes on when it is trimmed") {
  SimWorld world(7);
  Session s = openSession(world, true);
  const size_t size = 100'000;
  uint64_t tag = 1;
  for (;;) {
    Attempt& a = start(s, tag++, size);
    world.run(100ms);
    if (!a.acked) break;
    REQUIRE(tag < 100);
  }
  CHECK(s.log->usedBytes() + size > s.log->capacityBytes() * 9 / 10);
  s.log->trim(1);
  world.run(100ms);
  CHECK(s.attempts.back().acked);
  closeSession(world, s);
}

TEST_CASE("ring log: closing it while it is full cancels what waits") {
  SimWorld world(8);
  Session s = openSession(world, true);
  for (uint64_t tag = 1; tag < 20; ++tag) start(s, tag, 100'000);
  world.run(100ms);
  closeSession(world, s);
  CHECK(s.attempts.front().acked);
  REQUIRE(s.attempts.back().error);
  CHECK(s.attempts.back().error->code == Errc::kCanceled);
}

TEST_CASE("ring log: after an I/O error no append is acknowledged") {
  SimWorld world(9);
  Session s = openSession(world, true);
  appendNow(world, s, 1, 1000);
  world.machine("host").disk.faults.writeError = 1;
  Attempt& failed = start(s, 2, 1000);
  world.run(10ms);
  REQUIRE(failed.error);
  CHECK(failed.error->code == Errc::kIo);
  world.machine("host").disk.faults.writeError = 0;
  Attempt& later = start(s, 3, 1000);
  world.run(10ms);
  REQUIRE(later.error);
  CHECK(later.error->code == Errc::kIo);
  closeSession(world, s);
}

TEST_CASE("ring log: records beyond a quarter of the region are refused, one below is taken") {
  SimWorld world(10);
  Session s = openSession(world, true);
  Attempt& big = start(s, 1, s.log->capacityBytes() / 4 + kBlockSize);
  world.run(10ms);
  REQUIRE(big.error);
  CHECK(big.error->code == Errc::kTooBig);
  appendNow(world, s, 2, s.log->capacityBytes() / 4 - 2 * kBlockSize);
  closeSession(world, s);
}

TEST_CASE("ring log: another identity is not read, and a new log does not see an older one") {
  SimWorld world(11);
  Session s = openSession(world, true);
  for (uint64_t i = 1; i < 50; ++i) appendNow(world, s, i, 5000);
  closeSession(world, s);

  Session other = openSession(world, false, Uuid{3, 4});
  REQUIRE(other.error);
  CHECK(other.error->code == Errc::kWrongCluster);
  closeSession(world, other);

  SimNode& node = world.addNode("host");
  auto file = world.await(node, node.disk().open(kPath, {}));
  REQUIRE((file && *file));
  Env env = node.env();
  auto formatted = world.await(node, RingLog::format(env, ***file, kRegion, kIdentity));
  REQUIRE((formatted && *formatted));
  file->value().reset();
  Session fresh = openSession(world);
  REQUIRE_MESSAGE(!fresh.error, fresh.error->text());
  CHECK(fresh.replayed.empty());
  CHECK(fresh.log->lastAppended() == 0);
  appendNow(world, fresh, 99, 10);
  closeSession(world, fresh);
}

TEST_CASE("ring log: a batch found after a kill survives the power loss that follows") {
  // The kernel had the batch, the device did not: once replayed, it must not vanish.
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    Session s = openSession(world, true);
    appendNow(world, s, 1, 100);
    start(s, 2, 30'000);
    world.run(100us);
    world.kill(*s.node);
    closeSession(world, s);
    Session second = openSession(world);
    REQUIRE_MESSAGE(!second.error, second.error->text());
    const Lsn last = second.log->lastAppended();
    appendNow(world, second, 3, 100);
    world.powerOff("host");
    closeSession(world, second);
    Session third = openSession(world);
    REQUIRE_MESSAGE(!third.error, third.error->text());
    CHECK(third.log->lastAppended() == last + 1);
    closeSession(world, third);
  }
}
