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

bool returned(FakeCluster& c, InodeId ino) {
  return c.world.runUntil([&] { return !c.mds.leases.contains(ino.value); }, 5s);
}

// By another mount; and what this one is told of it.
Filesystem::SizeDoubt resizedElsewhere(FakeCluster& c, uint64_t size) {
  const InodeId ino = inoOf(c, "f");
  c.mds.recall("f");
  REQUIRE(returned(c, ino));
  auto& f = c.mds.file("f");
  f.size = size;
  ++f.changeVersion;
  ++f.dataVersion;
  REQUIRE(c.run(c.fs->getattr(ino))->size == size);
  return c.fs->sizeDoubt(ino);
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
  CHECK(c.fs->mayCache(ino) == 0s);  // the first answer may not have been taken up
  c.world.run(1s);
  for (int i = 0; i < 10; ++i) {
    CHECK(c.run(c.fs->getattr(ino))->size == 4);
    CHECK(c.read(h, 0, 10) == "some");
    CHECK(c.fs->mayCache(ino) > 0s);
  }
  CHECK(asked == 0);
  CHECK(c.mds.leaseRequests == 0);  // create() brought it
}

TEST_CASE("lease: that a file has no extended attributes stays known while it is written") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  size_t asked = 0;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (r.isGetxattr()) ++asked;
    return Fault::kNone;
  };
  const auto capability = [&] { return c.run(c.fs->getxattr(ino, "security.capability")); };
  for (int i = 0; i < 10; ++i) {
    REQUIRE(c.write(h, 4096 * i, "some"));
    CHECK(capability().error().code == Errc::kNoAttribute);
  }
  CHECK(asked == 0);
  REQUIRE(c.run(c.fs->setxattr(ino, "security.capability", "all", 0, false)));
  CHECK(capability().value() == "all");
  REQUIRE(c.write(h, 0, "more"));
  CHECK(capability().value() == "all");
  CHECK(asked == 2);
}

TEST_CASE("lease: a recalled write lease goes back when all is flushed and committed, not before") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f", O_WRONLY);  // no pages of it can be written through a mapping
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
  auto h = c.create("f", O_WRONLY);  // no pages of it can be written through a mapping
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

TEST_CASE("lease: nothing is invalidated that answers under way would seem older than") {
  FakeCluster c;
  auto h = c.create("f", O_RDONLY);
  const InodeId ino = inoOf(c, "f");
  std::vector<Filesystem::Cached> forgotten;
  c.fs->onForget = [&](InodeId, Filesystem::Cached what) -> Task<void> {
    forgotten.push_back(what);
    co_return;
  };
  const auto recalled = [&] {
    c.mds.recall("f");
    REQUIRE(returned(c, ino));
    return forgotten.back();
  };
  // Whoever opened it may have attributes from before.
  CHECK(recalled() == Filesystem::Cached::kPages);
  // Answers are given, and nobody has taken them up yet.
  c.mds.leases[ino.value] = schema::Lease::READ;
  REQUIRE(c.run(c.fs->getattr(ino)));
  CHECK(c.fs->mayCache(ino) == 0s);
  CHECK(recalled() == Filesystem::Cached::kUntold);
  // What was read was asked for by a process that had.
  c.mds.leases[ino.value] = schema::Lease::READ;
  (void)c.read(h, 0, 10);
  CHECK(recalled() == Filesystem::Cached::kPages);
  // And in a second all have.
  c.mds.leases[ino.value] = schema::Lease::READ;
  REQUIRE(c.run(c.fs->getattr(ino)));
  CHECK(c.fs->mayCache(ino) == 0s);
  c.world.run(1s);
  CHECK(c.fs->mayCache(ino) > 0s);
  CHECK(recalled() == Filesystem::Cached::kPages);
}

TEST_CASE("lease: what others have appended is doubtful until the kernel has taken it up") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  CHECK(c.fs->sizeDoubt(ino).growth == 0);  // the kernel has written it itself
  const auto becomes = [&](uint64_t size) { return resizedElsewhere(c, size); };
  const auto longer = becomes(10);
  REQUIRE(longer.growth != 0);
  CHECK(longer.size == 10);
  c.fs->sizeRaised(ino, longer);
  CHECK(c.fs->sizeDoubt(ino).growth == 0);
  // Cut off and appended to while the kernel is told: what it was told may be gone again.
  const auto again = becomes(20);
  CHECK(becomes(0).size == 0);
  const auto last = becomes(20);
  c.fs->sizeRaised(ino, again);
  CHECK(c.fs->sizeDoubt(ino).growth == last.growth);
  c.fs->sizeRaised(ino, last);
  CHECK(c.fs->sizeDoubt(ino).growth == 0);
}

