// Another number of copies, smallest size or class for a pool in use. Data follows: members join
// where there are to be more or others, and leave when nobody who belongs there is missing. One
// epoch if something changed.
//
// Errors: kNotFound, kInvalid (not for this pool; or groups that take writes would stop to),
// kNoSpace (not enough failure domains).
#include <algorithm>
#include <string>

#include "mds/cluster/placement.h"
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/pools.h"
#include "mds/state/records.h"

namespace cairn::mds::ops {
namespace {

Result<void> change(Pool& pool, schema::PoolSet::Reader args) {
  if (args.getSetReplicas()) {
    if (pool.erasureCoded())
      return fail(Errc::kInvalid, "pool " + pool.name + " has an erasure code, which stays");
    if (args.getReplicas() == 0 || args.getReplicas() > kMaxReplicas)
      return fail(Errc::kInvalid, "1 to " + std::to_string(kMaxReplicas) + " copies");
    pool.replicas = args.getReplicas();
  }
  if (args.getSetReplicas() || args.getSetMinSize())
    TRY(setMinSize(pool, args.getSetMinSize() ? args.getMinSize() : 0));
  if (args.getSetClass()) {
    if (args.getDeviceClass() > schema::DeviceClass::HDD)
      return fail(Errc::kInvalid, "unknown device class");
    pool.deviceClass = args.getDeviceClass();
    pool.anyClass = args.getAnyClass();
  }
  return {};
}

}  // namespace

Result<void> poolSet(OpContext& ctx, schema::PoolSet::Reader args) {
  const auto name = textOf(args.getName());
  const Pool* found = ctx.cluster().map.poolByName(name);
  if (found == nullptr)
    return fail(Errc::kNotFound, "there is no pool '" + std::string(name) + "'");
  const Pool before = *found;
  ClusterState& cluster = ctx.changeCluster();
  Pool& pool = cluster.map.pools.at(before.id);
  TRY(change(pool, args));
  auto encoded = [](const Pool& p) { return encodePool({p, false, 0}); };
  if (encoded(pool) == encoded(before)) return {};

  const bool placed = std::ranges::any_of(pool.pgs, [](const auto& g) { return !g.osds.empty(); });
  if (const size_t domains = usableDomains(cluster.map, pool); placed && domains < pool.width())
    return fail(Errc::kNoSpace, "that needs " + std::to_string(pool.width()) +
                                    " failure domains, and there are " + std::to_string(domains) +
                                    ": start more cairn-osd first");
  const auto stopped = std::ranges::count_if(pool.pgs, [&](const auto& g) {
    return g.inSync() >= before.minSize && g.inSync() < pool.minSize;
  });
  if (placed && stopped > 0)
    return fail(Errc::kInvalid,
                "the smallest size of " + std::to_string(pool.minSize) + " is more than " +
                    std::to_string(stopped) +
                    " placement groups have in sync now, and writes to them would stop: go in "
                    "steps, with a min-size of at most what they have");
  newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
