// Leases that have lapsed because nothing is heard of the MDS: what becomes of what the kernel has.
#include <doctest/doctest.h>
#include <fcntl.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

// An MDS that is not heard from `cut()` on, for longer than leases stand (2 s), until `heal()`.
struct Silence {
  explicit Silence(FakeCluster& cluster) : c(cluster) {
    c.mds.fault = [this](schema::MdsRequest::Reader) {
      return away ? Fault::kRefuse : Fault::kNone;
    };
    c.fs->onForget = [this](InodeId ino, Filesystem::Cached what) -> Task<void> {
      forgotten.emplace_back(ino, what);
      co_return;
    };
  }
  void cut() {
    away = true;
    c.world.run(4s);
  }
  void heal() {
    away = false;
    c.world.run(3s);  // an attempt comes every second at least
  }
  FakeCluster& c;
  bool away = false;
  std::vector<std::pair<InodeId, Filesystem::Cached>> forgotten;
};

// Of an operation that may have to wait.
template <class T>
std::shared_ptr<std::optional<T>> started(FakeCluster& c, Task<T> task) {
  auto out = std::make_shared<std::optional<T>>();
  c.spawn([](Task<T> t, std::shared_ptr<std::optional<T>> to) -> Task<void> {
    *to = co_await std::move(t);
  }(std::move(task), out));
  c.world.run(100ms);
  return out;
}

}  // namespace

TEST_CASE("lapse: the kernel's pages of open files are dropped, once") {
  FakeCluster c;
  auto h = c.create("open");
  const InodeId open = inoOf(c, "open");
  auto g = c.create("closed");
  REQUIRE(c.write(h, 0, "text"));
  c.run(c.fs->release(std::exchange(g, nullptr)));
  Silence silence(c);
  (void)c.fs->mayCache(open);
  c.world.run(20s);
  CHECK(silence.forgotten.empty());  // while the MDS is heard
  for (size_t i = 1; i <= 2; ++i) {
    silence.cut();
    c.world.run(10s);
    REQUIRE(silence.forgotten.size() == i);
    CHECK(silence.forgotten.back() == std::pair(open, Filesystem::Cached::kPages));
    silence.heal();
    CHECK(c.fs->mayCache(open) > 0s);
  }
  CHECK(c.read(h, 0, 10) == "text");
  CHECK(c.mds.leaseRequests == 0);  // it is ours all the time
}

TEST_CASE("lapse: pages are dropped before others can have been let on") {
  FakeCluster c;
  auto h = c.create("f");
  Silence silence(c);
  TimePoint heard{}, dropped{};
  c.mds.fault = [&](schema::MdsRequest::Reader) {
    if (!silence.away) heard = c.env.reactor.now();
    return silence.away ? Fault::kRefuse : Fault::kNone;
  };
  c.fs->onForget = [&](InodeId, Filesystem::Cached) -> Task<void> {
    dropped = c.env.reactor.now();
    co_return;
  };
  c.world.run(10s);
  silence.cut();
  REQUIRE(dropped != TimePoint{});
  CHECK(dropped <= heard + 2s);  // a session is expired half a second later
}

TEST_CASE("lapse: more than the kernel can drop in time begins to go before, and goes twice") {
  constexpr uint64_t kLimit = kGiB / 1000 * 500;  // the lease is 2 s, others wait for 500 ms more
  for (const bool many : {false, true}) {
    FakeCluster c;
    auto h = c.create("f");
    c.mds.file("f").size = 2 * kGiB;  // a hole
    c.remount();
    h = c.open("f", O_RDONLY);
    for (uint64_t at = 0; at < kLimit + (many ? kMiB : 0) - kMiB; at += kMiB)
      REQUIRE(c.run(c.fs->read(h, at, kMiB, {.intoPages = true})));
    Silence silence(c);
    std::vector<Duration> dropped;
    TimePoint heard{};
    c.mds.fault = [&](schema::MdsRequest::Reader) {
      if (!silence.away) heard = c.env.reactor.now();
      return silence.away ? Fault::kRefuse : Fault::kNone;
    };
    c.fs->onForget = [&](InodeId, Filesystem::Cached) -> Task<void> {
      dropped.push_back(c.env.reactor.now() - heard);
      co_return;
    };
    c.world.run(5s);
    CHECK(dropped.empty());
    silence.cut();
    REQUIRE(dropped.size() == (many ? 2 : 1));
    if (many) CHECK(dropped.front() <= 1s);
    CHECK(dropped.back() <= 2s);
    CHECK(dropped.back() > 1s);
    silence.heal();
  }
}

