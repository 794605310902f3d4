#include "mds/server/victims.h"

#include <doctest/doctest.h>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::mds;

namespace {

Task<void> hold(NameLocks& locks, Reactor& reactor, Caller& caller, std::string key, int id,
                std::vector<int>& order, Duration time) {
  auto guard = co_await locks.lock(std::move(key), caller);
  if (!guard) {
    order.push_back(100 + id);
    co_return;
  }
  order.push_back(id);
  co_await sleepFor(reactor, time);
  order.push_back(-id);
}

Task<void> pass(RemovalGate& gate, InodeId ino, bool& passed) {
  co_await gate.passed(ino);
  passed = true;
}

}  // namespace

TEST_CASE("holders of one name follow each other in order, other names do not wait") {
  sim::SimWorld world(1);
  auto& node = world.addNode("h");
  NameLocks locks(node.reactor());
  Caller caller;
  std::vector<int> order;
  const auto a = NameLocks::key(InodeId{1}, "a"), b = NameLocks::key(InodeId{2}, "a");
  CHECK(a != b);
  node.spawn(hold(locks, node.reactor(), caller, a, 1, order, 10ms));
  node.spawn(hold(locks, node.reactor(), caller, a, 2, order, 10ms));
  node.spawn(hold(locks, node.reactor(), caller, b, 3, order, 5ms));
  node.spawn(hold(locks, node.reactor(), caller, a, 4, order, 10ms));
  CHECK(world.drain(node));
  CHECK(order == std::vector<int>{1, 3, -3, -1, 2, -2, 4, -4});
  CHECK(locks.held() == 0);
}

TEST_CASE("whoever waits for a name stops when its caller is gone, and others get their turn") {
  sim::SimWorld world(1);
  auto& node = world.addNode("h");
  NameLocks locks(node.reactor());
  Caller stays, leaves;
  std::vector<int> order;
  const auto a = NameLocks::key(InodeId{1}, "a");
  node.spawn(hold(locks, node.reactor(), stays, a, 1, order, 10ms));
  node.spawn(hold(locks, node.reactor(), leaves, a, 2, order, 10ms));
  node.spawn(hold(locks, node.reactor(), stays, a, 3, order, 10ms));
  world.run(1ms);
  leaves.leave();
  node.spawn(hold(locks, node.reactor(), leaves, a, 4, order, 10ms));
  CHECK(world.drain(node));
  CHECK(order == std::vector<int>{1, 102, 104, -1, 3, -3});
  CHECK(locks.held() == 0);
}

TEST_CASE("a caller that waits for too much is told to come again, and others are not") {
  sim::SimWorld world(1);
  auto& node = world.addNode("h");
  NameLocks locks(node.reactor());
  Caller greedy, modest;
  std::vector<int> order;
  const auto a = NameLocks::key(InodeId{1}, "a");
  const int many = static_cast<int>(Caller::kMaxWaits);
  node.spawn(hold(locks, node.reactor(), modest, a, 0, order, 10ms));
  for (int i = 1; i <= many; ++i) node.spawn(hold(locks, node.reactor(), greedy, a, 1, order, 0ms));
  world.run(1ms);
  CHECK(greedy.mayWait().error().code == Errc::kBusyTryLater);
  CHECK(modest.mayWait());
  node.spawn(hold(locks, node.reactor(), greedy, a, 2, order, 0ms));
  world.run(1ms);
  CHECK(order.back() == 102);
  CHECK(world.drain(node));
  CHECK(greedy.mayWait());
}

TEST_CASE("an inode is passed when its last removal is over") {
  sim::SimWorld world(1);
  auto& node = world.addNode("h");
  RemovalGate gate(node.reactor());
  bool passed = false, other = false;
  {
    auto first = gate.enter(InodeId{1});
    {
      auto second = gate.enter(InodeId{1});
      node.spawn(pass(gate, InodeId{1}, passed));
      node.spawn(pass(gate, InodeId{2}, other));
      world.run(1ms);
      CHECK(other);
      CHECK_FALSE(passed);
    }
    world.run(1ms);
    CHECK_FALSE(passed);
  }
  CHECK(world.drain(node));
  CHECK(passed);
}
