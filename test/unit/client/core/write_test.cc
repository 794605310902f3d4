#include <fcntl.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

Task<void> writeInto(Filesystem& fs, std::shared_ptr<Handle> h, uint64_t offset, Buffer data,
                     std::vector<Result<void>>& out) {
  out.push_back(co_await fs.write(h, offset, data));
}

}  // namespace

TEST_CASE("write: this client sees its writes at once, before and after they are flushed") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f"), other = c.open("f");
  REQUIRE(c.write(h, 3, "hello"));
  CHECK(c.read(other, 0, 100) == std::string(3, '\0') + "hello");
  auto attr = c.run(c.fs->getattr(InodeId{c.mds.names["f"]}));
  CHECK(attr->size == 8);
  CHECK(attr->mtimeNs > sim::kWorldWallStart);
  CHECK(c.count("osd write") == 0);
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.read(other, 0, 100) == std::string(3, '\0') + "hello");
  CHECK(c.stored("f") == std::string(3, '\0') + "hello");
}

TEST_CASE("write: appends go to the end of the moment, from any handle") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto a = c.create("f", O_WRONLY | O_APPEND), b = c.open("f", O_WRONLY | O_APPEND);
  std::vector<Result<void>> done;
  for (int i = 0; i < 50; ++i) {
    c.spawn(writeInto(*c.fs, i % 2 ? a : b, 0, c.bytes("line " + std::to_string(100 + i) + "\n"),
                      done));
  }
  REQUIRE(c.world.runUntil([&] { return done.size() == 50; }, 1min));
  REQUIRE(c.run(c.fs->fsync(a)));
  std::string all = c.stored("f");
  CHECK(all.size() == 50 * 9);
  for (int i = 0; i < 50; ++i) CHECK(all.find("line " + std::to_string(100 + i) + "\n") % 9 == 0);
}

TEST_CASE("write: bytes of a mapping stay where they are in a file that is open for appending") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_APPEND);
  REQUIRE(c.write(h, 0, "some text"));
  REQUIRE(c.run(c.fs->write(h, 5, c.bytes("TEXT"), {.fromMapping = true})));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == "some TEXT");
}

TEST_CASE("write: synchronous appends at once do not overwrite each other") {
  FakeCluster c;
  auto h = c.create("f", O_WRONLY | O_APPEND | O_DSYNC);
  std::vector<Result<void>> done;
  for (int i = 0; i < 20; ++i)
    c.spawn(writeInto(*c.fs, h, 0, c.bytes("line " + std::to_string(100 + i) + "\n"), done));
  REQUIRE(c.world.runUntil([&] { return done.size() == 20; }, 1min));
  std::string all = c.stored("f");
  CHECK(all.size() == 20 * 9);
  for (int i = 0; i < 20; ++i) CHECK(all.find("line " + std::to_string(100 + i)) % 9 == 0);
}

TEST_CASE("write: a direct write is durable when it returns, and its size is known") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  std::string data = pattern(3 * kMiB, 1);
  REQUIRE(c.write(h, kMiB / 2, data));
  CHECK(c.stored("f") == std::string(kMiB / 2, '\0') + data);
  uint64_t commits = c.mds.executed["commit"];
  // Inside the file the MDS is not asked.
  REQUIRE(c.write(h, 4096, pattern(4096, 2)));
  CHECK(c.mds.executed["commit"] == commits);
  CHECK(c.stored("f").substr(4096, 4096) == pattern(4096, 2));
  CHECK(c.read(h, 4096, 4096) == pattern(4096, 2));
  // The time follows.
  c.world.run(10s);
  CHECK(c.mds.executed["commit"] == commits + 1);
}