TEST_CASE("lapse: what was written into mapped pages is taken without the MDS, and stored later") {
  for (const int flags : {O_RDWR, O_RDWR | O_SYNC}) {
    FakeCluster c(1, {.mds = {}, .writeBufferBytes = kMiB, .flushAge = 1h});
    auto h = c.create("f", flags);
    REQUIRE(c.write(h, 0, pattern(8192, 1)));
    REQUIRE(c.run(c.fs->fsync(h)));
    Silence silence(c);
    // The buffer is full, and OSDs are away too. One was waiting before, one comes for the drop.
    c.holdWrites();
    auto full = c.create("full");
    REQUIRE(c.write(full, 0, pattern(kMiB, 2)));
    auto before = started(c, c.fs->write(h, 0, c.bytes(pattern(4096, 3)), {.fromMapping = true}));
    CHECK_FALSE(before->has_value());
    silence.cut();
    CHECK(before->has_value());
    auto after = started(c, c.fs->write(h, 4096, c.bytes(pattern(4096, 4)), {.fromMapping = true}));
    REQUIRE(after->has_value());
    CHECK(**before);
    CHECK(**after);
    auto plain = started(c, c.fs->write(full, 0, c.bytes("x"), {.intoPages = true}));
    CHECK_FALSE(plain->has_value());  // it is told when it is known what becomes of it
    c.letWrites();
    silence.heal();
    CHECK(plain->has_value());
    CHECK(c.run(c.fs->fsync(h)));
    CHECK(c.stored("f") == pattern(4096, 3) + pattern(4096, 4));
    CHECK(c.mds.leaseRequests == 1);  // of the plain one
  }
}

TEST_CASE("lapse: what was written into mapped pages is lost with the session, and told") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  Silence silence(c);
  silence.cut();
  auto mapped = started(c, c.fs->write(h, 0, c.bytes("LATE"), {.fromMapping = true}));
  REQUIRE(mapped->has_value());
  CHECK(**mapped);
  c.mds.expire(c.mds.lastSession);
  silence.heal();
  c.world.run(1s);
  // A page that is filled and changed in the next session is not lost with the one before, nor is
  // its write told what only whoever stored can make use of.
  CHECK(c.run(c.fs->read(h, 0, 4096, {.intoPages = true})));
  CHECK(c.run(c.fs->write(h, 2, c.bytes("NEXT"), {.fromMapping = true})));
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(h)));  // told once
  CHECK(c.read(h, 0, 10) == "teNEXT");
  CHECK(c.stored("f") == "teNEXT");
}

TEST_CASE("lapse: what comes from a mapping and is held up while its session is lost is lost too") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  Silence silence(c);
  REQUIRE(c.write(h, 4096, "more"));
  c.holdWrites();
  AttrChange change;
  change.size = 4;
  auto cut = started(c, c.fs->setattr(inoOf(c, "f"), change));  // waits for the flush
  auto mapped = started(c, c.fs->write(h, 0, c.bytes("LATE"), {.fromMapping = true}));
  CHECK_FALSE(cut->has_value());
  CHECK_FALSE(mapped->has_value());
  c.mds.expire(c.mds.lastSession);
  c.world.run(3s);  // the kernel has dropped all other pages long ago
  c.letWrites();
  c.world.run(3s);
  REQUIRE(cut->has_value());
  REQUIRE(mapped->has_value());
  CHECK((*mapped)->error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(h)).error().code == Errc::kIo);
  CHECK(c.read(h, 0, 10) == "text");
  CHECK(c.run(c.fs->read(h, 0, 4096, {.intoPages = true})));
  CHECK(c.run(c.fs->write(h, 0, c.bytes("NEXT"), {.fromMapping = true})));
  CHECK(c.read(h, 0, 10) == "NEXT");
}

