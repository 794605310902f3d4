#include "common/sim/sim_kv.h"

#include <doctest/doctest.h>

#include <optional>

#include "common/kv/log_order_env.h"
#include "common/sim/sim_kv_env.h"
#include "common/sim/sim_world.h"
#include "leveldb/db.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

// Small enough to change memtables often.
constexpr KvOptions kSmall{.writeBufferBytes = 256u << 10, .cacheBytes = 1u << 20};

std::unique_ptr<Kv> openKv(SimNode& node, KvOptions options = kSmall) {
  auto kv = node.kv().open(node.reactor(), "/db", options);
  REQUIRE_MESSAGE(kv.has_value(), kv.error().text());
  return std::move(*kv);
}

std::string keyOf(uint64_t n, char half) {
  char text[32];
  std::snprintf(text, sizeof text, "%010lu%c", n, half);
  return text;
}

// Batch number `n`: two keys far apart in the key space, and the mark "applied up to n".
KvBatch batchOf(uint64_t n) {
  KvBatch batch;
  const std::string value(200 + n * 37 % 700, static_cast<char>('a' + n % 26));
  batch.put("a" + keyOf(n, 'x'), value);
  batch.put("z" + keyOf(n, 'y'), value);
  batch.put("mark", std::to_string(n));
  return batch;
}

// How many batches are there: all of 1..n and nothing of a later one, each whole.
uint64_t checkPrefix(Kv& kv, uint64_t written) {
  auto mark = kv.get("mark");
  const uint64_t n = mark.has_value() ? std::stoull(*mark) : 0;
  REQUIRE(n <= written);
  for (uint64_t i = 1; i <= written; ++i) {
    CAPTURE(i);
    const bool first = kv.get("a" + keyOf(i, 'x')).has_value();
    const bool second = kv.get("z" + keyOf(i, 'y')).has_value();
    REQUIRE(first == second);  // atomic
    REQUIRE(first == (i <= n));
  }
  return n;
}

}  // namespace

TEST_CASE("sim kv: what was written is there after a kill; a second opener finds it busy") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto kv = openKv(node);
  for (uint64_t n = 1; n <= 1000; ++n) {
    KvBatch b = batchOf(n);
    CHECK(kv->write(b).has_value());
  }
  SimNode& other = world.addNode("host", {.name = "other"});
  auto busy = other.kv().open(other.reactor(), "/db", kSmall);
  REQUIRE_FALSE(busy.has_value());
  CHECK(busy.error().code == Errc::kBusy);
  CHECK(busy.error().message.find("/db") != std::string::npos);

  world.kill(node);
  KvBatch late = batchOf(1001);
  CHECK(kv->write(late).error().code == Errc::kCanceled);
  CHECK(kv->get("mark").error().code == Errc::kCanceled);
  CHECK_FALSE(kv->iterate()->valid());
  auto synced = world.await(node, kv->sync(), 1s);
  REQUIRE(synced.has_value());
  CHECK(synced->error().code == Errc::kCanceled);

  SimNode& again = world.addNode("host");  // while the dead one still has it open
  auto reopened = openKv(again);
  CHECK(checkPrefix(*reopened, 1000) == 1000);
}

TEST_CASE("sim kv: a whole run with compactions replays from its seed") {
  auto run = [](uint64_t seed) {
    SimWorld world(seed);
    SimNode& node = world.addNode("host");
    auto kv = openKv(node);
    for (uint64_t n = 1; n <= 3000; ++n) {
      KvBatch b = batchOf(n);
      REQUIRE(kv->write(b).has_value());
      if (n % 100 == 0) REQUIRE(world.await(node, kv->sync()).has_value());
      if (n % 7 == 0) world.run(Duration(100us));
    }
    CHECK(node.kvEnv().mutations() > 9000);
    return world.traceHash();
  };
  CHECK(run(5) == run(5));
  CHECK(run(5) != run(6));
}

