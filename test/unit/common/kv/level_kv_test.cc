// LevelKv on the host's file system. Crashes are in test/unit/common/sim/sim_kv_test.cc.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "common/kv/kv.h"
#include "common/reactor/sync.h"
#include "common/reactor/uring_reactor.h"
#include "common/sim/sim_world.h"
#include "test/unit/common/reactor/make_reactor.h"

using namespace cairn;
using sim::SimNode;
using sim::SimWorld;

namespace {

struct KvDirectory {
  KvDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "kv_test.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~KvDirectory() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// The host's file system, under a simulated reactor: offloaded work runs at once.
struct KvFixture {
  KvDirectory dir;
  SimWorld world{1};
  SimNode& node = world.addNode("host");
  std::unique_ptr<KvFactory> factory = makeLevelKvFactory();
  const std::string path = (dir.path / "db").string();

  Result<std::unique_ptr<Kv>> open(KvOptions options = {}) {
    return factory->open(node.reactor(), path, options);
  }
  std::unique_ptr<Kv> opened(KvOptions options = {}) {
    auto kv = open(options);
    REQUIRE_MESSAGE(kv.has_value(), kv.error().text());
    return std::move(*kv);
  }
};

}  // namespace

TEST_CASE_FIXTURE(KvFixture, "kv: batches are there after a reopen; later calls win") {
  auto kv = opened();
  KvBatch batch;
  batch.put("a", "1");
  batch.put("b", "2");
  batch.del("a");
  batch.put("b", "3");
  batch.put(std::string("nul\0key", 7), "");
  CHECK(batch.sizeBytes() > 12);
  CHECK(kv->write(batch).has_value());
  CHECK(world.await(node, kv->sync())->has_value());
  kv.reset();
  kv = opened({.createIfMissing = false});
  CHECK(kv->get("a").error().code == Errc::kNotFound);
  CHECK(*kv->get("b") == "3");
  CHECK(kv->get(std::string_view("nul\0key", 7))->empty());
}

TEST_CASE_FIXTURE(KvFixture, "kv: an iterator sees the moment it was made, in key order") {
  auto kv = opened();
  KvBatch batch;
  for (char c : std::string("dbfa")) batch.put(std::string(1, c), std::string(3, c));
  REQUIRE(kv->write(batch).has_value());
  auto it = kv->iterate();
  batch.clear();
  batch.put("c", "later");
  batch.del("d");
  REQUIRE(kv->write(batch).has_value());
  std::string seen;
  for (it->seek("b"); it->valid(); it->next()) seen += it->key();
  CHECK(seen == "bdf");
  CHECK(it->status().has_value());
  it->seekLast();
  REQUIRE(it->valid());
  CHECK(it->value() == "fff");
  it->prev();
  CHECK(it->key() == "d");
  it->seek("zz");
  CHECK_FALSE(it->valid());
}

TEST_CASE_FIXTURE(KvFixture, "kv: writes go on over many memtables, and all are found again") {
  constexpr int kRecords = 20'000;
  auto kv = opened({.writeBufferBytes = 256u << 10});
  for (int i = 0; i < kRecords; ++i) {
    KvBatch batch;
    batch.put("key" + std::to_string(i), std::string(100, static_cast<char>('a' + i % 26)));
    REQUIRE(kv->write(batch, i % 1000 == 0).has_value());
  }
  kv.reset();
  kv = opened();
  for (int i = 0; i < kRecords; ++i) {
    auto got = kv->get("key" + std::to_string(i));
    REQUIRE(got.has_value());
    REQUIRE(*got == std::string(100, static_cast<char>('a' + i % 26)));
  }
}

TEST_CASE_FIXTURE(KvFixture, "kv: what cannot be opened says which, why and the way out") {
  auto error = [this](KvOptions options = {}) {
    auto kv = open(options);
    REQUIRE_FALSE(kv.has_value());
    CHECK(kv.error().message.find(path) != std::string::npos);
    return kv.error();
  };
  CHECK(error({.createIfMissing = false}).code == Errc::kNotFound);
  auto kv = opened();
  CHECK(error().code == Errc::kBusy);
  kv.reset();
  CHECK(error({.errorIfExists = true}).code == Errc::kExists);
  std::ofstream(dir.path / "db" / "CURRENT") << "MANIFEST-999999\n";
  const Error damaged = error();
  CHECK(damaged.code == Errc::kCorrupt);
  CHECK(damaged.message.find("restore") != std::string::npos);
  std::filesystem::remove_all(dir.path);
  CHECK(error().code == Errc::kNotFound);
}

TEST_CASE_FIXTURE(KvFixture,
                  "kv: a log that power loss left with a tail of zeros opens, up to it") {
  auto kv = opened();
  for (int i = 0; i < 100; ++i) {
    KvBatch batch;
    batch.put("key" + std::to_string(i), std::string(1000, 'v'));
    REQUIRE(kv->write(batch).has_value());
  }
  kv.reset();
  std::filesystem::path log;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path / "db"))
    if (entry.path().extension() == ".log") log = entry.path();
  const auto size = std::filesystem::file_size(log);
  std::filesystem::resize_file(log, 50'000);
  std::filesystem::resize_file(log, size);
  kv = opened();
  int found = 0;
  while (kv->get("key" + std::to_string(found)).has_value()) ++found;
  CHECK(found == 48);  // 50,000 bytes hold so many whole records of 1,000 and some
  for (int i = found; i < 100; ++i) CHECK_FALSE(kv->get("key" + std::to_string(i)).has_value());
}

namespace {

Task<void> writeAndSync(Reactor& reactor, Kv& kv, int writer, int records) {
  for (int i = 0; i < records; ++i) {
    KvBatch batch;
    batch.put(std::to_string(writer) + "/" + std::to_string(i), std::string(500, 'v'));
    auto written = kv.write(batch);
    CHECK(written.has_value());
    if (i % 20 != 0) continue;
    auto synced = co_await kv.sync();
    CHECK(synced.has_value());
  }
}

Task<void> manyWriters(Reactor& reactor, Kv& kv, int writers, int records) {
  TaskScope scope(reactor);
  for (int w = 0; w < writers; ++w) scope.spawn(writeAndSync(reactor, kv, w, records));
  co_await scope.join();
}

}  // namespace

TEST_CASE("kv: syncs on the pool run beside writes, also while memtables change") {
  auto reactor = makeReactor();
  KvDirectory dir;
  auto factory = makeLevelKvFactory();
  const std::string path = (dir.path / "db").string();
  auto kv = factory->open(*reactor, path, {.writeBufferBytes = 256u << 10});
  REQUIRE(kv.has_value());
  reactor->run(manyWriters(*reactor, **kv, 6, 400));
  kv->reset();
  kv = factory->open(*reactor, path, {});
  REQUIRE(kv.has_value());
  for (int w = 0; w < 6; ++w)
    for (int i = 0; i < 400; ++i)
      REQUIRE((*kv)->get(std::to_string(w) + "/" + std::to_string(i)).has_value());
}

TEST_CASE_FIXTURE(KvFixture, "kv: destroy removes a closed database, and refuses an open one") {
  CHECK(factory->destroy(path).has_value());  // there is none
  auto kv = opened();
  CHECK(factory->destroy(path).error().code == Errc::kBusy);
  kv.reset();
  CHECK(factory->destroy(path).has_value());
  CHECK_FALSE(std::filesystem::exists(path));
}
