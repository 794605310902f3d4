#include "common/sim/sim_network.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/sim/sim_connection.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

namespace {

constexpr Duration kSynRetry = 1s;
constexpr size_t kPruneAbove = 256;  // connections remembered before the ended ones are dropped

bool isOwnHost(const std::string& host) {
  return host.empty() || host == "127.0.0.1" || host == "localhost" || host == "::1";
}

}  // namespace

// ---- SimFabric ----

SimFabric::SimFabric(SimWorld& world) : world_(world) {}
SimFabric::~SimFabric() = default;

LinkOptions& SimFabric::link(const std::string& from, const std::string& to) {
  return links_.try_emplace({from, to}, from == to ? loopback : defaults).first->second;
}

Duration SimFabric::transit(const std::string& from, const std::string& to, size_t bytes) {
  const LinkOptions& o = link(from, to);
  // The link sends one segment after the other.
  TimePoint& busy = busyUntil_[{from, to}];
  busy = std::max(busy, world_.now());
  if (o.bytesPerSec != 0)
    busy +=
        Duration(static_cast<int64_t>(bytes) * 1'000'000'000 / static_cast<int64_t>(o.bytesPerSec));
  return busy - world_.now() + world_.jittered(o.latency + o.clog, o.jitter);
}

template <class F>
void SimFabric::eachConnection(F f) {
  for (size_t i = 0; i < connections_.size(); ++i)
    if (auto c = connections_[i].lock()) f(*c);
}

void SimFabric::cutOneWay(const std::string& from, const std::string& to) {
  cut_.insert({from, to});
}

void SimFabric::healOneWay(const std::string& from, const std::string& to) {
  if (cut_.erase({from, to}) == 0) return;
  eachConnection([&](Connection& c) {
    for (int i : {0, 1})
      if (c.hostOf(i) == from && c.hostOf(1 - i) == to) c.unstall(i);
  });
}

void SimFabric::cut(const std::string& a, const std::string& b) {
  cutOneWay(a, b);
  cutOneWay(b, a);
}

void SimFabric::heal(const std::string& a, const std::string& b) {
  healOneWay(a, b);
  healOneWay(b, a);
}

void SimFabric::partition(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  for (const auto& x : a)
    for (const auto& y : b)
      if (x != y) cut(x, y);
}

void SimFabric::healAll() {
  const auto cut = cut_;
  for (const auto& [from, to] : cut) healOneWay(from, to);
}

void SimFabric::reset(const std::string& a, const std::string& b) {
  eachConnection([&](Connection& c) {
    for (int i : {0, 1})
      if (c.hostOf(i) == a && c.hostOf(1 - i) == b) {
        const Error error(Errc::kUnavailable,
                          "connection between " + a + " and " + b + " was reset");
        c.breakSide(0, error);
        c.breakSide(1, error);
        return;
      }
  });
}

size_t SimFabric::openConnections() const {
  return static_cast<size_t>(std::ranges::count_if(connections_, [](const auto& w) {
    auto c = w.lock();
    return c && !(c->side[0].closed && c->side[1].closed);
  }));
}

std::shared_ptr<Connection> SimFabric::makeConnection(SimNode& client, const Endpoint& to,
                                                      SimNode& server) {
  if (connections_.size() >= kPruneAbove)
    std::erase_if(connections_, [](const auto& w) { return w.expired(); });
  auto c = std::make_shared<Connection>(world_, *this);
  c->side[0].node = &client;
  c->side[0].name = Endpoint{client.host(), client.machine().nextPort++}.text();
  c->side[1].node = &server;
  c->side[1].name = to.text();
  connections_.push_back(c);
  return c;
}

void SimFabric::nodeDied(SimNode& node, Crash how) {
  auto& ports = node.machine().ports;
  for (auto it = ports.begin(); it != ports.end();)
    it = &it->second->node() == &node ? ports.erase(it) : std::next(it);
  eachConnection([&](Connection& c) {
    for (int i : {0, 1}) {
      if (c.side[i].node != &node || c.side[i].closed) continue;
      const bool broken = c.side[i].broken.has_value();
      c.side[i].closed = true;
      c.pipe[1 - i].dropUnread();
      if (how == Crash::kPower) {
        c.pipe[i].dropInFlight();
      } else if (!broken) {
        // The kernel closes its sockets: with a reset if something was unread, else with the end of
        // the stream after what it had taken. Either may be.
        if (world_.random().below(2) == 0)
          c.sendReset(i);
        else
          c.send(i, {Segment::Kind::kEnd, {}});
      }
    }
  });
}

void SimFabric::poweredOn(SimMachine& machine) {
  eachConnection([&](Connection& c) {
    for (int i : {0, 1})
      if (&c.side[1 - i].node->machine() == &machine) c.unstall(i);
  });
}

// ---- SimListener ----

SimListener::SimListener(SimNode& node, Endpoint at) : node_(node), at_(std::move(at)) {
  node.machine().ports[at_.port] = this;
}

SimListener::~SimListener() {
  close();
  CAIRN_ASSERT(acceptor_ == nullptr, "a listener outlives its accept");
}

void SimListener::close() {
  if (closed_) return;
  closed_ = true;
  auto& ports = node_.machine().ports;
  if (auto it = ports.find(at_.port); it != ports.end() && it->second == this) ports.erase(it);
  backlog_.clear();
  if (acceptor_ != nullptr)
    acceptor_->end(fail(Errc::kCanceled, "the listener on " + at_.text() + " is closed"));
}

void SimListener::push(std::unique_ptr<Stream> stream) {
  backlog_.push_back(std::move(stream));
  if (acceptor_ != nullptr) acceptor_->end();
}

Task<Result<std::unique_ptr<Stream>>> SimListener::accept() {
  CAIRN_ASSERT(acceptor_ == nullptr, "one accept at a time per listener");
  while (!closed_) {
    SimOp op(node_);
    if (!backlog_.empty()) op.end();
    acceptor_ = &op;
    Result<void> waited = co_await op;
    acceptor_ = nullptr;
    CO_TRY(std::move(waited));
    if (backlog_.empty()) continue;
    auto stream = std::move(backlog_.front());
    backlog_.pop_front();
    co_return stream;
  }
  co_return fail(Errc::kCanceled, "the listener on " + at_.text() + " is closed");
}

// ---- SimNetwork ----

Task<Result<std::unique_ptr<Stream>>> SimNetwork::connect(Endpoint to, Duration timeout) {
  SimWorld& world = node_.world();
  SimFabric& fabric = world.network();
  const std::string here = node_.host();
  if (isOwnHost(to.host)) to.host = here;
  const std::string what = "cannot connect to " + to.text();
  const TimePoint deadline = world.now() + timeout;
  for (;;) {
    const Duration there = fabric.transit(here, to.host, 0);
    if (world.now() + there > deadline) {
      CO_TRY(co_await node_.delay(deadline - world.now()));
      co_return fail(Errc::kTimeout, what + ": no answer");
    }
    CO_TRY(co_await node_.delay(there));
    SimMachine* found = world.findMachine(to.host);
    if (found == nullptr) co_return fail(Errc::kUnavailable, what + ": no such host");
    SimMachine& machine = *found;
    if (machine.powered && !fabric.isCut(here, to.host)) {
      auto port = machine.ports.find(to.port);
      const Duration back = fabric.transit(to.host, here, 0);
      const bool answered = !fabric.isCut(to.host, here) && world.now() + back <= deadline;
      if (port == machine.ports.end()) {
        if (answered) {
          CO_TRY(co_await node_.delay(back));
          co_return fail(Errc::kUnavailable, what + ": connection refused");
        }
      } else if (answered && port->second->hasRoom()) {
        auto connection = fabric.makeConnection(node_, to, port->second->node());
        auto stream = std::make_unique<SimStream>(connection, 0);
        port->second->push(std::make_unique<SimStream>(connection, 1));
        CO_TRY(co_await node_.delay(back));
        co_return std::unique_ptr<Stream>(std::move(stream));
      }
    }
    CO_TRY(co_await node_.delay(std::min(kSynRetry, deadline - world.now())));
  }
}

Result<std::unique_ptr<Listener>> SimNetwork::listen(Endpoint at) {
  if (!node_.alive()) return fail(node_.killedError());
  SimMachine& machine = node_.machine();
  if (at.host != node_.host() && !isOwnHost(at.host) && at.host != "0.0.0.0" && at.host != "::")
    return fail(Errc::kInvalid,
                "cannot listen on " + at.text() + ": it is no address of " + node_.host());
  if (at.port == 0) {
    while (machine.ports.contains(machine.nextPort)) ++machine.nextPort;
    at.port = machine.nextPort++;
  }
  if (machine.ports.contains(at.port))
    return fail(Errc::kBusy, "cannot listen on " + at.text() + ": port " + std::to_string(at.port) +
                                 " is in use");
  return std::make_unique<SimListener>(node_, std::move(at));
}

}  // namespace cairn::sim
