// Truncation, holes, reserved space, lseek.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {
Result<Attr> truncate(FakeCluster& c, const std::string& name, uint64_t size) {
  AttrChange change;
  change.size = size;
  return c.run(c.fs->setattr(InodeId{c.mds.names[name]}, change));
}
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}  // namespace

TEST_CASE("space: a file that shrank and grew again has zeros where it was cut") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(100000, 'x')));
  auto cut = truncate(c, "f", 5000);
  REQUIRE(cut);
  CHECK(cut->size == 5000);
  CHECK(c.read(h, 0, 200000) == std::string(5000, 'x'));
  REQUIRE(truncate(c, "f", 60000));
  CHECK(c.read(h, 0, 200000) == std::string(5000, 'x') + std::string(55000, '\0'));
  CHECK(c.stored("f") == std::string(5000, 'x') + std::string(55000, '\0'));
  CHECK_FALSE(c.mds.file("f").tailUnclean);
}

TEST_CASE("space: an unclean tail that another client left is zeroed before the file grows") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(100000, 'x')));
  REQUIRE(c.run(c.fs->flush(h)));
  c.run(c.fs->release(h));
  auto& f = c.mds.file("f");
  f.size = 5000;
  f.tailUnclean = true;
  ++f.changeVersion;
  ++f.dataVersion;
  h = c.open("f");
  REQUIRE(c.write(h, 9000, "end"));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == std::string(5000, 'x') + std::string(4000, '\0') + "end");
  CHECK_FALSE(c.mds.file("f").tailUnclean);
  CHECK(c.indexOf("osd zero") < c.indexOf("osd write", c.indexOf("osd zero")));
}

TEST_CASE("space: truncation to nothing drops the chunks, and new ones are made") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, pattern(100000, 1)));
  REQUIRE(c.write(h, 3 * kChunkSize, "far"));
  REQUIRE(truncate(c, "f", 0));
  CHECK(c.mds.file("f").chunks.empty());
  CHECK(c.storage.blocks() == 0);
  CHECK(c.read(h, 0, 100).empty());
  REQUIRE(c.write(h, 10, "again"));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == std::string(10, '\0') + "again");
}

TEST_CASE("space: size that the MDS does not know yet is cut as well") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(2 * kMiB, 'x')));  // leaves at once, size not committed
  c.world.run(1s);
  REQUIRE(truncate(c, "f", 100));
  REQUIRE(truncate(c, "f", 300));
  CHECK(c.read(h, 0, 1000) == std::string(100, 'x') + std::string(200, '\0'));
}

TEST_CASE("space: a truncation by name reaches a file that is not open") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(9000, 'x')));
  REQUIRE(c.run(c.fs->flush(h)));
  c.run(c.fs->release(h));
  c.remount();
  CHECK(truncate(c, "f", 4000)->size == 4000);
  CHECK(truncate(c, "f", 8000)->size == 8000);
  CHECK(c.stored("f") == std::string(4000, 'x') + std::string(4000, '\0'));
}

TEST_CASE("space: O_TRUNC at open empties the file") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "old"));
  auto again = c.reopen(InodeId{c.mds.names["f"]}, O_RDWR | O_TRUNC);
  CHECK(again.attr.size == 0);
  CHECK(c.read(h, 0, 10).empty());
  // And through create() of a name that is there.
  REQUIRE(c.write(h, 0, "old"));
  auto created = c.run(c.fs->create(kRootInode, "f", 0644, {}, O_RDWR | O_CREAT | O_TRUNC));
  REQUIRE(created);
  CHECK(created->attr.size == 0);
  CHECK(c.run(c.fs->create(kRootInode, "f", 0644, {}, O_RDWR | O_CREAT | O_EXCL)).error().code ==
        Errc::kExists);
}

// The kernel asks to create what it has not found, without a look at the rights to what is there.
TEST_CASE("space: create() opens what is there for root, and sends others to look again") {
  FakeCluster c;
  c.create("f");
  CHECK(c.run(c.fs->create(kRootInode, "f", 0644, {}, O_RDWR | O_CREAT)));
  CHECK(c.run(c.fs->create(kRootInode, "f", 0644, {.uid = 1}, O_RDWR | O_CREAT)).error().code ==
        Errc::kStale);
}

