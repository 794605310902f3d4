// Connections to the other OSDs, one each, at the address that the map says.
//
// Order, which replication relies on: a request that was answered with kTimeout may still run at
// the peer. The connection is dropped then, and the peer drains it before it greets the next
// (PROTOCOL.md), so nothing sent later overtakes it.
//
// A peer that could not be reached is suspect until it answers again. One reactor thread; owns the
// clients.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "common/base/env.h"
#include "common/wire/rpc.h"
#include "osd/service/map_state.h"

namespace cairn::osd {

class Peers {
 public:
  // `env` and `map` outlive it.
  Peers(Env& env, const MapState& map, Uuid cluster);
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // An error answer comes as its Error; kUnavailable: not reached, or not heard in time; whether it
  // happened is then unknown.
  Task<Result<InMessage>> call(OsdId to, OutMessage message, Duration timeout);
  // Asks a suspect whether it serves; true when it does, and is trusted again.
  Task<bool> probe(OsdId peer, Duration timeout);

  [[nodiscard]] bool isSuspect(OsdId peer) const { return suspects_.contains(peer); }
  [[nodiscard]] const std::set<OsdId>& suspects() const { return suspects_; }
  // What it said of its room when it last answered a change; it counts for some seconds.
  void noteSpace(OsdId peer, bool nearlyFull);
  [[nodiscard]] bool isNearlyFull(OsdId peer) const;
  // After a change of the map: calls to OSDs that are down in it fail now.
  void follow();

  // Fails the waiting calls and waits until nothing runs here.
  Task<void> close();

 private:
  Task<Result<InMessage>> attempt(OsdId to, OutMessage message, Duration timeout);
  Result<std::shared_ptr<RpcClient>> client(OsdId to);
  static Task<Result<void>> verifyPeer(RpcClient& client, OsdId expected);
  static Task<void> retire(std::shared_ptr<RpcClient> client);

  Env& env_;
  const MapState& map_;
  const Uuid cluster_;
  std::map<OsdId, std::shared_ptr<RpcClient>> clients_;
  std::set<OsdId> suspects_;
  std::map<OsdId, TimePoint> saidNearlyFull_;
  bool closed_ = false;
  TaskScope scope_;
};

}  // namespace cairn::osd