TEST_CASE(
    "sim kv: power loss keeps a prefix of whole batches, and all that was synced, over many "
    "crashes") {
  uint64_t lost = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    world.machine("host").kv.faults.zeroTail = 0.5;
    uint64_t durable = 0;  // acknowledged by a sync
    uint64_t written = 0;
    for (int life = 0; life < 6; ++life) {
      SimNode& node = world.addNode("host");
      auto kv = openKv(node);
      const uint64_t found = checkPrefix(*kv, written);
      REQUIRE(found >= durable);
      lost += written - found;
      written = found;
      // A kill loses nothing by itself, but leaves logs behind that nobody will sync.
      const Crash how = world.random().below(2) == 0 ? Crash::kPower : Crash::kProcess;
      // Some crashes come in the middle of what LevelDB does in one call, or behind its back.
      if (world.random().below(2) == 0)
        world.crashDuringKv(node, 1 + world.random().below(1500), how);
      const uint64_t target = written + 50 + world.random().below(500);
      while (node.alive() && written < target) {
        KvBatch b = batchOf(written + 1);
        const bool sync = world.random().below(40) == 0;
        auto done = kv->write(b, sync);
        ++written;  // also one that a crash interrupted may be there
        if (!done.has_value()) break;
        if (sync) durable = written;
        if (world.random().below(60) == 0) {
          const uint64_t before = written;
          auto synced = world.await(node, kv->sync());
          if (synced.has_value() && synced->has_value()) durable = before;
        }
        if (world.random().below(10) == 0) world.run(Duration(1ms));
      }
      world.crash(node, how);
      kv.reset();
    }
  }
  CHECK(lost > 0);
}

TEST_CASE("sim kv: a kill in the middle of any change loses no batch") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    SimWorld world(seed);
    uint64_t done = 0;
    for (int life = 0; life < 3; ++life) {
      SimNode& node = world.addNode("host");
      auto kv = openKv(node);
      const uint64_t found = checkPrefix(*kv, done + 1);
      REQUIRE(found >= done);
      done = found;
      world.crashDuringKv(node, 1 + world.random().below(3000), Crash::kProcess);
      for (uint64_t i = 0; node.alive() && i < 1000; ++i) {
        KvBatch b = batchOf(done + 1);
        if (kv->write(b).has_value()) ++done;
      }
      world.kill(node);
    }
  }
}

// What LevelDB does by itself: `env` is the simulated file system, or LogOrderEnv over it.
namespace {

struct Survivors {
  bool older = false;   // the last record of the log that was left
  bool synced = false;  // the synced record of the log after it
};

Survivors crashAfterLogSwitch(uint64_t seed, bool ordered) {
  SimWorld world(seed);
  SimNode& node = world.addNode("host");
  world.machine("host").kv.faults.zeroTail = 0;
  SimKvEnv& env = node.kvEnv();
  LogOrderEnv orderedEnv(&env);
  leveldb::Options o;
  o.env = ordered ? static_cast<leveldb::Env*>(&orderedEnv) : &env;
  o.create_if_missing = true;
  o.write_buffer_size = 64 << 10;
  leveldb::DB* raw = nullptr;
  REQUIRE(leveldb::DB::Open(o, "/db", &raw).ok());
  std::unique_ptr<leveldb::DB> db(raw);
  env.runBackground();
  std::string last;
  const std::string value(1000, 'v');
  for (int n = 0; !env.hasBackground(); ++n) {  // until the memtable is changed
    last = std::to_string(n);
    REQUIRE(db->Put({}, last, value).ok());
  }
  // `last` is in the new log already; the one before it is in the old one.
  leveldb::WriteOptions durable;
  durable.sync = true;
  REQUIRE(db->Put(durable, "synced", value).ok());
  world.powerOff("host");
  env.runBackground();  // the table is not written any more
  db.reset();

  SimNode& again = world.addNode("host");
  o.env = &again.kvEnv();
  o.paranoid_checks = true;
  REQUIRE(leveldb::DB::Open(o, "/db", &raw).ok());
  db.reset(raw);
  Survivors s;
  std::string got;
  s.older = db->Get({}, std::to_string(std::stoi(last) - 1), &got).ok();
  s.synced = db->Get({}, "synced", &got).ok();
  again.kvEnv().runBackground();
  return s;
}

}  // namespace

