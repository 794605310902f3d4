#include "osd/service/map_state.h"

#include <algorithm>

namespace cairn::osd {

void MapState::adopt(ClusterMap map) {
  if (map_ && map.epoch <= map_->epoch) return;
  map_ = std::make_shared<const ClusterMap>(std::move(map));
  if (onChange_) onChange_();
}

void MapState::renew(MapEpoch epoch, TimePoint sentAt, Duration lease, MapEpoch adopted) {
  if (!map_ || map_->epoch != epoch) return;
  const bool lapsed = !leased();
  leaseUntil_ = std::max(leaseUntil_, sentAt + lease - lease / 20);
  if (!leased()) return;  // the answer took longer than the lease
  if (lapsed) ++lapses_;
  const bool news = lapsed || adopted > adopted_;
  adopted_ = std::max(adopted_, adopted);
  if (news && onChange_) onChange_();
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
  const bool first = !group->osds.empty() && group->osds.front() == self_;
  if (need == Need::kPrimary && !first) return stale("not the primary of " + where);
  if (std::ranges::count(group->osds, self_) + std::ranges::count(group->joining, self_) == 0)
    return stale("not a member of " + where);
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