TEST_CASE("lease: who only reads has no writes that an answer could meet") {
  FakeCluster c;
  auto h = c.create("f", O_RDONLY);
  CHECK(resizedElsewhere(c, 10).growth == 0);
  auto writer = c.open("f", O_WRONLY);
  CHECK(c.fs->sizeDoubt(inoOf(c, "f")).growth != 0);
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

TEST_CASE("lease: the kernel's pages are waited for, and it is told which operations hold some") {
  FakeCluster c;
  auto h = c.create("f", O_WRONLY);
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  Event pagesGone(c.env.reactor);
  size_t told = 0;
  c.fs->onForget = [&](InodeId, Filesystem::Cached) { return pagesGone.wait(); };
  c.fs->onPageWait = [&](InodeId i) {
    told += i == ino;
    const auto waits = c.fs->pageWaits(ino);
    REQUIRE(waits.size() == 1);
    CHECK(waits[0].from == 4096);
    CHECK(waits[0].to == 3 * 4096);
    CHECK(waits[0].write);
  };
  c.mds.recall("f");
  c.world.run(3s);
  CHECK(c.mds.leaseReturns == 0);
  bool written = false;
  c.spawn([](FakeCluster& cluster, std::shared_ptr<Handle> handle, bool& out) -> Task<void> {
    Buffer data = cluster.env.buffers.copyOf(std::vector<uint8_t>(5000, 'x'));
    out = (co_await cluster.fs->write(handle, 4196, data, {.intoPages = true})).has_value();
  }(c, h, written));
  c.world.run(3s);
  CHECK(told == 1);
  CHECK_FALSE(written);
  CHECK(c.mds.leaseReturns == 0);
  pagesGone.set();
  REQUIRE(c.world.runUntil([&] { return written; }, 1s));
  CHECK(c.mds.leaseReturns == 1);
  CHECK(c.mds.leaseRequests == 1);
  CHECK(c.fs->pageWaits(ino).empty());
}

TEST_CASE("lease: what a write has put into pages is not to be shown before it has its lease") {
  FakeCluster c;
  auto h = c.create("f", O_WRONLY);
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  c.mds.recall("f", true);
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 5s));
  (void)c.fs->mayCache(ino);
  c.world.run(1s);
  CHECK(c.fs->mayCache(ino) > 0s);
  size_t told = 0;
  c.fs->onWriteWait = [&](InodeId i) { told += i == ino; };
  // And what was read into them meanwhile is dropped when it is done.
  std::vector<std::pair<uint64_t, uint64_t>> late;
  c.fs->onLateWrite = [&](InodeId i, Filesystem::PageWait pages) {
    CHECK(i == ino);
    late.emplace_back(pages.from, pages.to);
  };
  bool refused = true, written = false, admitted = false;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return refused && r.isLease() ? Fault::kRefuse : Fault::kNone;
  };
  const auto write = [](FakeCluster& cluster, std::shared_ptr<Handle> handle,
                        bool& out) -> Task<void> {
    Buffer data = cluster.env.buffers.copyOf(std::vector<uint8_t>(4096, 'x'));
    out = (co_await cluster.fs->write(handle, 0, data, {.intoPages = true})).has_value();
  };
  c.spawn(write(c, h, written));
  c.world.run(1s);
  CHECK(told == 1);
  CHECK(c.fs->writeWaits(ino));
  CHECK(c.fs->mayCache(ino) == 0s);
  c.spawn([](FakeCluster& cluster, InodeId i, bool& out) -> Task<void> {
    co_await cluster.fs->writesAdmitted(i);
    out = true;
  }(c, ino, admitted));
  c.world.run(1s);
  CHECK_FALSE(written);
  CHECK_FALSE(admitted);
  CHECK(late.empty());
  refused = false;
  REQUIRE(c.world.runUntil([&] { return written && admitted; }, 5s));
  CHECK_FALSE(c.fs->writeWaits(ino));
  c.world.run(1s);
  CHECK(c.fs->mayCache(ino) > 0s);
  // Under the lease nothing is to wait for, and nothing to forget.
  written = false;
  c.spawn(write(c, h, written));
  REQUIRE(c.world.runUntil([&] { return written; }, 1s));
  CHECK(told == 1);
  CHECK(late == std::vector<std::pair<uint64_t, uint64_t>>{{0, 4096}});
}

