// Random operations on one file against a vector of bytes, in the manner of fsx, while daemons drop
// connections, answer late, refuse and change places. Each failure names its seed.
#include <fcntl.h>
#include <linux/falloc.h>

#include <doctest/doctest.h>

#include <algorithm>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

class Exerciser {
 public:
  Exerciser(uint64_t seed, uint64_t space, bool faults)
      : random_(seed),
        space_(space),
        c_(seed, {.mds = {},
                  .cacheBytes = 4 * kMiB,
                  .writeBufferBytes = 2 * kMiB,
                  .flushAge = Duration(1ms * (1 + random_.below(200)))}) {
    if (faults) injectFaults();
    handle_ = c_.create("f");
    direct_ = c_.open("f", O_RDWR | O_DIRECT);
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    check(0, model_.size() + 100);
    reopen(true);
    check(0, model_.size() + 100);
    CHECK((c_.stored("f") == model_));
    CHECK_FALSE(c_.mds.file("f").tailUnclean);
  }

 private:
  void injectFaults() {
    c_.mds.fault = [this](schema::MdsRequest::Reader) { return anyFault(); };
    c_.eachOsd([this](FakeOsd& o) {
      o.fault = [this](schema::OsdRequest::Reader) { return anyFault(); };
      o.delay = [this] {
        return faultRandom_.chance(1, 4) ? Duration(1us * faultRandom_.below(30'000)) : Duration(0);
      };
    });
  }
  Fault anyFault() {
    if (!faultRandom_.chance(1, 12)) return Fault::kNone;
    return static_cast<Fault>(1 + faultRandom_.below(3));
  }

  void step() {
    uint64_t at = random_.below(space_);
    uint64_t n = 1 + random_.below(random_.chance(1, 5) ? 3 * kMiB : 30'000);
    n = std::min(n, space_ - at);
    auto& h = random_.chance(1, 4) ? direct_ : handle_;
    switch (random_.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        std::string data = pattern(n, random_.next());
        REQUIRE(c_.write(h, at, data));
        if (model_.size() < at + n) model_.resize(at + n);
        model_.replace(at, n, data);
        break;
      }
      case 4: {
        uint64_t size = random_.chance(1, 8) ? 0 : at;
        AttrChange change;
        change.size = size;
        auto attr = c_.run(c_.fs->setattr(InodeId{c_.mds.names["f"]}, change));
        REQUIRE(attr);
        REQUIRE(attr->size == size);
        model_.resize(size);
        break;
      }
      case 5: {
        bool zero = random_.chance(1, 2), keep = !zero || random_.chance(1, 2);
        int mode =
            (zero ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) | (keep ? FALLOC_FL_KEEP_SIZE : 0);
        REQUIRE(c_.run(c_.fs->fallocate(h, mode, at, n)));
        if (!keep && model_.size() < at + n) model_.resize(at + n);
        if (at < model_.size()) {
          n = std::min(n, model_.size() - at);
          model_.replace(at, n, n, '\0');
        }
        break;
      }
      case 6:
        REQUIRE(c_.run(c_.fs->fsync(h)));
        CHECK((c_.stored("f") == model_));
        break;
      case 7:
        reopen(random_.chance(1, 4));
        break;
      case 8:
        if (random_.chance(1, 3)) c_.movePrimaries();
        c_.world.run(Duration(1ms * random_.below(100)));
        break;
      case 9: {
        auto attr = c_.run(c_.fs->getattr(InodeId{c_.mds.names["f"]}));
        REQUIRE(attr);
        REQUIRE(attr->size == model_.size());
        break;
      }
      default:
        check(at, n);
    }
  }

  void check(uint64_t at, uint64_t n) {
    auto& h = random_.chance(1, 4) ? direct_ : handle_;
    for (uint64_t end = at + n; at < end;) {
      auto piece = static_cast<uint32_t>(std::min(end - at, kMiB));
      std::string want = at < model_.size() ? model_.substr(at, piece) : "";
      REQUIRE((c_.read(h, at, piece) == want));
      at += piece;
    }
  }

  void reopen(bool remount) {
    REQUIRE(c_.run(c_.fs->flush(handle_)));
    c_.run(c_.fs->release(handle_));
    c_.run(c_.fs->release(direct_));
    handle_.reset();
    direct_.reset();
    if (remount) c_.remount();
    handle_ = c_.open("f");
    direct_ = c_.open("f", O_RDWR | O_DIRECT);
  }

  SeededRandom random_;
  SeededRandom faultRandom_{random_.next()};
  const uint64_t space_;
  FakeCluster c_;
  std::shared_ptr<Handle> handle_, direct_;
  std::string model_;
};

// One of several that work on the same file at once, each in a range of its own.
struct Worker {
  FakeCluster& c;
  std::shared_ptr<Handle> handle;
  uint64_t from, size;
  SeededRandom random;
  std::string model = std::string(size, '\0');
  bool done = false;

  static Task<void> run(Worker& w, int steps) {
    for (int i = 0; i < steps; ++i) co_await step(w);
    w.done = true;
  }
  static Task<void> step(Worker& w) {
    uint64_t at = w.random.below(w.size);
    uint64_t n = 1 + w.random.below(std::min<uint64_t>(w.size - at, 200'000));
    switch (w.random.below(8)) {
      case 0:
      case 1:
      case 2: {
        std::string data = pattern(n, w.random.next());
        CHECK(co_await w.c.fs->write(w.handle, w.from + at, w.c.bytes(data)));
        w.model.replace(at, n, data);
        break;
      }
      case 3:
        if (w.random.chance(1, 3)) {
          CHECK(co_await w.c.fs->fallocate(w.handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                           w.from + at, n));
          w.model.replace(at, n, n, '\0');
        } else {
          auto again = co_await w.c.fs->open(InodeId{w.c.mds.names["f"]}, O_RDWR);
          CHECK(again);
          if (again) co_await w.c.fs->release(again->handle);
        }
        break;
      case 4:
        CHECK(co_await w.c.fs->fsync(w.handle));
        break;
      default: {
        auto parts = co_await w.c.fs->read(w.handle, w.from + at, static_cast<uint32_t>(n));
        CHECK(parts);
        if (!parts) break;
        std::string got = join(*parts);
        got.resize(n);  // beyond the end, where nobody has written yet
        bool same = got == w.model.substr(at, n);
        CHECK_MESSAGE(same, "read " << at << "+" << n << " of the range from " << w.from);
      }
    }
  }
};

}  // namespace

TEST_CASE("random file: many at once do not disturb each other") {
  for (uint64_t seed = 300; seed < 312; ++seed) {
    CAPTURE(seed);
    FakeCluster c(
        seed, {.mds = {}, .cacheBytes = 3 * kMiB, .writeBufferBytes = 2 * kMiB, .flushAge = 30ms});
    SeededRandom random(seed);
    c.eachOsd([&](FakeOsd& o) {
      o.delay = [&] { return Duration(1us * random.below(3000)); };
      o.fault = [&](schema::OsdRequest::Reader) {
        return random.chance(1, 40) ? static_cast<Fault>(1 + random.below(3)) : Fault::kNone;
      };
    });
    auto h = c.create("f"), direct = c.open("f", O_RDWR | O_DIRECT);
    std::vector<std::unique_ptr<Worker>> workers;
    constexpr uint64_t kRange = 700'001;  // cuts pieces and blocks
    for (uint64_t i = 0; i < 6; ++i) {
      workers.push_back(std::unique_ptr<Worker>(new Worker{c, i % 3 == 2 ? direct : h,
                                                           kChunkSize - 2 * kRange + i * kRange,
                                                           kRange, SeededRandom(seed * 10 + i)}));
      c.spawn(Worker::run(*workers.back(), 150));
    }
    REQUIRE(c.world.runUntil(
        [&] { return std::ranges::all_of(workers, [](auto& w) { return w->done; }); }, 30min));
    REQUIRE(c.run(c.fs->fsync(h)));
    for (auto& w : workers) {
      std::string got;
      for (uint64_t at = 0; at < kRange; at += 100'000)
        got += c.read(h, w->from + at,
                      static_cast<uint32_t>(std::min<uint64_t>(100'000, kRange - at)));
      got.resize(kRange);
      CHECK((got == w->model));
    }
  }
}

TEST_CASE("random file: a file is a vector of bytes") {
  for (uint64_t seed = 1; seed <= 15; ++seed) {
    CAPTURE(seed);
    Exerciser(seed, 4 * kMiB, false).run(200);
  }
}

TEST_CASE("random file: and stays one while daemons fail") {
  for (uint64_t seed = 100; seed < 120; ++seed) {
    CAPTURE(seed);
    Exerciser(seed, 4 * kMiB, true).run(150);
  }
}

TEST_CASE("random file: across chunks") {
  for (uint64_t seed = 200; seed < 203; ++seed) {
    CAPTURE(seed);
    Exerciser(seed, 2 * kChunkSize + kMiB, true).run(60);
  }
}