TEST_CASE("kv: LevelDB alone loses a middle part of history; with ordered logs it does not") {
  bool hole = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    const Survivors plain = crashAfterLogSwitch(seed, false);
    CHECK(plain.synced);
    hole = hole || !plain.older;
    const Survivors ordered = crashAfterLogSwitch(seed, true);
    CHECK(ordered.synced);
    CHECK(ordered.older);
  }
  CHECK(hole);  // else LevelDB has changed, and LogOrderEnv is not needed any more
}

TEST_CASE("kv: after a failed sync nothing more is taken, and a reopened database is whole") {
  SimWorld world(4);
  SimNode& node = world.addNode("host");
  KvFaults& faults = world.machine("host").kv.faults;
  auto kv = openKv(node);
  KvBatch one = batchOf(1);
  CHECK(kv->write(one, true).has_value());
  faults.syncError = 1;
  KvBatch two = batchOf(2);
  CHECK(kv->write(two).has_value());
  auto synced = world.await(node, kv->sync());
  REQUIRE(synced.has_value());
  CHECK(synced->error().code == Errc::kIo);
  faults.syncError = 0;
  KvBatch three = batchOf(3);
  CHECK(kv->write(three).error().code == Errc::kIo);
  CHECK(world.await(node, kv->sync())->error().code == Errc::kIo);
  CHECK(kv->get("mark").has_value());
  kv.reset();
  kv = openKv(node);
  CHECK(checkPrefix(*kv, 3) == 2);
}

TEST_CASE("kv: a full file system refuses writes, and damages nothing") {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  KvFaults& faults = world.machine("host").kv.faults;
  auto kv = openKv(node);
  faults.capacityBytes = 100'000;
  uint64_t n = 0;
  Result<void> last;
  while (last.has_value() && n < 10'000) {
    KvBatch b = batchOf(++n);
    last = kv->write(b);
  }
  REQUIRE_FALSE(last.has_value());
  CHECK(last.error().code == Errc::kNoSpace);
  faults.capacityBytes.reset();
  // A record was cut short: one after it would be lost behind it, so none is taken.
  KvBatch b = batchOf(n + 1);
  CHECK_FALSE(kv->write(b).has_value());
  kv.reset();
  kv = openKv(node);
  CHECK(checkPrefix(*kv, n) == n - 1);
}

// Opens a database whose `which`-th file has a flipped bit in the middle. True if there is such a
// file; `refused` counts the opens that failed.
bool openDamaged(size_t which, int& refused) {
  SimWorld world(1);
  SimNode& node = world.addNode("host");
  auto kv = openKv(node);
  for (uint64_t n = 1; n <= 500; ++n) {
    KvBatch b = batchOf(n);
    REQUIRE(kv->write(b).has_value());
  }
  kv.reset();
  SimVolume& volume = world.machine("host").kv;
  const auto paths = volume.list();
  if (which == paths.size()) return false;
  CAPTURE(paths[which]);
  auto inode = volume.find(paths[which]);
  if (!inode->bytes.empty()) inode->bytes[inode->bytes.size() / 2] ^= 0x40;
  auto damaged = node.kv().open(node.reactor(), "/db", kSmall);
  if (!damaged.has_value()) {
    ++refused;
    CHECK(damaged.error().message.find("/db") != std::string::npos);
    CHECK(damaged.error().code == Errc::kCorrupt);
    CHECK(damaged.error().message.find("restore") != std::string::npos);
    return true;
  }
  for (uint64_t n = 1; n <= 500; ++n) {  // no read may give a wrong answer
    auto got = (*damaged)->get("a" + keyOf(n, 'x'));
    if (got.has_value())
      CHECK(*got == std::string(200 + n * 37 % 700, static_cast<char>('a' + n % 26)));
    else
      CHECK(got.error().code == Errc::kCorrupt);
  }
  return true;
}

TEST_CASE("kv: damage is reported, with the path and a way out; wrong bytes are never read") {
  int refused = 0;
  size_t which = 0;
  while (openDamaged(which, refused)) ++which;
  CHECK(which >= 5);
  CHECK(refused >= 2);  // the log, the MANIFEST
}