TEST_CASE("lease: a read of what can be mapped has its lease before it looks at pages") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  c.mds.recall("f");
  REQUIRE(returned(c, ino));
  REQUIRE(c.run(c.fs->getattr(ino)));
  CHECK(c.mds.leaseRequests == 0);
  REQUIRE(c.run(c.fs->getattr(ino, true)));
  CHECK(c.mds.leaseRequests == 1);
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::WRITE);
  // Nobody waits for ever when the mount ends.
  c.mds.recall("f");
  REQUIRE(returned(c, ino));
  c.mds.fault = [](schema::MdsRequest::Reader r) {
    return r.isLease() ? Fault::kRefuse : Fault::kNone;
  };
  bool failed = false;
  c.spawn([](FakeCluster& cluster, InodeId i, bool& out) -> Task<void> {
    out = !co_await cluster.fs->getattr(i, true);
  }(c, ino, failed));
  c.world.run(1s);
  CHECK_FALSE(failed);
  c.spawn(c.fs->abandon());
  REQUIRE(c.world.runUntil([&] { return failed; }, 1s));
}

TEST_CASE("lease: a file that is open is opened again without asking, while its lease stands") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  size_t asked = 0;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    asked += r.isOpen();
    return Fault::kNone;
  };
  auto again = c.run(c.fs->open(ino, O_RDWR));
  REQUIRE(again);
  CHECK(again->attr.size == 4);
  CHECK(again->dataUnchanged);
  CHECK(asked == 0);
  c.run(c.fs->release(std::exchange(h, nullptr)));
  CHECK(c.read(again->handle, 0, 10) == "text");
  c.mds.recall("f");
  REQUIRE(returned(c, ino));
  auto third = c.run(c.fs->open(ino, O_RDONLY));
  CHECK(asked == 1);
  for (auto& o : {again, third}) c.run(c.fs->release(o->handle));
  REQUIRE(c.world.runUntil([&] { return !c.mds.open.contains(ino.value); }, 5s));
  // It is not open there any more, whatever lease stands.
  auto fourth = c.run(c.fs->open(ino, O_RDONLY));
  CHECK(asked == 2);
  CHECK(c.mds.open.contains(ino.value));
  c.run(c.fs->release(fourth->handle));
}

// ---- Mappings ----

TEST_CASE("lease: pages that may be written through a mapping are filled under the write lease") {
  FakeCluster c;
  auto h = c.create("f");  // O_RDWR
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  auto recallAll = [&] {
    const size_t before = c.mds.leaseReturns;
    c.mds.recall("f");
    REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns > before; }, 1s));
  };
  recallAll();
  CHECK(c.read(h, 0, 10) == "text");
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::READ);  // no page is filled
  recallAll();
  CHECK(c.run(c.fs->read(h, 0, 4096, {.intoPages = true})));
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::WRITE);
  c.run(c.fs->release(std::exchange(h, nullptr)));
  recallAll();
  auto reader = c.run(c.fs->open(ino, O_RDONLY));
  REQUIRE(reader);
  CHECK(c.run(c.fs->read(reader->handle, 0, 4096, {.intoPages = true})));
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::READ);
  // Pages are there, and not under the write lease: they are dropped before anybody can map them to
  // write, however many open it at once.
  c.mds.openBringsWrite = false;
  size_t drops = 0;
  Event dropped(c.env.reactor);
  c.fs->onForget = [&](InodeId, Filesystem::Cached what) {
    drops += what == Filesystem::Cached::kPages;
    return dropped.wait();
  };
  std::vector<Filesystem::Opened> writers;
  for (int i = 0; i < 2; ++i)
    c.spawn(
        [](FakeCluster& cluster, InodeId file, std::vector<Filesystem::Opened>& out) -> Task<void> {
          auto opened = co_await cluster.fs->open(file, O_RDWR);
          CHECK(opened);
          if (opened) out.push_back(std::move(*opened));
        }(c, ino, writers));
  c.world.run(1s);
  CHECK(drops == 1);
  CHECK(writers.empty());
  dropped.set();
  REQUIRE(c.world.runUntil([&] { return writers.size() == 2; }, 1s));
  CHECK(drops == 1);
  CHECK(c.run(c.fs->read(reader->handle, 0, 4096, {.intoPages = true})));
  CHECK(c.mds.leases.at(ino.value) == schema::Lease::WRITE);  // whoever reads
  for (auto& o : writers) c.run(c.fs->release(std::exchange(o.handle, nullptr)));
  c.run(c.fs->release(std::exchange(reader->handle, nullptr)));
}

