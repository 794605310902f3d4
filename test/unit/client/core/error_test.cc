// What fails, how it is waited out or reported.
#include <fcntl.h>

#include <doctest/doctest.h>

#include "client/core/error_seq.h"
#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

TEST_CASE("errors: each handle learns once of each incident; later handles of untold ones only") {
  ErrorSeq seq;
  uint64_t a = seq.sample(), b = seq.sample();
  CHECK_FALSE(seq.check(a));
  seq.record(Error(Errc::kIo));
  seq.record(Error(Errc::kNoSpace));  // of the same incident
  uint64_t later = seq.sample();
  CHECK(seq.check(a)->code == Errc::kNoSpace);
  CHECK_FALSE(seq.check(a));
  CHECK(seq.check(b));
  CHECK(seq.check(later));
  uint64_t latest = seq.sample();
  CHECK_FALSE(seq.check(latest));
  seq.record(Error(Errc::kIo));
  CHECK(seq.check(a));
}

TEST_CASE("errors: a failed background flush is reported once by each handle") {
  FakeCluster c;
  auto a = c.create("f"), b = c.open("f"), reader = c.open("f", O_RDONLY);
  bool full = true;
  c.eachOsd([&](FakeOsd& o) {
    o.refuse = [&](schema::OsdRequest::Reader r) {
      return full && r.isWrite() ? Errc::kNoSpace : Errc::kOk;
    };
  });
  REQUIRE(c.write(a, 0, pattern(2 * kMiB, 1)));
  c.world.run(10s);
  full = false;
  CHECK(c.write(b, 0, "x").error().code == Errc::kNoSpace);
  CHECK(c.run(c.fs->fsync(a)).error().code == Errc::kNoSpace);
  CHECK(c.run(c.fs->fsync(a)));
  CHECK(c.run(c.fs->flush(b)));
  // Nothing of it counts as written.
  CHECK(c.mds.file("f").size == 0);
  REQUIRE(c.write(a, 0, "works"));
  REQUIRE(c.run(c.fs->fsync(a)));
  CHECK(c.stored("f") == "works");
}

TEST_CASE("errors: where room is scarce each write says itself that there is none") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  const auto osdSays = [&](bool scarce, Errc refused) {
    c.eachOsd([&](FakeOsd& o) {
      o.nearlyFull = scarce;
      o.refuse = [=](schema::OsdRequest::Reader r) { return r.isWrite() ? refused : Errc::kOk; };
    });
  };
  const auto onDisk = [&](const std::string& name, size_t bytes) {
    const auto& chunks = c.mds.file(name).chunks;
    if (chunks.empty()) return std::string();
    const auto got = c.storage.read(chunks.at(0), 0, roundUp(bytes, kBlockSize));
    return std::string(got.begin(), got.begin() + static_cast<ptrdiff_t>(bytes));
  };
  const std::string piece = pattern(100'000, 1);
  auto h = c.create("f"), other = c.create("other");
  REQUIRE(c.write(h, 0, piece));
  REQUIRE(c.write(other, 0, piece));
  CHECK(c.storage.chunks.empty());
  SUBCASE("an OSD says so, with the answer to what had to be stored") {
    osdSays(true, Errc::kOk);
    REQUIRE(c.run(c.fs->fsync(h)));
  }
  SUBCASE("the MDS says so") {
    c.mds.nearlyFull = kPool;
    c.world.run(3s);
  }
  // What was buffered before does not wait until others have filled the room.
  REQUIRE(c.write(h, piece.size(), piece));
  CHECK(onDisk("f", 2 * piece.size()) == piece + piece);
  CHECK(c.mds.file("f").size < 2 * piece.size());
  REQUIRE(c.world.runUntil([&] { return onDisk("other", piece.size()) == piece; }, 1s));
  osdSays(true, Errc::kNoSpace);
  CHECK(c.write(h, 2 * piece.size(), piece).error().code == Errc::kNoSpace);
  CHECK(c.run(c.fs->fsync(h)));
  CHECK(c.mds.file("f").size == 2 * piece.size());
  // There is room again, and nobody has to ask.
  osdSays(false, Errc::kOk);
  c.mds.nearlyFull.reset();
  c.world.run(15s);
  REQUIRE(c.write(h, 2 * piece.size(), piece));
  CHECK(onDisk("f", 3 * piece.size()) != piece + piece + piece);
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == piece + piece + piece);
}

TEST_CASE("errors: of what found no room nothing is there when the file grows over it") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  const std::string head = pattern(5000, 1);
  REQUIRE(c.write(h, 0, head));
  bool full = true;
  c.eachOsd([&](FakeOsd& o) {
    // The first piece of two finds room.
    o.refuse = [&](schema::OsdRequest::Reader r) {
      return full && r.isWrite() && r.getWrite().getOffset() >= kMiB ? Errc::kNoSpace : Errc::kOk;
    };
  });
  CHECK(c.write(h, 5000, pattern(kMiB, 2)).error().code == Errc::kNoSpace);
  full = false;
  REQUIRE(c.write(h, 2 * kMiB, "end"));
  const std::string all = c.stored("f");
  CHECK(all == head + std::string(2 * kMiB - 5000, '\0') + "end");
}

