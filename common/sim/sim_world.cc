#include "common/sim/sim_world.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "common/base/assert.h"

namespace cairn::sim {

namespace {

// More events than this without time moving on are a loop that does not wait.
constexpr uint64_t kMaxEventsAtOneInstant = 5'000'000;
// How long the nodes of a dying world get to unwind.
constexpr Duration kUnwindLimit = std::chrono::hours(1);

}  // namespace

SimWorld::SimWorld(uint64_t seed, WorldOptions options)
    : seed_(seed),
      options_(options),
      random_(seed),
      logFd_(options.logToStderr ? STDERR_FILENO : ::memfd_create("sim-log", MFD_CLOEXEC)),
      fabric_(std::make_unique<SimFabric>(*this)) {
  CAIRN_ASSERT(logFd_ >= 0, "memory for the logs of a simulated world");
}

SimWorld::~SimWorld() {
  // What the harness still had in mind refers to its own objects, which may be gone.
  std::erase_if(queue_, [](const Queued& q) { return q.harness; });
  std::make_heap(queue_.begin(), queue_.end());
  auto idle = [this] {
    return std::ranges::all_of(nodes_, [](const auto& n) { return n->running() == 0; });
  };
  if (!idle()) {
    for (auto& node : nodes_) kill(*node);
    runUntil(idle, kUnwindLimit);
    if (!idle())
      std::fprintf(stderr, "simulated world of seed %lu: tasks that never ended\n", seed_);
  }
  if (!options_.logToStderr) ::close(logFd_);
}

bool SimWorld::chance(double probability) {
  if (probability <= 0) return false;  // a fault that is off leaves the run as it is
  return static_cast<double>(random_.next() >> 11) * 0x1p-53 < probability;
}

Duration SimWorld::jittered(Duration base, Duration jitter) {
  if (jitter <= Duration::zero()) return base;
  return base + Duration(random_.below(static_cast<uint64_t>(jitter.count())));
}

// ---- Hosts and processes ----

SimMachine& SimWorld::machine(const std::string& host) {
  auto& m = machines_[host];
  if (!m) m = std::make_unique<SimMachine>(*this, host);
  return *m;
}

SimMachine* SimWorld::findMachine(const std::string& host) {
  auto it = machines_.find(host);
  return it == machines_.end() ? nullptr : it->second.get();
}

SimNode& SimWorld::addNode(const std::string& host, NodeOptions options) {
  SimMachine& m = machine(host);
  if (options.name.empty()) options.name = host;
  const uint64_t id = nodes_.size();
  trace(TraceKind::kNode, id);
  nodes_.push_back(std::make_unique<SimNode>(*this, m, id, std::move(options)));
  if (!m.powered) {
    m.powered = true;
    fabric_->poweredOn(m);
  }
  return *nodes_.back();
}

void SimWorld::kill(SimNode& node) {
  if (!node.alive()) return;
  trace(TraceKind::kKill, node.id());
  node.alive_ = false;  // first: nothing below may still act for it
  node.kvEnv().freeze();
  node.machine().disk.abandon(node);
  fabric_->nodeDied(node, Crash::kProcess);
  node.die();
}

void SimWorld::powerOff(const std::string& host) {
  SimMachine& m = machine(host);
  if (!m.powered) return;
  trace(TraceKind::kPower, m.host.size());
  m.powered = false;
  for (auto& node : nodes_) {
    if (&node->machine() != &m || !node->alive()) continue;
    node->alive_ = false;
    node->kvEnv().freeze();
    fabric_->nodeDied(*node, Crash::kPower);
  }
  m.disk.losePower();
  m.kv.losePower();
  for (auto& node : nodes_)
    if (&node->machine() == &m) node->die();
}

void SimWorld::crash(SimNode& node, Crash how) {
  if (how == Crash::kProcess)
    kill(node);
  else
    powerOff(node.host());
}

void SimWorld::crashDuringKv(SimNode& node, uint64_t mutations, Crash how) {
  node.kvEnv().beforeMutation(mutations, [this, &node, how] { crash(node, how); });
}

void SimWorld::pause(SimNode& node) {
  if (node.alive()) node.reactor().pause();
}

void SimWorld::resume(SimNode& node) {
  node.reactor().resume();
}

// ---- Running ----

void SimWorld::push(TimePoint at, std::function<void()> f, bool harness) {
  queue_.push_back({std::max(at, now_), nextEvent_++, std::move(f), harness});
  std::push_heap(queue_.begin(), queue_.end());
}

void SimWorld::after(Duration delay, std::function<void()> f) {
  push(now_ + delay, std::move(f), true);
}

void SimWorld::noteTimers() {
  for (auto& node : nodes_) node->reactor().noteTimers();
}

bool SimWorld::step() {
  noteTimers();
  if (queue_.empty()) return false;
  runNext();
  return true;
}

void SimWorld::runNext() {
  std::pop_heap(queue_.begin(), queue_.end());
  Queued next = std::move(queue_.back());
  queue_.pop_back();
  eventsAtNow_ = next.at == now_ ? eventsAtNow_ + 1 : 0;
  if (eventsAtNow_ > kMaxEventsAtOneInstant) {
    std::fprintf(stderr, "simulated world of seed %lu: time stands still at %+.6f s\n", seed_,
                 static_cast<double>(elapsed().count()) / 1e9);
    CAIRN_ASSERT(false, "no coroutine loops without waiting");
  }
  now_ = next.at;
  next.f();
  if (next.harness) noteTimers();  // it may have made objects that armed some
}

void SimWorld::run(Duration duration) {
  const TimePoint end = now_ + duration;
  noteTimers();
  while (!queue_.empty() && queue_.front().at <= end) runNext();
  now_ = end;
}

bool SimWorld::runUntil(const std::function<bool()>& predicate, Duration limit) {
  const TimePoint end = now_ + limit;
  noteTimers();
  while (!predicate()) {
    if (queue_.empty() || queue_.front().at > end) {
      now_ = end;
      return false;
    }
    runNext();
  }
  return true;
}

bool SimWorld::await(SimNode& node, Task<void> task, Duration limit) {
  auto done = std::make_shared<bool>(false);
  struct Run {
    static Task<void> then(Task<void> task, std::shared_ptr<bool> done) {
      co_await std::move(task);
      *done = true;
    }
  };
  node.spawn(Run::then(std::move(task), done));
  return runUntil([&done] { return *done; }, limit);
}

bool SimWorld::drain(SimNode& node, Duration limit) {
  return runUntil([&node] { return node.running() == 0; }, limit);
}

// ---- Trace and logs ----

void SimWorld::trace(TraceKind kind, uint64_t a, uint64_t b) {
  for (uint64_t v : {static_cast<uint64_t>(kind),
                     static_cast<uint64_t>(now_.time_since_epoch().count()), a, b}) {
    traceHash_ = (traceHash_ ^ v) * 0x9e3779b97f4a7c15u;
    traceHash_ ^= traceHash_ >> 29;
  }
}

std::string SimWorld::logText() const {
  std::string text;
  if (options_.logToStderr) return text;
  char buf[16384];
  for (ssize_t n; (n = ::pread(logFd_, buf, sizeof buf, static_cast<off_t>(text.size()))) > 0;)
    text.append(buf, static_cast<size_t>(n));
  return text;
}

}  // namespace cairn::sim