TEST_CASE("lease: what was written into mapped pages goes out under the lease that goes") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, "text"));
  size_t drops = 0;
  bool plain = false;
  c.fs->onForget = [&](InodeId, Filesystem::Cached what) -> Task<void> {
    CHECK(what == Filesystem::Cached::kPages);
    CHECK(c.mds.leases.contains(ino.value));
    auto put = [&](uint64_t at, std::string_view text, Writing how) {
      return c.fs->write(
          h, at, c.env.buffers.copyOf({reinterpret_cast<const uint8_t*>(text.data()), text.size()}),
          how);
    };
    ++drops;
    if (drops == 1) {
      CHECK(co_await put(0, "MAPPED", {.fromMapping = true}));
      AttrChange change;
      change.size = 9;
      CHECK(co_await c.fs->setattr(ino, change));
    }
    if (drops < 5) {
      // One that keeps pages locked which are to be dropped is let through too, and then all are
      // dropped again.
      CHECK(co_await put(6, "!", {.intoPages = true}));
    } else {
      // But not for ever.
      CHECK(co_await put(7, "?", {.fromMapping = true}));
      c.spawn([](Task<Result<void>> task, bool& done) -> Task<void> {
        done = (co_await std::move(task)).has_value();
      }(put(8, "+", {.intoPages = true}), plain));
      co_await sleepFor(c.env.reactor, 10ms);
      CHECK_FALSE(plain);
    }
  };
  c.mds.recall("f", true);
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 1s));
  CHECK(drops == 5);
  c.fs->onForget = {};
  REQUIRE(c.world.runUntil([&] { return plain; }, 1s));
  CHECK(c.read(h, 0, 20) == std::string_view("MAPPED!?+", 9));
  CHECK(c.mds.leaseRequests == 1);  // of the last
}

TEST_CASE("lease: what mappings have changed under a lease that was lost is not written") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  std::optional<Result<void>> late;
  c.fs->onForget = [&](InodeId, Filesystem::Cached) -> Task<void> {
    late = co_await c.fs->write(h, 0, c.env.buffers.copyOf(std::vector<uint8_t>(4, 'X')),
                                {.fromMapping = true});
  };
  c.mds.expire(c.mds.lastSession);
  REQUIRE(c.run(c.fs->lookup(kRootInode, "f")));
  REQUIRE(c.world.runUntil([&] { return late.has_value(); }, 10s));
  CHECK(late->error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kIo);  // told once
  CHECK(c.read(h, 0, 10) == "text");
  // What is mapped and changed from now on is under the next lease.
  c.fs->onForget = {};
  CHECK(c.run(c.fs->read(h, 0, 4096, {.intoPages = true})));
  CHECK(c.run(c.fs->write(h, 0, c.env.buffers.copyOf(std::vector<uint8_t>(4, 'Y')),
                          {.fromMapping = true})));
  CHECK(c.read(h, 0, 10) == "YYYY");
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

TEST_CASE(
    "lease: one that the kernel is still to forget is held, whatever becomes of the connection") {
  for (const int flags : {O_WRONLY, O_RDWR}) {
    FakeCluster c;
    auto h = c.create("f", flags);
    const InodeId ino = inoOf(c, "f");
    Event forgotten(c.env.reactor);
    c.fs->onForget = [&](InodeId, Filesystem::Cached) { return forgotten.wait(); };
    c.mds.recall("f");
    c.world.run(1s);
    bool once = true;
    c.mds.fault = [&](schema::MdsRequest::Reader) {
      return std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
    };
    (void)c.run(c.fs->lookup(kRootInode, "g"));
    CHECK(c.mds.reclaimedWrite == std::set<uint64_t>{ino.value});
    forgotten.set();
    CHECK(returned(c, ino));
  }
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

TEST_CASE(
    "lease: what a listing of a large directory has left goes back in messages of some thousand") {
  sim::SimWorld world(1);
  sim::SimNode& node = world.addNode("client");
  Env env = node.env();
  Event stop(env.reactor);
  TaskScope scope(env.reactor);
  size_t most = 0, all = 0;
  LeaseTable::Hooks hooks;
  hooks.keep = [](InodeId) { return false; };
  hooks.send = [&](std::vector<LeaseReturn> leases) -> Task<void> {
    most = std::max(most, leases.size());
    all += leases.size();
    co_await sleepFor(env.reactor, 1ms);
  };
  LeaseTable table(env, stop, scope, std::move(hooks));
  table.renewed(env.reactor.now(), 5s);
  for (uint64_t ino = 1; ino <= 50'000; ++ino)
    table.granted(InodeId{ino}, LeaseMode::kRead, ino, false);
  scope.spawn(table.returnUnused());
  world.run(30s);
  CHECK(table.size() == 0);
  CHECK(all == 50'000);
  CHECK(most <= 5'000);  // a frame takes 43,690
  stop.set();
  world.await(node, scope.join());
}
