// A world of simulated hosts and processes: one thread, simulated time, one seed. The same seed and
// the same calls give the same run, event by event: traceHash() proves it.
//
//   SimWorld world(seed);
//   SimNode& node = world.addNode("host1");
//   auto got = world.await(node, doSomething(node.env()));   // runs the world until it has ended
//   world.kill(node);                                        // or powerOff("host1")
//   SimNode& again = world.addNode("host1");                 // finds the host's disk and database
//
// Everything runs inside run(), runUntil(), await(), drain() and step(), on the caller's thread. A
// task that was spawned on a node must have ended before the objects it uses die, and before the
// world does: drain().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/reactor/clock.h"
#include "common/sim/faults.h"
#include "common/sim/sim_machine.h"
#include "common/sim/sim_network.h"
#include "common/sim/sim_node.h"

namespace cairn::sim {

// Simulated time starts here: far enough from zero to subtract from, and on a fixed date
// (2025-01-01 00:00 UTC).
inline constexpr TimePoint kWorldStart{std::chrono::hours(1)};
inline constexpr WallNs kWorldWallStart = 1'735'689'600'000'000'000;

// What an entry of the trace is about.
enum class TraceKind : uint8_t {
  kRun = 1,
  kNode,
  kKill,
  kPower,
  kSegment,
  kDisk,
  kKv,
  kUser,
};

struct WorldOptions {
  size_t pipeBytes = 256u << 10;  // what a connection holds in one direction, unread bytes included
  bool logToStderr = false;       // instead of logText()
};

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed, WorldOptions options = {});
  ~SimWorld();
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  [[nodiscard]] uint64_t seed() const { return seed_; }
  [[nodiscard]] TimePoint now() const { return now_; }
  [[nodiscard]] Duration elapsed() const { return now_ - kWorldStart; }
  // The one source of chance of this world.
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] bool chance(double probability);
  // A point where a test may do something unusual: fires with this probability.
  [[nodiscard]] bool buggify(double probability = 0.05) { return chance(probability); }
  [[nodiscard]] const WorldOptions& options() const { return options_; }

  // ---- Hosts and processes ----
  // The host of that name, made at first use, powered on.
  SimMachine& machine(const std::string& host);
  // Null when nobody has named it yet.
  [[nodiscard]] SimMachine* findMachine(const std::string& host);
  // A new process on `host`, which is powered on if it was off.
  SimNode& addNode(const std::string& host, NodeOptions options = {});
  [[nodiscard]] const std::vector<std::unique_ptr<SimNode>>& nodes() const { return nodes_; }
  // SIGKILL. Does nothing to a node that is dead.
  void kill(SimNode& node);
  // Kills every process of the host and loses what was not synced. The host stays silent until the
  // next addNode.
  void powerOff(const std::string& host);
  void crash(SimNode& node, Crash how);
  // Crashes in the middle of the database's work: before its `mutations`-th change of a file from
  // now on takes effect. Once.
  void crashDuringKv(SimNode& node, uint64_t mutations, Crash how);
  void pause(SimNode& node);  // SIGSTOP: the kernel goes on for it
  void resume(SimNode& node);
  [[nodiscard]] SimFabric& network() { return *fabric_; }

  // ---- Running ----
  // Runs one event; false when there is none.
  bool step();
  void run(Duration duration);
  // Runs until `predicate` holds (asked after every event); false when `limit` has passed first.
  bool runUntil(const std::function<bool()>& predicate, Duration limit);
  // Runs `task` on `node` until it has ended; nullopt when `limit` has passed first (it goes on).
  template <class T>
  std::optional<T> await(SimNode& node, Task<T> task, Duration limit = std::chrono::minutes(10));
  bool await(SimNode& node, Task<void> task, Duration limit = std::chrono::minutes(10));
  // Runs until every task that was spawned on the node has ended.
  bool drain(SimNode& node, Duration limit = std::chrono::minutes(10));
  // Calls `f` (a move of the harness: a fault, a kill) after `delay`. Dropped when the world ends.
  void after(Duration delay, std::function<void()> f);

  // ---- Trace and logs ----
  // Folds an event into the trace.
  void trace(TraceKind kind, uint64_t a, uint64_t b = 0);
  [[nodiscard]] uint64_t traceHash() const { return traceHash_; }
  [[nodiscard]] uint64_t events() const { return nextEvent_; }
  // What all nodes have logged.
  [[nodiscard]] std::string logText() const;

  // ---- For the simulation ----
  void schedule(Duration delay, std::function<void()> f) { scheduleAt(now_ + delay, std::move(f)); }
  void scheduleAt(TimePoint at, std::function<void()> f) { push(at, std::move(f), false); }
  [[nodiscard]] int logFd() const { return logFd_; }
  // `base` plus up to `jitter`.
  [[nodiscard]] Duration jittered(Duration base, Duration jitter);

 private:
  struct Queued {
    TimePoint at;
    uint64_t order;
    std::function<void()> f;
    bool harness;
    // For a heap with the earliest on top; at one instant, in the order of insertion.
    bool operator<(const Queued& o) const { return at != o.at ? at > o.at : order > o.order; }
  };
  void push(TimePoint at, std::function<void()> f, bool harness);
  void noteTimers();
  void runNext();

  const uint64_t seed_;
  const WorldOptions options_;
  TimePoint now_ = kWorldStart;
  SeededRandom random_;
  uint64_t traceHash_ = 0;
  uint64_t nextEvent_ = 0;
  uint64_t eventsAtNow_ = 0;
  int logFd_ = -1;
  std::vector<Queued> queue_;  // a heap
  std::map<std::string, std::unique_ptr<SimMachine>> machines_;
  std::unique_ptr<SimFabric> fabric_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
};

template <class T>
std::optional<T> SimWorld::await(SimNode& node, Task<T> task, Duration limit) {
  auto slot = node.start(std::move(task));
  runUntil([&slot] { return slot->has_value(); }, limit);
  return std::move(*slot);
}

}  // namespace cairn::sim