TEST_CASE("space: a punched hole reads as zeros and gives its space back") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(c.write(h, i * kChunkSize, pattern(2 * kMiB, i)));
  REQUIRE(c.write(h, 4 * kChunkSize - 4096, std::string(4096, 'z')));
  size_t blocks = c.storage.blocks();
  REQUIRE(c.run(c.fs->fallocate(h, kPunch, 10000, 2 * kChunkSize + kMiB)));
  CHECK(c.mds.file("f").size == 4 * kChunkSize);
  CHECK(c.read(h, 9990, 20) == pattern(2 * kMiB, 0).substr(9990, 10) + std::string(10, '\0'));
  CHECK(c.read(h, kChunkSize + 5, 10) == std::string(10, '\0'));
  CHECK(c.read(h, 2 * kChunkSize + kMiB, 20) == std::string(10000 - 0, '\0').substr(0, 20));
  CHECK(c.read(h, 2 * kChunkSize + kMiB + 10000, 10) ==
        pattern(2 * kMiB, 2).substr(kMiB + 10000, 10));
  CHECK_FALSE(c.mds.file("f").chunks.contains(1));
  CHECK(c.mds.file("f").chunks.contains(0));
  CHECK(c.storage.blocks() < blocks);
}

TEST_CASE("space: a hole over dirty data stays a hole") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(20000, 'x')));
  REQUIRE(c.run(c.fs->fallocate(h, kPunch, 5000, 10000)));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") ==
        std::string(5000, 'x') + std::string(10000, '\0') + std::string(5000, 'x'));
}

TEST_CASE("space: fallocate reserves at the OSDs and extends unless told to keep the size") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.run(c.fs->fallocate(h, FALLOC_FL_KEEP_SIZE, 0, kChunkSize + 4096)));
  CHECK(c.mds.file("f").size == 0);
  CHECK(c.count("osd allocate") == 2);
  REQUIRE(c.run(c.fs->fallocate(h, 0, 0, 10000)));
  CHECK(c.mds.file("f").size == 10000);
  CHECK(c.read(h, 0, 20000) == std::string(10000, '\0'));
  REQUIRE(c.write(h, 0, std::string(10000, 'x')));
  REQUIRE(c.run(c.fs->fallocate(h, FALLOC_FL_ZERO_RANGE, 5000, 10000)));
  CHECK(c.read(h, 0, 20000) == std::string(5000, 'x') + std::string(10000, '\0'));
  CHECK(c.run(c.fs->fallocate(h, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)).error().code ==
        Errc::kNotSupported);
  CHECK(c.run(c.fs->fallocate(h, 0, 0, 0)).error().code == Errc::kInvalid);
  CHECK(c.run(c.fs->fallocate(h, 0, kMaxFileSize, 1)).error().code == Errc::kTooBig);
}

TEST_CASE("space: no space at the OSD is the answer of fallocate") {
  FakeCluster c;
  auto h = c.create("f");
  c.eachOsd([](FakeOsd& o) {
    o.refuse = [](schema::OsdRequest::Reader r) {
      return r.isAllocate() ? Errc::kNoSpace : Errc::kOk;
    };
  });
  CHECK(c.run(c.fs->fallocate(h, 0, 0, kMaxFileSize)).error().code == Errc::kNoSpace);
  CHECK(c.mds.file("f").chunks.size() <= 16);
}

TEST_CASE("space: lseek finds data and holes, in dirty files too") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 8192, std::string(4096, 'x')));
  REQUIRE(c.write(h, 5 * kChunkSize, std::string(4096, 'y')));
  REQUIRE(truncate(c, "f", 6 * kChunkSize));
  auto seek = [&](uint64_t offset, int whence) { return c.run(c.fs->seek(h, offset, whence)); };
  CHECK(*seek(0, SEEK_DATA) == 8192);
  CHECK(*seek(0, SEEK_HOLE) == 0);
  CHECK(*seek(9000, SEEK_DATA) == 9000);
  CHECK(*seek(9000, SEEK_HOLE) == 12288);
  CHECK(*seek(12288, SEEK_DATA) == 5 * kChunkSize);
  CHECK(*seek(5 * kChunkSize, SEEK_HOLE) == 5 * kChunkSize + 4096);
  CHECK(seek(5 * kChunkSize + 4096, SEEK_DATA).error().code == Errc::kNoAttribute);
  CHECK(seek(6 * kChunkSize, SEEK_HOLE).error().code == Errc::kNoAttribute);
  CHECK(seek(0, 17).error().code == Errc::kInvalid);
}

TEST_CASE("space: blocks of stat count what is stored, at most") {
  FakeCluster c;
  auto h = c.create("f");
  CHECK(c.run(c.fs->getattr(InodeId{c.mds.names["f"]}))->blocks512 == 0);
  REQUIRE(c.write(h, 0, std::string(5000, 'x')));
  CHECK(c.run(c.fs->getattr(InodeId{c.mds.names["f"]}))->blocks512 == 16);
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.run(c.fs->getattr(InodeId{c.mds.names["f"]}))->blocks512 == 16);
  REQUIRE(truncate(c, "f", 100 * kChunkSize));
  CHECK(c.run(c.fs->getattr(InodeId{c.mds.names["f"]}))->blocks512 == kChunkSize / 512);
}
