#include "common/cluster/health.h"

namespace cairn {

PgState pgState(const ClusterMap& map, const PlacementGroup& pg) {
  if (pg.osds.empty()) return PgState::kUnavailable;
  PgState state = PgState::kClean;
  for (OsdId id : pg.osds) {
    const OsdEntry* osd = map.osd(id);
    if (osd != nullptr && osd->up) continue;
    if (id == pg.osds.front()) return PgState::kUnavailable;
    state = PgState::kDegraded;
  }
  return state;
}

PgCounts countPgs(const ClusterMap& map, const Pool& pool) {
  PgCounts n;
  for (const PlacementGroup& pg : pool.pgs) {
    switch (pgState(map, pg)) {
      case PgState::kClean:
        ++n.clean;
        break;
      case PgState::kDegraded:
        ++n.degraded;
        break;
      case PgState::kUnavailable:
        ++n.unavailable;
        break;
    }
  }
  return n;
}

}  // namespace cairn