TEST_CASE("write: direct writes to different places run at the same time") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  REQUIRE(c.write(h, 0, std::string(kMiB, 'a')));
  c.holdWrites();
  std::vector<Result<void>> done;
  for (uint64_t i = 0; i < 32; ++i)
    c.spawn(writeInto(*c.fs, h, i * 4096, c.bytes(pattern(4096, i)), done));
  c.world.run(100ms);
  CHECK(done.empty());
  CHECK(c.storage.bytesInFlight == 32 * 4096);
  c.letWrites();
  REQUIRE(c.world.runUntil([&] { return done.size() == 32; }, 1min));
  for (uint64_t i = 0; i < 32; ++i) CHECK(c.read(h, i * 4096, 4096) == pattern(4096, i));
}

TEST_CASE("write: a direct write comes after buffered ones of the same bytes") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto buffered = c.create("f"), direct = c.open("f", O_RDWR | O_DIRECT);
  REQUIRE(c.write(buffered, 0, std::string(8192, 'a')));
  REQUIRE(c.write(direct, 4096, std::string(4096, 'b')));
  REQUIRE(c.run(c.fs->fsync(buffered)));
  CHECK(c.stored("f") == std::string(4096, 'a') + std::string(4096, 'b'));
}

TEST_CASE("write: a sequential writer keeps more than 8 MiB on their way") {
  FakeCluster c;
  auto h = c.create("f");
  c.holdWrites();
  std::string piece = pattern(kMiB, 1);
  for (uint64_t i = 0; i < 64; ++i) REQUIRE(c.write(h, i * kMiB, piece));
  c.world.run(1s);
  CHECK(c.storage.maxBytesInFlight >= 8 * kMiB);
  c.letWrites();
  REQUIRE(c.run(c.fs->fsync(h)));
  // What had piled up behind them went four at a time.
  CHECK(c.count("osd write") < 64);
}

TEST_CASE("write: writers wait when dirty memory is used up") {
  FakeCluster c(1, {.mds = {}, .writeBufferBytes = 4 * kMiB});
  auto h = c.create("f");
  c.holdWrites();
  std::vector<Result<void>> done;
  struct Writer {
    static Task<void> run(FakeCluster& c, std::shared_ptr<Handle> h,
                          std::vector<Result<void>>& done) {
      for (uint64_t i = 0; i < 20; ++i)
        done.push_back(co_await c.fs->write(h, i * kMiB, c.bytes(std::string(kMiB, 'x'))));
    }
  };
  c.spawn(Writer::run(c, h, done));
  c.world.run(30s);
  CHECK(done.size() >= 4);
  CHECK(done.size() <= 5);
  c.letWrites();
  REQUIRE(c.world.runUntil([&] { return done.size() == 20; }, 1min));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == std::string(20 * kMiB, 'x'));
}

TEST_CASE("write: small scattered writes are pushed out when memory runs short") {
  FakeCluster c(1, {.mds = {}, .writeBufferBytes = kMiB, .flushAge = 1h});
  auto h = c.create("f");
  for (uint64_t i = 0; i < 1000; ++i) REQUIRE(c.write(h, i * 20000, pattern(4096, i)));
  REQUIRE(c.run(c.fs->fsync(h)));
  for (uint64_t i = 0; i < 1000; i += 37)
    CHECK(c.stored("f").substr(i * 20000, 4096) == pattern(4096, i));
}

TEST_CASE("write: beyond the largest file is refused") {
  FakeCluster c;
  auto h = c.create("f");
  CHECK(c.write(h, kMaxFileSize - 1, "ab").error().code == Errc::kTooBig);
  REQUIRE(c.write(h, kMaxFileSize - 2, "ab"));
  CHECK(c.read(h, kMaxFileSize - 2, 10) == "ab");
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.mds.file("f").size == kMaxFileSize);
}

TEST_CASE("write: chunks of a large file are asked for in batches") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  for (uint64_t i = 0; i < 20; ++i) REQUIRE(c.write(h, i * kChunkSize, std::string(4096, 'x')));
  CHECK(c.mds.executed["alloc"] <= 6);
}
