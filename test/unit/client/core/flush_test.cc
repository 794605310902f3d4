// Flushing: what fsync, close and age make durable, and in which order.
#include <fcntl.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

TEST_CASE("flush: fsync returns after the data is stored and the size committed, in this order") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(3 * kMiB / 2, 'x')));
  c.holdWrites();
  bool done = false;
  struct Syncer {
    static Task<void> run(FakeCluster& c, std::shared_ptr<Handle> h, bool& done) {
      CHECK(co_await c.fs->fsync(h));
      done = true;
    }
  };
  c.spawn(Syncer::run(c, h, done));
  c.world.run(5s);
  CHECK_FALSE(done);
  CHECK(c.count("mds commit") == 0);
  c.letWrites();
  REQUIRE(c.world.runUntil([&] { return done; }, 1min));
  CHECK(c.count("osd write") == 2);
  CHECK(c.events.back() == "mds commit " + std::to_string(3 * kMiB / 2));
  CHECK(c.mds.file("f").size == 3 * kMiB / 2);
}

TEST_CASE("flush: fsync does not return before the MDS has the size") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  bool refuse = true;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return refuse && r.isMutate() ? Fault::kRefuse : Fault::kNone;
  };
  bool done = false;
  struct Syncer {
    static Task<void> run(FakeCluster& c, std::shared_ptr<Handle> h, bool& done) {
      CHECK(co_await c.fs->fsync(h));
      done = true;
    }
  };
  c.spawn(Syncer::run(c, h, done));
  c.world.run(30s);
  CHECK_FALSE(done);
  refuse = false;
  REQUIRE(c.world.runUntil([&] { return done; }, 10s));
  CHECK(c.mds.file("f").size == 1);
}

TEST_CASE("flush: fdatasync spares the MDS when the size is known there, fsync does not") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, std::string(8192, 'x')));
  REQUIRE(c.run(c.fs->fdatasync(h)));
  CHECK(c.mds.file("f").size == 8192);
  CHECK(c.mds.executed["commit"] == 1);
  REQUIRE(c.write(h, 4096, "y"));
  REQUIRE(c.run(c.fs->fdatasync(h)));
  CHECK(c.mds.executed["commit"] == 1);
  CHECK(c.stored("f")[4096] == 'y');
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.mds.executed["commit"] == 2);
}

TEST_CASE("flush: old dirty data goes out by itself") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  c.world.run(6s);
  CHECK(c.stored("f") == "x");
}

TEST_CASE("flush: close makes everything visible to others; the file is released at the MDS") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  REQUIRE(c.run(c.fs->flush(h)));
  CHECK(c.stored("f") == "x");
  c.run(c.fs->release(h));
  c.world.run(1s);
  CHECK(c.mds.open.empty());
}

TEST_CASE("flush: what is dirty at the last release is out before the MDS hears of it") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  REQUIRE(c.run(c.fs->unlink(kRootInode, "f")));
  c.run(c.fs->release(h));
  c.world.run(1s);
  CHECK(c.mds.open.empty());
  CHECK(c.indexOf("mds commit 1") < c.indexOf("mds release"));
}

TEST_CASE("flush: closes are told in batches, and a file that is opened again stays open") {
  FakeCluster c;
  std::vector<std::shared_ptr<Handle>> handles;
  for (int i = 0; i < 20; ++i) handles.push_back(c.create("f" + std::to_string(i)));
  for (auto& h : handles) c.spawn(c.fs->release(h));
  auto again = c.open("f3");
  c.world.run(1s);
  CHECK(c.count("mds release") <= 2);
  CHECK(c.mds.open == std::set<uint64_t>{c.mds.names["f3"]});
}

TEST_CASE("flush: unmount flushes everything and ends the session") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto a = c.create("a"), b = c.create("b");
  REQUIRE(c.write(a, 0, pattern(5 * kMiB, 1)));
  REQUIRE(c.write(b, 7, "b"));
  REQUIRE(c.run(c.fs->unmount()));
  CHECK(c.stored("a") == pattern(5 * kMiB, 1));
  CHECK(c.stored("b") == std::string(7, '\0') + "b");
  CHECK(c.events.back() == "mds session closed");
}

