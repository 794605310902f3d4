#include <fcntl.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {
// A file whose data only the OSDs have: written through, and forgotten by a new mount.
std::shared_ptr<Handle> coldFile(FakeCluster& c, const std::string& data, int flags = O_RDONLY) {
  auto h = c.create("f");
  for (uint64_t at = 0; at < data.size(); at += kMiB)
    REQUIRE(c.write(h, at, data.substr(at, kMiB)));
  REQUIRE(c.run(c.fs->fsync(h)));
  h.reset();
  c.remount();
  c.storage.reads = c.storage.readBytes = 0;
  return c.open("f", flags);
}
}  // namespace

TEST_CASE("read: ends at the end of the file, wherever it starts") {
  FakeCluster c;
  auto h = coldFile(c, pattern(10000, 1));
  CHECK(c.read(h, 0, 1 << 20) == pattern(10000, 1));
  CHECK(c.read(h, 9999, 100) == pattern(10000, 1).substr(9999));
  CHECK(c.read(h, 10000, 100).empty());
  CHECK(c.read(h, 1ull << 49, 100).empty());
}

TEST_CASE("read: holes are zeros, in chunks and between them") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 100 * kChunkSize + 5, "end"));
  REQUIRE(c.run(c.fs->fsync(h)));
  h.reset();
  c.remount();
  h = c.open("f");
  CHECK(c.read(h, 100 * kChunkSize, 20) == std::string(5, '\0') + "end");
  CHECK(c.read(h, 50 * kChunkSize - 10, 20) == std::string(20, '\0'));
  CHECK(c.storage.reads == 1);
  CHECK(c.mds.file("f").chunks.size() == 2);  // of create, and the last
}

TEST_CASE("read: a sequential reader is read ahead of, and every byte is fetched once") {
  FakeCluster c;
  std::string data = pattern(40 * kMiB + 12345, 1);
  auto h = coldFile(c, data);
  std::string got;
  uint64_t fetchedEarly = 0;
  for (uint64_t at = 0; at < data.size(); at += 128 * kKiB) {
    got += c.read(h, at, 128 * kKiB);
    if (at == 16 * kMiB) fetchedEarly = c.storage.readBytes;
  }
  CHECK((got == data));
  CHECK(fetchedEarly >= 20 * kMiB);
  CHECK(c.storage.readBytes <= data.size() + kMiB);
}

TEST_CASE("read: small random reads fetch just their blocks") {
  FakeCluster c;
  std::string data = pattern(20 * kMiB, 1);
  for (int flags : {O_RDONLY, O_RDONLY | O_DIRECT}) {
    auto h = flags == O_RDONLY ? coldFile(c, data, flags) : c.open("f", flags);
    c.storage.readBytes = 0;
    SeededRandom random(5);
    for (int i = 0; i < 50; ++i) {
      uint64_t at = random.below(data.size() / 4096) * 4096;
      CHECK(c.read(h, at, 4096) == data.substr(at, 4096));
    }
    CHECK(c.storage.readBytes <= 60 * 4096);
  }
}

TEST_CASE("read: what was read is kept, until it is written") {
  FakeCluster c;
  auto h = coldFile(c, pattern(100000, 1), O_RDWR);
  CHECK(c.read(h, 0, 100000) == pattern(100000, 1));
  uint64_t reads = c.storage.reads;
  CHECK(c.read(h, 50000, 1000) == pattern(100000, 1).substr(50000, 1000));
  CHECK(c.storage.reads == reads);
  REQUIRE(c.write(h, 50000, "new"));
  CHECK(c.read(h, 50000, 3) == "new");
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.read(h, 49999, 5) ==
        pattern(100000, 1).substr(49999, 1) + "new" + pattern(100000, 1).substr(50003, 1));
}

TEST_CASE("read: a write that is flushed while a read is on its way does not disappear") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  std::string data = pattern(kMiB, 1);
  auto h = coldFile(c, data, O_RDWR);
  REQUIRE(c.write(h, 1000, "WRITTEN"));
  // The read's answer is old by the time it comes, the write has left the client meanwhile.
  bool slow = true;
  c.eachOsd([&](FakeOsd& o) {
    o.fault = [&](schema::OsdRequest::Reader) { return Fault::kNone; };
    o.delay = [&] { return slow ? Duration(50ms) : Duration(0); };
  });
  std::string got;
  struct Reader {
    static Task<void> run(FakeCluster& c, std::shared_ptr<Handle> h, std::string& out) {
      auto parts = co_await c.fs->read(h, 0, kMiB);
      CHECK(parts);
      if (parts) out = join(*parts);
    }
  };
  c.spawn(Reader::run(c, h, got));
  c.world.run(10ms);
  slow = false;
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(got.empty());
  REQUIRE(c.world.runUntil([&] { return !got.empty(); }, 1min));
  data.replace(1000, 7, "WRITTEN");
  CHECK((got == data));
  CHECK((c.read(h, 0, kMiB) == data));  // nor is the old answer kept
}

TEST_CASE("read: an aligned read hands on what was received, without a copy") {
  FakeCluster c;
  auto h = coldFile(c, pattern(4 * kMiB, 1));
  auto a = c.run(c.fs->read(h, 0, kMiB)), b = c.run(c.fs->read(h, 0, kMiB));
  REQUIRE(a);
  REQUIRE(b);
  REQUIRE(a->size() == 1);
  CHECK((*a)[0].data() == (*b)[0].data());
}

TEST_CASE("read: copyRange copies data, up to the end of the source") {
  FakeCluster c;
  std::string data = pattern(3 * kMiB + 77, 1);
  auto in = coldFile(c, data);
  auto out = c.create("copy");
  CHECK(*c.run(c.fs->copyRange(in, 100, out, 5000, 100 * kMiB)) == data.size() - 100);
  REQUIRE(c.run(c.fs->fsync(out)));
  CHECK((c.stored("copy") == std::string(5000, '\0') + data.substr(100)));
  CHECK(c.run(c.fs->copyRange(out, 0, out, 10, 100)).error().code == Errc::kInvalid);
}
