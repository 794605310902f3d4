// One simulated process: everything a daemon gets from main(), on one simulated host. Made by
// SimWorld::addNode, which keeps it until the world ends, also after it was killed: its coroutines
// then still have to unwind. What is persistent belongs to the host (SimMachine).
//
// A killed node has no more effect on anything outside it. Its operations in flight end with
// kCanceled, and so does every later one, always posted, never inside the call: the daemon unwinds
// through its normal shutdown path. The harness calls the daemon's stop() and drains the node.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/base/buffer.h"
#include "common/base/env.h"
#include "common/base/result.h"
#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/reactor/clock.h"
#include "common/reactor/sync.h"
#include "common/sim/sim_reactor.h"

namespace cairn {
class Disk;
class KvFactory;
class Network;
}  // namespace cairn

namespace cairn::sim {

class SimKvEnv;
struct SimMachine;
class SimNode;
class SimWorld;

struct NodeOptions {
  std::string name = {};  // in logs and messages; the host's name when empty
  Duration wallOffset{};  // its wall clock against the world's
  int64_t driftPpm = 0;   // its monotonic clock against the world's
  Duration offloadLatency = 50us;
  // LevelDB's background work runs up to so long after it was asked for. Zero: at once.
  Duration kvBackgroundDelay = 5ms;
  LogLevel logLevel = LogLevel::kInfo;
};

// An operation of a node in flight: lives in the frame of the coroutine that awaits it, and is
// ended from an event of the world, or by the node's death. `co_await op` gives the first result.
class SimOp {
 public:
  explicit SimOp(SimNode& node);
  ~SimOp();
  SimOp(const SimOp&) = delete;
  SimOp& operator=(const SimOp&) = delete;

  [[nodiscard]] uint64_t id() const { return id_; }
  // Later calls do nothing.
  void end(Result<void> result = {});

  bool await_ready() const { return false; }  // never inline
  void await_suspend(std::coroutine_handle<> h);
  Result<void> await_resume() { return std::move(result_); }

 private:
  SimNode& node_;
  const uint64_t id_;
  std::coroutine_handle<> handle_;
  Result<void> result_;
  bool ended_ = false;
};

class SimNode {
 public:
  SimNode(SimWorld& world, SimMachine& machine, uint64_t id, NodeOptions options);
  ~SimNode();
  SimNode(const SimNode&) = delete;
  SimNode& operator=(const SimNode&) = delete;

  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] const std::string& host() const;
  [[nodiscard]] uint64_t id() const { return id_; }
  [[nodiscard]] const NodeOptions& options() const { return options_; }
  [[nodiscard]] SimWorld& world() { return world_; }
  [[nodiscard]] SimMachine& machine() { return machine_; }
  [[nodiscard]] bool alive() const { return alive_; }

  [[nodiscard]] Env env();
  [[nodiscard]] SimReactor& reactor() { return reactor_; }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] Network& network() { return *network_; }
  [[nodiscard]] Disk& disk() { return *disk_; }
  [[nodiscard]] KvFactory& kv() { return *kv_; }
  [[nodiscard]] SimKvEnv& kvEnv() { return *kvEnv_; }
  [[nodiscard]] BufferPool& buffers() { return buffers_; }
  [[nodiscard]] Log& log() { return log_; }
  [[nodiscard]] MetricsRegistry& metrics() { return metrics_; }

  // Starts `task` in this process. All have to end before the world does.
  void spawn(Task<void> task) { tasks_.spawn(std::move(task)); }
  // The same; what it returns is found behind the pointer once it has ended.
  template <class T>
  std::shared_ptr<std::optional<T>> start(Task<T> task) {
    auto slot = std::make_shared<std::optional<T>>();
    spawn(storeInto(std::move(task), slot));
    return slot;
  }
  [[nodiscard]] size_t running() const { return tasks_.size(); }

  // ---- For the simulation ----
  // Waits on the world's time, not the node's. kCanceled when the node dies.
  Task<Result<void>> delay(Duration duration);
  // Null when the operation has gone.
  [[nodiscard]] SimOp* findOp(uint64_t id);
  [[nodiscard]] Error killedError() const;

 private:
  friend class SimOp;
  friend class SimWorld;
  template <class T>
  static Task<void> storeInto(Task<T> task, std::shared_ptr<std::optional<T>> slot) {
    slot->emplace(co_await std::move(task));
  }
  void die();

  SimWorld& world_;
  SimMachine& machine_;
  const uint64_t id_;
  NodeOptions options_;
  bool alive_ = true;
  SeededRandom random_;
  SimReactor reactor_;
  BufferPool buffers_;
  Log log_;
  MetricsRegistry metrics_;
  std::map<uint64_t, SimOp*> ops_;  // in flight, in the order of their start
  uint64_t nextOp_ = 1;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<SimKvEnv> kvEnv_;
  std::unique_ptr<KvFactory> kv_;
  TaskScope tasks_;
};

}  // namespace cairn::sim
