// Leases as a mount keeps them, against an MDS that grants what it is asked for and recalls when a
// test says so; and the table by itself.
#include <doctest/doctest.h>
#include <fcntl.h>

#include "client/core/lease_table.h"
#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

InodeId inoOf(FakeCluster& c, const std::string& name) {
  return InodeId{c.mds.names.at(name)};
}

bool returned(FakeCluster& c, InodeId ino) {
  return c.world.runUntil([&] { return !c.mds.leases.contains(ino.value); }, 5s);
}

}  // namespace

TEST_CASE("lease: what one covers is answered here; nothing is asked twice") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "some"));
  REQUIRE(c.run(c.fs->fsync(h)));
  size_t asked = 0;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (!r.isKeepalive()) ++asked;
    return Fault::kNone;
  };
  for (int i = 0; i < 10; ++i) {
    CHECK(c.run(c.fs->getattr(ino))->size == 4);
    CHECK(c.read(h, 0, 10) == "some");
    CHECK(c.fs->mayCache(ino) > 0s);
  }
  CHECK(asked == 0);
  CHECK(c.mds.leaseRequests == 0);  // create() brought it
}

TEST_CASE("lease: a recalled write lease goes back when all is flushed and committed, not before") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, pattern(300'000, 1)));
  REQUIRE(c.mds.file("f").size == 0);
  std::vector<std::pair<InodeId, Filesystem::Cached>> forgotten;
  c.fs->onForget = [&](InodeId i, Filesystem::Cached what) -> Task<void> {
    forgotten.emplace_back(i, what);
    co_return;
  };
  c.holdWrites();
  c.mds.recall("f");
  c.world.run(2s);
  CHECK(c.mds.leases.contains(ino.value));
  CHECK(c.mds.leaseReturns == 0);
  CHECK(forgotten.empty());
  CHECK(c.fs->mayCache(ino) == 0s);  // from the first moment on
  c.letWrites();
  REQUIRE(returned(c, ino));
  CHECK(c.mds.file("f").size == 300'000);
  CHECK(c.stored("f") == pattern(300'000, 1));
  REQUIRE(forgotten.size() == 1);
  CHECK(forgotten[0] == std::pair(ino, Filesystem::Cached::kPages));
  // The next write asks for it again.
  REQUIRE(c.write(h, 0, "x"));
  CHECK(c.mds.leaseRequests == 1);
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::WRITE);
}

TEST_CASE("lease: a recall to read keeps what is cached") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  bool forgotten = false;
  c.fs->onForget = [&](InodeId, Filesystem::Cached) -> Task<void> {
    forgotten = true;
    co_return;
  };
  c.mds.recall("f", true);
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 1s));
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::READ);
  CHECK(c.mds.file("f").size == 4);
  CHECK_FALSE(forgotten);
  CHECK(c.read(h, 0, 10) == "text");
  CHECK(c.mds.leaseRequests == 0);
}

TEST_CASE("lease: who asked for it gets something done before it is given back") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  c.mds.recall("f");
  REQUIRE(returned(c, ino));
  // Each grant is followed by a recall on the heels of its answer.
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (r.isLease())
      c.spawn([](FakeCluster& cluster) -> Task<void> {
        co_await sleepFor(cluster.env.reactor, 1us);
        cluster.mds.recall("f");
      }(c));
    return Fault::kNone;
  };
  std::string all;
  for (int i = 0; i < 20; ++i) {
    const std::string piece = pattern(100, static_cast<uint64_t>(i));
    REQUIRE(c.write(h, all.size(), piece));
    all += piece;
  }
  REQUIRE(returned(c, ino));
  CHECK(c.stored("f") == all);
}

TEST_CASE("lease: the kernel's pages are waited for, but not when an operation holds them") {
  FakeCluster c;
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "text"));
  Event pagesGone(c.env.reactor);
  c.fs->onForget = [&](InodeId, Filesystem::Cached) { return pagesGone.wait(); };
  c.mds.recall("f");
  c.world.run(3s);
  CHECK(c.mds.leaseReturns == 0);
  // A read comes, which may have locked the page that is being dropped.
  CHECK(c.read(h, 0, 10) == "text");
  CHECK(c.mds.leaseReturns == 1);
  CHECK(c.mds.leaseRequests == 1);
  pagesGone.set();
}

TEST_CASE("lease: nor while an operation that may hold them asks for a stronger lease") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  c.mds.recall("f", true);
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 1s));
  Event pagesGone(c.env.reactor);
  c.fs->onForget = [&](InodeId, Filesystem::Cached) { return pagesGone.wait(); };
  // Another client was first: it gets its lease before this one does, and so ours back.
  bool recalled = false;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (!r.isLease()) return Fault::kNone;
    if (!std::exchange(recalled, true))
      c.spawn([](FakeCluster& cluster) -> Task<void> {
        co_await sleepFor(cluster.env.reactor, 1ms);
        cluster.mds.recall("f");
      }(c));
    return c.mds.leases.contains(ino.value) ? Fault::kRefuse : Fault::kNone;
  };
  CHECK(c.write(h, 4, " and more"));
  CHECK(recalled);
  pagesGone.set();
}

TEST_CASE("lease: a recall of what is not held is answered") {
  FakeCluster c;
  auto h = c.create("f");
  c.mds.recall("f");
  REQUIRE(returned(c, inoOf(c, "f")));
  c.mds.recall("f");
  CHECK(c.world.runUntil([&] { return c.mds.leaseReturns == 2; }, 1s));
}

TEST_CASE("lease: without a word from the MDS nothing is answered from a cache") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  bool away = true;
  c.mds.fault = [&](schema::MdsRequest::Reader) { return away ? Fault::kRefuse : Fault::kNone; };
  c.world.run(4s);  // the lease is 2 s
  CHECK(c.fs->mayCache(ino) == 0s);
  std::optional<std::string> got;
  c.spawn([](FakeCluster& cluster, std::shared_ptr<Handle> handle,
             std::optional<std::string>& out) -> Task<void> {
    auto parts = co_await cluster.fs->read(handle, 0, 10);
    if (parts) out = join(*parts);
  }(c, h, got));
  c.world.run(5s);
  CHECK_FALSE(got.has_value());
  away = false;
  CHECK(c.world.runUntil([&] { return got.has_value(); }, 10s));
  CHECK(got == "text");
}

TEST_CASE("lease: after a reconnect the MDS is told which leases are held") {
  FakeCluster c;
  auto h = c.create("f"), g = c.create("g");
  c.mds.recall("g", true);
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 1s));
  bool once = true;
  c.mds.fault = [&](schema::MdsRequest::Reader) {
    return std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
  };
  REQUIRE(c.run(c.fs->lookup(kRootInode, "f")));
  CHECK(c.mds.reclaimedWrite == std::set<uint64_t>{inoOf(c, "f").value});
  CHECK(c.mds.reclaimedRead == std::set<uint64_t>{inoOf(c, "g").value});
}

TEST_CASE("lease: what is not used is given back, what is open is kept") {
  FakeCluster c;
  auto h = c.create("open");
  auto g = c.create("closed");
  const InodeId open = inoOf(c, "open"), closed = inoOf(c, "closed");
  REQUIRE(c.write(g, 0, "x"));
  REQUIRE(c.run(c.fs->flush(g)));
  c.run(c.fs->release(std::exchange(g, nullptr)));
  c.world.run(20s);
  CHECK(c.mds.leases.contains(open.value));
  CHECK_FALSE(c.mds.leases.contains(closed.value));
}
