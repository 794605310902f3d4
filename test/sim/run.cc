#include "test/sim/run.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace cairn::sim::test {
namespace {

constexpr size_t kMounts = 2;

}  // namespace

// ---- Load ----

bool Load::go(Duration duration) {
  cluster.world.runUntil([this] { return over(); }, duration);
  return !over();
}

void Load::judge() const {
  REQUIRE_MESSAGE(failure().empty(), failure());
}

void Load::finish() {
  const bool ended = cluster.world.runUntil([this] { return done() || !failure().empty(); }, 30min);
  judge();
  REQUIRE_MESSAGE(ended, "the work hangs");
}

void Load::mountAll() {
  for (size_t m = 0; m < kMounts; ++m) cluster.mount(m);
}

void Load::unmountAll() {
  for (size_t m = 0; m < kMounts; ++m) cluster.unmount(m);
}

void Load::checkAtRest(Equality equality) {
  checkDrained(cluster);
  checkState(cluster);
  checkReplicas(cluster, equality);
  checkStores(cluster);
}

// ---- Run ----

Run::Run(uint64_t seed, ClusterOptions options)
    : Load(cluster_), random_(seed ^ 0x5eed), cluster_(seed, options) {
  mountAll();
  for (size_t i = 0; i < kWorkers; ++i) {
    workers_.push_back(std::make_unique<Worker>(shared_, static_cast<int>(i), random_.next()));
    const size_t m = mountOf(i);
    REQUIRE(cluster.world.await(cluster.clientNode(m),
                                workers_[i]->prepare(cluster.clientEnv(m), cluster.fs(m))));
  }
  judge();
}

bool Run::done() const {
  return std::ranges::all_of(workers_, [](const auto& w) { return w->done(); });
}

void Run::begin(uint64_t steps) {
  for (size_t i = 0; i < kWorkers; ++i) {
    const size_t m = mountOf(i);
    cluster.clientNode(m).spawn(
        workers_[i]->run(cluster.clientEnv(m), cluster.fs(m), cluster.fs(1 - m), steps));
  }
  cluster.world.run(1ms);  // all have begun
}

void Run::verify() {
  for (size_t i = 0; i < kWorkers; ++i) {
    const size_t m = mountOf(i);
    const bool ended = cluster.world.await(
        cluster.clientNode(m), workers_[i]->verify(cluster.clientEnv(m), cluster.fs(m)), 30min);
    judge();
    REQUIRE_MESSAGE(ended, "verification hangs");
  }
}

void Run::mountAgain() {
  mountAll();
  shared_.lockHolders = 0;
  auto gone = cluster.world.await(cluster.clientNode(0), cluster.fs(0).rmdir(kRootInode, "lock"));
  REQUIRE(gone.has_value());
  if (!*gone) REQUIRE(gone->error().code == Errc::kNotFound);
}

void Run::check(Equality equality) {
  unmountAll();
  mountAll();
  verify();
  unmountAll();
  checkAtRest(equality);
}

// ---- SharedRun ----

SharedRun::SharedRun(uint64_t seed, ClusterOptions options)
    : Load(cluster_), shared_(seed ^ 0x5ba2ed), cluster_(seed, options) {
  mountAll();
  REQUIRE(cluster.world.await(cluster.clientNode(0),
                              shared_.prepare(cluster.clientEnv(0), cluster.fs(0))));
  judge();
}

void SharedRun::begin(uint64_t steps) {
  for (size_t i = 0; i < SharedFiles::kAgents; ++i) {
    const size_t m = i % kMounts;
    cluster.clientNode(m).spawn(shared_.run(i, cluster.clientEnv(m), cluster.fs(m), steps));
  }
  cluster.world.run(1ms);  // all have begun
}

void SharedRun::check(Equality equality) {
  for (size_t m = 0; m < kMounts; ++m) {
    REQUIRE(cluster.world.await(cluster.clientNode(m),
                                shared_.verify(cluster.clientEnv(m), cluster.fs(m))));
    judge();
  }
  unmountAll();
  checkAtRest(equality);
}

}  // namespace cairn::sim::test