TEST_CASE("lapse: a truncation does not begin, so what comes from mappings is not behind it") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = c.create("f");
  REQUIRE(c.write(h, 0, "text"));
  REQUIRE(c.run(c.fs->fsync(h)));
  Silence silence(c);
  silence.cut();
  AttrChange change;
  change.size = 2;
  auto cut = started(c, c.fs->setattr(inoOf(c, "f"), change));
  auto mapped = started(c, c.fs->write(h, 0, c.bytes("TEXT"), {.fromMapping = true}));
  CHECK_FALSE(cut->has_value());
  CHECK(mapped->has_value());
  silence.heal();
  REQUIRE(cut->has_value());
  REQUIRE(**cut);
  CHECK((**cut)->size == 2);
  CHECK(c.read(h, 0, 10) == "TE");
}

TEST_CASE("lapse: a read that is under way looks again before it fills pages") {
  FakeCluster c;
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  REQUIRE(c.write(h, 0, pattern(3 * kMiB, 1)));
  REQUIRE(c.run(c.fs->fsync(h)));
  c.remount();
  auto reader = c.open("f", O_RDONLY);
  Silence silence(c);
  size_t asked = 0;
  c.eachOsd([&](FakeOsd& o) {
    o.delay = [&] {
      ++asked;
      return Duration(3s);
    };
  });
  auto pages = started(c, c.fs->read(reader, 0, 8192, {.intoPages = true}));
  auto direct = started(c, c.fs->read(reader, 2 * kMiB, 8192));
  CHECK(asked == 2);
  CHECK(c.fs->pageWaits(ino).empty());  // it will be answered: a drop waits for it
  silence.cut();
  // It was answered meanwhile, but not under a lease that stands.
  CHECK(direct->has_value());
  CHECK_FALSE(pages->has_value());
  const auto waits = c.fs->pageWaits(ino);
  REQUIRE(waits.size() == 1);
  CHECK(waits[0].from == 0);
  CHECK(waits[0].to == 8192);
  CHECK_FALSE(waits[0].write);
  // Somebody else wrote the file, and the session is another.
  c.eachOsd([](FakeOsd& o) { o.delay = nullptr; });
  c.mds.expire(c.mds.lastSession);
  c.storage.write(c.mds.file("f").chunks.at(0), 0,
                  Bytes(reinterpret_cast<const uint8_t*>("new!"), 4));
  ++c.mds.file("f").dataVersion;
  ++c.mds.file("f").changeVersion;
  silence.heal();
  REQUIRE(pages->has_value());
  REQUIRE(**pages);
  CHECK(join(***pages).substr(0, 4) == "new!");
  CHECK(c.fs->pageWaits(ino).empty());
}

TEST_CASE("lapse: a drop goes around a write that is under way; its pages are dropped after it") {
  FakeCluster c(1, {.mds = {}, .writeBufferBytes = kMiB, .flushAge = 1h});
  auto h = c.create("f");
  const InodeId ino = inoOf(c, "f");
  Silence silence(c);
  c.holdWrites();
  REQUIRE(c.write(h, 0, pattern(kMiB, 1)));
  auto write = started(c, c.fs->write(h, 2 * kMiB, c.bytes("more"), {.intoPages = true}));
  CHECK_FALSE(write->has_value());
  CHECK(c.fs->pageWaits(ino).empty());
  silence.cut();
  const auto waits = c.fs->pageWaits(ino);
  REQUIRE(waits.size() == 1);
  CHECK(waits[0].from == 2 * kMiB);
  CHECK(waits[0].write);
  CHECK(silence.forgotten.size() == 1);
  silence.away = false;
  c.world.run(3s);
  CHECK(silence.forgotten.size() == 1);
  c.letWrites();
  c.world.run(1s);
  REQUIRE(write->has_value());
  CHECK(**write);
  CHECK(silence.forgotten.size() == 2);
  CHECK(c.fs->pageWaits(ino).empty());
}