TEST_CASE("flush: times that are set are not overridden by older writes") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1s});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "x"));
  AttrChange change;
  change.mtime = AttrChange::Time{false, 12345};
  auto attr = c.run(c.fs->setattr(InodeId{c.mds.names["f"]}, change));
  REQUIRE(attr);
  CHECK(attr->mtimeNs == 12345);
  CHECK(attr->size == 1);
  c.world.run(10s);
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.mds.file("f").mtimeNs == 12345);
}

TEST_CASE("flush: killed clients end at once and flush nothing") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, pattern(3 * kMiB + 5, 1)));
  c.run(c.fs->abandon());
  CHECK(c.mds.file("f").size == 0);
}

TEST_CASE("flush: opening again tells whether the data is what this client knows") {
  FakeCluster c;
  auto h = c.create("f");
  InodeId ino{c.mds.names["f"]};
  REQUIRE(c.write(h, 0, "mine"));
  REQUIRE(c.run(c.fs->flush(h)));
  c.run(c.fs->release(h));
  auto second = c.reopen(ino);
  CHECK(second.dataUnchanged);
  CHECK(c.read(second.handle, 0, 10) == "mine");
  c.run(c.fs->release(second.handle));
  // Another client's write, which begins with a recall.
  c.mds.recall("f");
  REQUIRE(c.world.runUntil([&] { return !c.mds.leases.contains(ino.value); }, 1s));
  auto& f = c.mds.file("f");
  c.storage.write(f.chunks[0], 0, {reinterpret_cast<const uint8_t*>("their"), 5});
  f.size = 5;
  ++f.dataVersion;
  ++f.changeVersion;
  uint64_t invalidated = 0;
  c.fs->onDataChanged = [&](InodeId i) { invalidated = i.value; };
  auto third = c.reopen(ino);
  CHECK_FALSE(third.dataUnchanged);
  CHECK(invalidated == ino.value);
  CHECK(c.read(third.handle, 0, 10) == "their");
  CHECK(c.reopen(ino).dataUnchanged);
}

// An invalidation makes the kernel disbelieve the attributes that it has just asked for, and with
// them the new size: a read would end at the old one.
TEST_CASE(
    "flush: pages are dropped once for each change by others, and not while it is asked for") {
  FakeCluster c;
  auto h = c.create("f");
  InodeId ino{c.mds.names["f"]};
  REQUIRE(c.write(h, 0, "mine"));
  REQUIRE(c.run(c.fs->flush(h)));
  std::vector<Filesystem::Cached> forgotten;
  c.fs->onForget = [&](InodeId, Filesystem::Cached what) -> Task<void> {
    forgotten.push_back(what);
    if (what == Filesystem::Cached::kPages)  // one of them was changed through a mapping
      CHECK(co_await c.fs->write(h, 0, c.bytes("MINE"), {.fromMapping = true}));
  };
  int changed = 0;
  c.fs->onDataChanged = [&](InodeId) { ++changed; };
  auto byAnother = [&] {
    c.mds.recall("f");
    REQUIRE(c.world.runUntil([&] { return !c.mds.leases.contains(ino.value); }, 1s));
    auto& f = c.mds.file("f");
    f.size = 5;
    ++f.dataVersion;
    ++f.changeVersion;
  };

  byAnother();
  CHECK(forgotten == std::vector{Filesystem::Cached::kPages});
  CHECK(c.run(c.fs->getattr(ino))->size == 5);
  CHECK(changed == 0);

  // Of a file that nobody has open the pages stay, and whoever opens it drops them.
  CHECK(c.read(h, 0, 1).size() == 1);
  c.run(c.fs->release(h));
  byAnother();
  CHECK(forgotten.back() == Filesystem::Cached::kAttributes);
  CHECK(c.run(c.fs->getattr(ino))->size == 5);
  CHECK(changed == 0);
  CHECK_FALSE(c.reopen(ino).dataUnchanged);
  CHECK(c.reopen(ino).dataUnchanged);
}

TEST_CASE("flush: O_TRUNC marks the times of an empty file too") {
  FakeCluster c;
  c.run(c.fs->release(c.create("f")));
  const auto before = c.mds.executed["setattr"];
  c.open("f", O_WRONLY | O_TRUNC);
  CHECK(c.mds.executed["setattr"] == before + 1);
}
