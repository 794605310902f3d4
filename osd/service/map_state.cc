#include "osd/service/map_state.h"

#include <algorithm>

namespace cairn::osd {

void MapState::adopt(ClusterMap map) {
  if (map_ && map.epoch <= map_->epoch) return;
  map_ = std::make_shared<const ClusterMap>(std::move(map));
}

void MapState::renew(MapEpoch epoch, TimePoint sentAt, Duration lease) {
  if (map_ && map_->epoch == epoch)
    leaseUntil_ = std::max(leaseUntil_, sentAt + lease - lease / 20);
}

Duration MapState::leaseLeft() const {
  return leased() ? leaseUntil_ - clock_.now() : Duration{0};
}

Result<Placement> MapState::check(const Target& target, Need need) const {
  const std::string us = "osd." + std::to_string(self_.value);
  if (!leased())
    return fail(Errc::kUnavailable,
                us + ": has no lease on the cluster map: it cannot reach the MDS; try again");
  auto stale = [&](const std::string& why) {
    return fail(Errc::kStaleEpoch, us + ": " + why + " in map epoch " +
                                       std::to_string(map_->epoch.value) + "; fetch the map");
  };
  const std::string where =
      "group " + std::to_string(target.pool.value) + "." + std::to_string(target.pg.value);
  auto found = map_->group(target.pool, target.pg);
  if (!found) return stale("no " + where);
  const PlacementGroup* group = *found;
  if (target.epoch != group->epoch)
    return stale(where + " has epoch " + std::to_string(group->epoch.value) + ", not " +
                 std::to_string(target.epoch.value) + ",");
  auto me = std::find(group->osds.begin(), group->osds.end(), self_);
  if (me == group->osds.end()) return stale("not a member of " + where);
  if (need == Need::kPrimary && me != group->osds.begin())
    return stale("not the primary of " + where);
  return Placement{map_, group};
}

Result<void> MapState::checkChunk(const Placement& at, const Target& target, ChunkId chunk) {
  const Pool* pool = at.map->pool(target.pool);
  if (!chunk || pool == nullptr || pool->pgOf(chunk) != target.pg)
    return fail(Errc::kInvalid, "chunk " + std::to_string(chunk.value) +
                                    " does not live in group " + std::to_string(target.pool.value) +
                                    "." + std::to_string(target.pg.value));
  return {};
}

}  // namespace cairn::osd
