#include "common/sim/sim_node.h"

#include "common/disk/disk.h"
#include "common/kv/kv.h"
#include "common/net/network.h"
#include "common/sim/sim_disk.h"
#include "common/sim/sim_kv.h"
#include "common/sim/sim_kv_env.h"
#include "common/sim/sim_network.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

SimOp::SimOp(SimNode& node) : node_(node), id_(node.nextOp_++) {
  node_.ops_.emplace(id_, this);
  if (!node_.alive()) end(fail(node_.killedError()));
}

SimOp::~SimOp() {
  node_.ops_.erase(id_);
}

void SimOp::end(Result<void> result) {
  if (ended_) return;
  ended_ = true;
  result_ = std::move(result);
  if (handle_) node_.reactor().post(handle_);
}

void SimOp::await_suspend(std::coroutine_handle<> h) {
  handle_ = h;
  if (ended_) node_.reactor().post(h);
}

namespace {
// Buffers of a simulated process are few: what it keeps for reuse need not be much.
constexpr size_t kPoolBytes = 4u << 20;
}  // namespace

SimNode::SimNode(SimWorld& world, SimMachine& machine, uint64_t id, NodeOptions options)
    : world_(world),
      machine_(machine),
      id_(id),
      options_(std::move(options)),
      random_(world.random().next()),
      reactor_(world, id, options_.wallOffset, options_.driftPpm),
      buffers_(kPoolBytes),
      log_(reactor_.clock(), world.logFd(), options_.name, options_.logLevel),
      network_(std::make_unique<SimNetwork>(*this)),
      disk_(std::make_unique<SimDisk>(*this)),
      kvEnv_(std::make_unique<SimKvEnv>(*this, machine.kv)),
      kv_(std::make_unique<SimKvFactory>(*this)),
      tasks_(reactor_) {
  reactor_.offloadLatency = options_.offloadLatency;
}

SimNode::~SimNode() = default;

const std::string& SimNode::host() const {
  return machine_.host;
}

Env SimNode::env() {
  return Env{reactor_, random_, *network_, *disk_, *kv_, buffers_, log_, metrics_};
}

Task<Result<void>> SimNode::delay(Duration duration) {
  SimOp op(*this);
  world_.schedule(duration, [this, id = op.id()] {
    if (SimOp* o = findOp(id)) o->end();
  });
  co_return co_await op;
}

SimOp* SimNode::findOp(uint64_t id) {
  auto it = ops_.find(id);
  return it == ops_.end() ? nullptr : it->second;
}

Error SimNode::killedError() const {
  return Error(Errc::kCanceled, "process " + options_.name + " was killed");
}

void SimNode::die() {
  alive_ = false;
  log_.setComponent(options_.name + "(killed)");
  for (auto& [id, op] : ops_) op->end(fail(killedError()));
  reactor_.resume();
}

}  // namespace cairn::sim
