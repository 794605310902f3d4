// Drops of pages against a kernel that gets stuck at those which are locked.
#include "client/fuse/page_drops.h"

#include <doctest/doctest.h>

#include <set>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::client;

namespace {

constexpr InodeId kFile{7};
constexpr uint64_t kPage = 4096, kPages = 16;

// Drops page by page in order, and waits for each that is locked, as Linux does.
struct Kernel {
  sim::SimWorld world{1};
  sim::SimNode& node = world.addNode("client");
  TaskScope scope{node.env().reactor};
  std::set<uint64_t> cached, locked;  // numbers of pages
  std::vector<Filesystem::PageWait> waits;
  Pulse unlocked{node.env().reactor};
  PageDrops drops{
      node.env().reactor, scope, [this](InodeId) { return waits; },
      [this](InodeId, std::shared_ptr<PageDrops::Walk> walk) { return walkThrough(walk); }};
  size_t walks = 0;

  Kernel() {
    for (uint64_t p = 0; p < kPages; ++p) cached.insert(p);
  }
  ~Kernel() {
    locked.clear();
    unlocked.fire();
    world.run(1s);
  }

  Task<void> walkThrough(std::shared_ptr<PageDrops::Walk> walk) {
    ++walks;
    for (auto [from, to] : walk->spans) {
      if (walk->superseded) co_return;
      for (uint64_t p = from / kPage; p < kPages && p * kPage < to; ++p) {
        co_await sleepFor(node.env().reactor, 1us);
        while (locked.contains(p)) co_await unlocked.wait();
        cached.erase(p);
      }
    }
  }
  // A request that fills or writes pages and waits for a lease.
  void wait(uint64_t first, uint64_t count, bool write = false) {
    for (uint64_t p = first; p < first + count; ++p) {
      locked.insert(p);
      if (!write) cached.erase(p);  // it would not be read otherwise
    }
    waits.push_back({first * kPage, (first + count) * kPage, write});
    drops.pageWait();
  }
  void answerAll() {
    waits.clear();
    locked.clear();
    unlocked.fire();
  }
  std::shared_ptr<bool> drop() {
    auto done = std::make_shared<bool>(false);
    scope.spawn([](Task<void> task, std::shared_ptr<bool> ended) -> Task<void> {
      co_await std::move(task);
      *ended = true;
    }(drops.drop(kFile), done));
    return done;
  }
};

}  // namespace

TEST_CASE("page drops: all is dropped") {
  Kernel k;
  auto done = k.drop();
  CHECK(k.drops.underWay(kFile));  // from the call on
  CHECK_FALSE(k.drops.underWay(InodeId(8)));
  k.world.run(1ms);
  CHECK(*done);
  CHECK(k.cached.empty());
  CHECK_FALSE(k.drops.underWay(kFile));
}

TEST_CASE("page drops: a page in use is waited for") {
  Kernel k;
  k.locked.insert(3);
  auto done = k.drop();
  k.world.run(1ms);
  CHECK_FALSE(*done);
  k.answerAll();
  k.world.run(1ms);
  CHECK(*done);
  CHECK(k.cached.empty());
}

TEST_CASE("page drops: what waiting requests fill is left out") {
  Kernel k;
  k.wait(0, 1);
  k.wait(9, 2);
  k.wait(10, 3);  // overlapping, as read-ahead of two processes may
  auto done = k.drop();
  k.world.run(1ms);
  CHECK(*done);
  CHECK(k.cached.empty());
  CHECK_FALSE(k.drops.underWay(kFile));
}

TEST_CASE("page drops: requests that begin to wait meanwhile are gone around") {
  Kernel k;
  k.locked.insert(2);  // so that it is known how far the drop has come
  auto done = k.drop();
  k.world.run(1ms);
  REQUIRE(k.cached.contains(5));
  for (uint64_t p : {5, 7, 8, 12}) k.wait(p, 1);
  k.locked.erase(2);
  k.unlocked.fire();
  k.world.run(5ms);
  CHECK(*done);
  CHECK(k.cached.empty());
  CHECK(k.walks == 2);             // for all that came at about the same time
  CHECK(k.drops.underWay(kFile));  // the first walk is stuck at page 5
  k.answerAll();
  k.world.run(1ms);
  CHECK_FALSE(k.drops.underWay(kFile));
}

TEST_CASE("page drops: what waits to be written is left out") {
  Kernel k;
  k.wait(6, 1, true);
  auto done = k.drop();
  k.world.run(1ms);
  CHECK(*done);
  CHECK(k.cached == std::set<uint64_t>{6});
}

TEST_CASE("page drops: one that is stuck is not waited for while a write waits") {
  Kernel k;
  k.locked.insert(2);
  auto done = k.drop();
  k.world.run(1ms);
  CHECK_FALSE(*done);
  k.wait(6, 1, true);
  k.world.run(10ms);
  CHECK_FALSE(*done);
  k.world.run(100ms);
  CHECK(*done);
  CHECK(k.drops.underWay(kFile));
  bool ended = false;
  k.scope.spawn([](Kernel& kernel, bool& out) -> Task<void> {
    co_await kernel.drops.ended(kFile);
    out = true;
  }(k, ended));
  k.world.run(1ms);
  CHECK_FALSE(ended);
  k.answerAll();
  k.world.run(1ms);
  CHECK(ended);
}
