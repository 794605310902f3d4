// This client's copy of the cluster map, and the beat that keeps the session alive. The map is only
// a hint here: every data request carries the placement group's epoch, and an OSD with a newer one
// refuses it. One reactor thread; `session` and `stop` outlive it.
#pragma once

#include <functional>
#include <memory>
#include <set>

#include "client/core/session.h"
#include "common/cluster/cluster_map.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class MapCache {
 public:
  // `onChanged` is called after each change of the map.
  MapCache(Env& env, Session& session, Event& stop, TaskScope& scope,
           std::function<void(const ClusterMap&)> onChanged);
  MapCache(const MapCache&) = delete;
  MapCache& operator=(const MapCache&) = delete;

  // Never null; empty, with epoch 0, before the first fetch. Immutable: keep it across waits.
  [[nodiscard]] const std::shared_ptr<const ClusterMap>& map() const { return map_; }
  // Asks the MDS once for a map newer than ours; calls at the same time share one question.
  Task<Result<void>> refresh();
  // The same without waiting.
  void poke();
  // The MDS says that there is epoch `epoch`.
  void announced(MapEpoch epoch);
  // Fires when the map has changed, and when the client stops.
  [[nodiscard]] Pulse& news() { return news_; }
  // For how long what the MDS granted stands, from the moment an answered request was sent. Zero
  // until the MDS has said it.
  [[nodiscard]] Duration lease() const { return lease_; }
  // What the MDS said last: whether the pool has little room left.
  [[nodiscard]] bool nearlyFull(PoolId pool) const { return nearlyFull_.contains(pool); }
  // Sends keepalives until `stop` is set.
  Task<void> keepAlive();

 private:
  Task<void> fetchQuietly();
  Result<void> take(const InMessage& reply, bool keepalive);
  Session& session_;
  Event& stop_;
  TaskScope& scope_;
  const std::function<void(const ClusterMap&)> onChanged_;
  std::shared_ptr<const ClusterMap> map_;
  AsyncMutex fetching_;
  uint64_t fetches_ = 0;  // that have ended
  bool poked_ = false;
  Duration lease_{};
  std::set<PoolId> nearlyFull_;
  Pulse news_;
};

}  // namespace cairn::client