TEST_CASE("errors: what has no room together is stored as far as there is some") {
  FakeCluster c;
  auto h = c.create("f");
  c.eachOsd([&](FakeOsd& o) {
    o.refuse = [](schema::OsdRequest::Reader r) {
      const bool large = r.isWrite() && r.getWrite().getLength() > kMiB;
      const bool last = r.isWrite() && r.getWrite().getOffset() == 39 * kMiB;
      return large || last ? Errc::kNoSpace : Errc::kOk;
    };
  });
  const std::string all = pattern(40 * kMiB, 1);
  REQUIRE(c.write(h, 0, all));
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kNoSpace);
  CHECK(c.run(c.fs->fsync(h)));
  CHECK(c.mds.file("f").size == 39 * kMiB);
  CHECK(c.stored("f") == all.substr(0, 39 * kMiB));
}

TEST_CASE("errors: a direct write fails by itself") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  c.eachOsd([&](FakeOsd& o) {
    o.refuse = [&](schema::OsdRequest::Reader r) { return r.isWrite() ? Errc::kIo : Errc::kOk; };
  });
  CHECK(c.write(h, 0, pattern(4096, 1)).error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(h)));
  CHECK(c.run(c.fs->getattr(InodeId{c.mds.names["f"]}))->size == 0);
}

TEST_CASE("errors: no space for a chunk at the MDS is an error of the flush") {
  FakeCluster c;
  auto h = c.create("f");
  c.mds.refuse = [](schema::Mutation::Reader m) {
    return m.isAllocChunks() ? Errc::kNoSpace : Errc::kOk;
  };
  REQUIRE(c.write(h, 5 * kChunkSize, "x"));
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kNoSpace);
}

TEST_CASE("errors: a stale map is fetched and the write done at the new primary") {
  FakeCluster c;
  auto h = c.create("f");
  c.movePrimaries();  // nobody tells the client
  REQUIRE(c.write(h, 0, pattern(3 * kMiB, 1)));
  auto before = c.world.now();
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.world.now() - before < 1s);
  CHECK(c.stored("f") == pattern(3 * kMiB, 1));
  CHECK(c.read(h, 0, 4096) == pattern(3 * kMiB, 1).substr(0, 4096));
}

TEST_CASE("errors: when the map changes, whoever waits for a dead OSD goes to its successor") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "before"));
  REQUIRE(c.run(c.fs->fsync(h)));
  for (size_t i = 1; i <= FakeCluster::kOsds; ++i)
    c.world.network().cut("client", "osd" + std::to_string(i));
  REQUIRE(c.write(h, 0, "after!"));
  bool done = false;
  struct Syncer {
    static Task<void> run(FakeCluster& c, std::shared_ptr<Handle> h, bool& done) {
      CHECK(co_await c.fs->fsync(h));
      done = true;
    }
  };
  c.spawn(Syncer::run(c, h, done));
  c.world.run(2s);
  CHECK_FALSE(done);
  c.world.network().heal("client", "osd2");
  c.world.network().heal("client", "osd3");
  // osd1 is declared dead.
  c.mds.map.epoch.value++;
  c.mds.map.osds[OsdId{1}].up = false;
  for (auto& pg : c.mds.map.pools[kPool].pgs) {
    pg.epoch = c.mds.map.epoch;
    pg.osds = {OsdId{2}, OsdId{3}};
  }
  c.mds.pushMap();
  CHECK(c.world.runUntil([&] { return done; }, 5s));
  CHECK(c.stored("f") == "after!");
}

TEST_CASE("errors: data that is damaged on the way is read again; damage at the OSD is told") {
  FakeCluster c;
  auto h = c.create("f", O_RDWR | O_DIRECT);
  REQUIRE(c.write(h, 0, pattern(8192, 1)));
  c.eachOsd([](FakeOsd& o) { o.damageReads = 2; });
  CHECK(c.read(h, 0, 8192) == pattern(8192, 1));
  c.eachOsd([&](FakeOsd& o) {
    o.refuse = [&](schema::OsdRequest::Reader r) {
      return r.isRead() ? Errc::kCorrupt : Errc::kOk;
    };
  });
  CHECK(c.run(c.fs->read(h, 0, 8192)).error().code == Errc::kCorrupt);
}

TEST_CASE("errors: a chunk that another client's truncation took away is asked for again") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, pattern(8192, 1)));
  REQUIRE(c.run(c.fs->fsync(h)));
  auto& f = c.mds.file("f");
  c.mds.onChunkGone(f.chunks[0]);
  f.chunks.clear();
  f.size = 0;
  ++f.dataVersion;
  ++f.changeVersion;
  REQUIRE(c.write(h, 0, "new"));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.stored("f") == "new");
}

TEST_CASE("errors: an inode that is gone is reported, not retried") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  c.mds.files.clear();
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kStale);
  CHECK(c.run(c.fs->fsync(h)));
}
