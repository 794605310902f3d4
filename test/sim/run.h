// Random work on a whole cluster, and what every scenario asks of it: it goes on, and at rest
// everything is as it should be.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/sim/cluster_checks.h"
#include "test/sim/shared_files.h"
#include "test/sim/sim_cluster.h"
#include "test/sim/worker.h"

namespace cairn::sim::test {

// Work that goes on while the world does its worst.
class Load {
 public:
  virtual ~Load() = default;
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  SimCluster& cluster;

  // Runs the world for a while. False when the work is done, or something was wrong.
  bool go(Duration duration);
  // The work is done, or something was wrong.
  [[nodiscard]] bool over() const { return done() || !failure().empty(); }
  // Until the work is done.
  void finish();
  // Nothing was wrong so far.
  void judge() const;

 protected:
  explicit Load(SimCluster& c) : cluster(c) {}
  void mountAll();
  void unmountAll();
  // No mount is left: at rest everything must be as the files say.
  void checkAtRest(Equality equality);

 private:
  [[nodiscard]] virtual bool done() const = 0;
  [[nodiscard]] virtual const std::string& failure() const = 0;
};

// Workers on two mounts, each in a directory of its own.
class Run : public Load {
 public:
  Run(uint64_t seed, ClusterOptions options);

  // Starts `steps` operations of every worker.
  void begin(uint64_t steps);
  // What was found must be what was done.
  void verify();
  // After mounts were killed: they are there again, and nobody may hold the lock.
  void mountAgain();
  void check(Equality equality);

  [[nodiscard]] size_t workers() const { return workers_.size(); }
  [[nodiscard]] const Worker& worker(size_t i) const { return *workers_[i]; }
  [[nodiscard]] uint64_t operations() const { return shared_.operations; }

 private:
  static constexpr size_t kWorkers = 4;
  static size_t mountOf(size_t worker) { return worker % 2; }
  [[nodiscard]] bool done() const override;
  [[nodiscard]] const std::string& failure() const override { return shared_.failure; }

  SeededRandom random_;
  Shared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;  // outlive the cluster: they run on it
  SimCluster cluster_;
};

// Agents on two mounts that all work on the same files.
class SharedRun : public Load {
 public:
  SharedRun(uint64_t seed, ClusterOptions options);

  void begin(uint64_t steps);
  void check(Equality equality);

 private:
  [[nodiscard]] bool done() const override { return shared_.done(); }
  [[nodiscard]] const std::string& failure() const override { return shared_.failure(); }

  SharedFiles shared_;
  SimCluster cluster_;
};

}  // namespace cairn::sim::test
