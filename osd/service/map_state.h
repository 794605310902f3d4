// What this OSD may act on: its copy of the cluster map and the lease on it.
//
// Invariant: no data request is served past the lease's end. The lease counts from when the request
// to the MDS was SENT, and the MDS counts it from when it arrived, which is later; so the MDS
// promotes others only after this OSD has stopped, whatever the two clocks read. A twentieth of the
// lease is left unused, so that a clock may also run slow by five per cent.
//
// One reactor thread. The map is immutable and shared: a coroutine that keeps a Placement keeps the
// map that it came from.
#pragma once

#include <functional>
#include <memory>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/cluster/cluster_map.h"
#include "common/reactor/clock.h"

namespace cairn::osd {

// Whom a request is for, as the sender sees it.
struct Target {
  PoolId pool;
  PgIndex pg;
  MapEpoch epoch;  // of the group
};

enum class Need : uint8_t {
  kMember,   // any OSD of the group, in sync or joining
  kPrimary,  // the first of those in sync
};

struct Placement {
  std::shared_ptr<const ClusterMap> map;
  const PlacementGroup* group = nullptr;  // inside `map`
};

class MapState {
 public:
  explicit MapState(Clock& clock) : clock_(clock) {}

  // Takes over a newer map; an older or equal one changes nothing.
  void adopt(ClusterMap map);
  // The MDS confirmed `epoch` in answer to a request sent at `sentAt`. Counts only for the map that
  // we hold. `adopted`: see MapReply.adopted.
  void renew(MapEpoch epoch, TimePoint sentAt, Duration lease, MapEpoch adopted);
  void setSelf(OsdId self) { self_ = self; }
  // Called after each adopt() and renew() that changed something but the lease's end.
  void onChange(std::function<void()> listener) { onChange_ = std::move(listener); }

  [[nodiscard]] OsdId self() const { return self_; }
  [[nodiscard]] MapEpoch epoch() const { return map_ ? map_->epoch : MapEpoch{}; }
  [[nodiscard]] const std::shared_ptr<const ClusterMap>& map() const { return map_; }
  [[nodiscard]] bool leased() const { return map_ && clock_.now() < leaseUntil_; }
  [[nodiscard]] Duration leaseLeft() const;
  // How often we were without a lease. Who finds the same number later knows that no other OSD can
  // have served in our place meanwhile, but after a map that we have seen.
  [[nodiscard]] uint64_t lapses() const { return lapses_; }
  // Every OSD that may serve has this epoch or a newer one.
  [[nodiscard]] MapEpoch adopted() const { return adopted_; }

  // May we serve this now? kUnavailable without a lease; kStaleEpoch, with our epoch in the text,
  // when the sender's map is old, or when we are not what `need` says. `target.epoch` newer than
  // our map: the caller refreshes first (see epoch()).
  [[nodiscard]] Result<Placement> check(const Target& target, Need need) const;
  // kInvalid unless `chunk` lives in the target's group.
  static Result<void> checkChunk(const Placement& at, const Target& target, ChunkId chunk);

 private:
  Clock& clock_;
  OsdId self_;
  std::shared_ptr<const ClusterMap> map_;
  TimePoint leaseUntil_{};
  uint64_t lapses_ = 0;
  MapEpoch adopted_;
  std::function<void()> onChange_;
};

}  // namespace cairn::osd
