// The network of a simulated world: byte streams between its processes that behave as TCP does
// where it matters. Bytes arrive in order, after the link's latency, in pieces cut at random; a
// connection holds a bounded number of them, so a reader that stops stops the writer. A cut link
// loses nothing and says nothing: traffic waits (TCP would retransmit) until the link heals or,
// with LinkOptions::resetAfter, until the sender gives up. So a half-open connection shows only by
// a reset or by the caller's own timeout. A host that lost power is silent; once it is up again it
// answers traffic of old connections with a reset.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/net/network.h"
#include "common/sim/faults.h"

namespace cairn::sim {

class SimNode;
class SimOp;
class SimWorld;
struct SimMachine;
struct Connection;

// All links and connections of a world, and the harness's hold on them.
class SimFabric {
 public:
  explicit SimFabric(SimWorld& world);
  ~SimFabric();
  SimFabric(const SimFabric&) = delete;
  SimFabric& operator=(const SimFabric&) = delete;

  // The direction from one host to another; made at first use from `defaults`.
  LinkOptions& link(const std::string& from, const std::string& to);
  LinkOptions defaults;
  // From a host to itself.
  LinkOptions loopback{.latency = 5us, .jitter = 3us, .bytesPerSec = 4'000'000'000};

  void cutOneWay(const std::string& from, const std::string& to);
  void healOneWay(const std::string& from, const std::string& to);
  void cut(const std::string& a, const std::string& b);   // both ways
  void heal(const std::string& a, const std::string& b);  // both ways
  // Cuts every link between the two groups.
  void partition(const std::vector<std::string>& a, const std::vector<std::string>& b);
  void healAll();
  [[nodiscard]] bool isCut(const std::string& from, const std::string& to) const {
    return cut_.contains({from, to});
  }
  // Resets the connections between two hosts, at both ends.
  void reset(const std::string& a, const std::string& b);
  [[nodiscard]] size_t openConnections() const;

  // ---- For the simulation ----
  std::shared_ptr<Connection> makeConnection(SimNode& client, const Endpoint& to, SimNode& server);
  void nodeDied(SimNode& node, Crash how);
  void poweredOn(SimMachine& machine);
  // How long `bytes` take from one host to another now.
  Duration transit(const std::string& from, const std::string& to, size_t bytes);

 private:
  using Way = std::pair<std::string, std::string>;
  template <class F>
  void eachConnection(F f);

  SimWorld& world_;
  std::map<Way, LinkOptions> links_;
  std::map<Way, TimePoint> busyUntil_;
  std::set<Way> cut_;
  std::vector<std::weak_ptr<Connection>> connections_;
};

class SimListener final : public Listener {
 public:
  SimListener(SimNode& node, Endpoint at);
  ~SimListener() override;
  Task<Result<std::unique_ptr<Stream>>> accept() override;
  void close() override;
  [[nodiscard]] uint16_t port() const override { return at_.port; }

  // A connection that was made; false when the backlog is full.
  [[nodiscard]] bool hasRoom() const { return backlog_.size() < kBacklog; }
  void push(std::unique_ptr<Stream> stream);
  [[nodiscard]] SimNode& node() { return node_; }

 private:
  static constexpr size_t kBacklog = 128;
  SimNode& node_;
  const Endpoint at_;
  std::deque<std::unique_ptr<Stream>> backlog_;
  SimOp* acceptor_ = nullptr;
  bool closed_ = false;
};

// One process's view. Hosts are named as in SimWorld::addNode; "127.0.0.1", "localhost" and "::1"
// are the own host.
class SimNetwork final : public Network {
 public:
  explicit SimNetwork(SimNode& node) : node_(node) {}
  Task<Result<std::unique_ptr<Stream>>> connect(Endpoint to, Duration timeout) override;
  Result<std::unique_ptr<Listener>> listen(Endpoint at) override;

 private:
  SimNode& node_;
};

}  // namespace cairn::sim
