// What the scenarios share: random work on a whole cluster, and what the world does to it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "test/sim/cluster_checks.h"
#include "test/sim/sim_cluster.h"
#include "test/sim/worker.h"

namespace cairn::sim::test {

// The number in an environment variable.
std::optional<uint64_t> numberOf(const char* variable);

// Runs `scenario` once for each seed: CAIRN_SEED, or CAIRN_SEEDS of them, or `usual`.
void forSeeds(uint64_t usual, const std::function<void(uint64_t)>& scenario);

// A cluster and the workers on its mounts.
class Run {
 public:
  explicit Run(uint64_t seed)
      : Run(seed, {.osds = 3, .replicas = static_cast<uint16_t>(2 + seed % 2), .clients = 2}) {}
  Run(uint64_t seed, ClusterOptions options) : random_(seed ^ 0x5eed), cluster(seed, options) {
    mountAll();
    for (size_t i = 0; i < kWorkers; ++i) {
      workers_.push_back(std::make_unique<Worker>(shared_, static_cast<int>(i), random_.next()));
      const size_t m = mountOf(i);
      REQUIRE(cluster.world.await(cluster.clientNode(m),
                                  workers_[i]->prepare(cluster.clientEnv(m), cluster.fs(m))));
    }
    judge();
  }

  // Starts `steps` operations of every worker.
  void begin(uint64_t steps) {
    for (size_t i = 0; i < kWorkers; ++i) {
      const size_t m = mountOf(i);
      cluster.clientNode(m).spawn(
          workers_[i]->run(cluster.clientEnv(m), cluster.fs(m), cluster.fs(1 - m), steps));
    }
    cluster.world.run(1ms);  // all have begun
  }
  // Runs the world for a while. False when the workers are done.
  bool go(Duration duration) {
    cluster.world.runUntil([this] { return done(); }, duration);
    return !done() && shared_.failure.empty();
  }
  void finish() {
    const bool ended = cluster.world.runUntil([this] { return done(); }, 30min);
    judge();
    REQUIRE_MESSAGE(ended, "the workers hang");
  }
  // What was found must be what was done.
  void verify() {
    for (size_t i = 0; i < kWorkers; ++i) {
      const size_t m = mountOf(i);
      const bool ended = cluster.world.await(
          cluster.clientNode(m), workers_[i]->verify(cluster.clientEnv(m), cluster.fs(m)), 30min);
      judge();
      REQUIRE_MESSAGE(ended, "verification hangs");
    }
  }
  void judge() { REQUIRE_MESSAGE(shared_.failure.empty(), shared_.failure); }

  void mountAll() {
    for (size_t m = 0; m < 2; ++m) cluster.mount(m);
  }
  void unmountAll() {
    for (size_t m = 0; m < 2; ++m) cluster.unmount(m);
  }
  // After mounts were killed: the lock may be held by nobody.
  void breakLock() {
    shared_.lockHolders = 0;
    auto gone = cluster.world.await(cluster.clientNode(0), cluster.fs(0).rmdir(kRootInode, "lock"));
    REQUIRE(gone.has_value());
    if (!*gone) REQUIRE(gone->error().code == Errc::kNotFound);
  }
  // At rest everything must be as the files say.
  void check(Equality equality) {
    unmountAll();
    mountAll();
    verify();
    unmountAll();
    checkDrained(cluster);
    checkState(cluster);
    checkReplicas(cluster, equality);
    checkStores(cluster);
  }

  [[nodiscard]] uint64_t operations() const { return shared_.operations; }

 private:
  static constexpr size_t kWorkers = 4;
  static size_t mountOf(size_t worker) { return worker % 2; }
  [[nodiscard]] bool done() const {
    return std::ranges::all_of(workers_, [](const auto& w) { return w->done(); });
  }

  SeededRandom random_;
  Shared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;  // outlive the cluster: they run on it

 public:
  SimCluster cluster;
};

// ---- What the world does ----

Duration upTo(SimWorld& world, Duration most);
// SIGKILL of a daemon at a random moment, and its restart some time later.
void killDaemon(Run& run);
// A fault of the network, or a process that stands still, for up to `most`.
void disturb(Run& run, Duration most);

// In the middle of a change of a stripe, if one is made soon; at once in a cluster without them.
void untilStaged(Run& run);
// Different ones, at random.
std::vector<size_t> someOsds(SimCluster& cluster, size_t count);
// These OSDs die or stand still, each one or the other, while `meanwhile` goes on, and return.
void sendAway(SimCluster& cluster, const std::vector<size_t>& which,
              const std::function<void()>& meanwhile);
// Up to `most` OSDs at once are away for longer than their lease, while the rest goes on.
void longAbsence(Run& run, size_t most);

// ---- What an administrator does ----

void putIn(SimCluster& cluster, OsdId osd, bool in);
void removeOsd(SimCluster& cluster, OsdId osd, bool force = false);

}  // namespace cairn::sim::test
