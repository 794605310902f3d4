#include "common/cluster/health.h"

namespace cairn {

bool serves(const OsdEntry& osd, const Pool& pool) {
  return osd.in && (pool.anyClass || osd.deviceClass == pool.deviceClass);
}

PgState pgState(const ClusterMap& map, const Pool& pool, const PlacementGroup& pg) {
  const size_t inSync = pg.inSync();
  if (inSync == 0 || inSync < pool.minSize) return PgState::kUnavailable;
  const OsdEntry* primary = map.osd(pg.osds.front());
  if (primary == nullptr || !primary->up) return PgState::kUnavailable;
  if (inSync < pool.width()) return PgState::kDegraded;
  return pg.joining.empty() ? PgState::kClean : PgState::kRecovering;
}

PgCounts countPgs(const ClusterMap& map, const Pool& pool) {
  PgCounts n;
  for (const PlacementGroup& pg : pool.pgs) {
    switch (pgState(map, pool, pg)) {
      case PgState::kClean:
        ++n.clean;
        break;
      case PgState::kRecovering:
        ++n.recovering;
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
