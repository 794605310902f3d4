#include "mds/server/status.h"

#include <algorithm>

#include "common/cluster/health.h"
#include "mds/cluster/placement.h"

namespace cairn::mds {
namespace {

std::string osdName(OsdId id) {
  return "osd." + std::to_string(id.value);
}

bool serves(const OsdEntry& osd, const Pool& pool) {
  return osd.in && (pool.anyClass || osd.deviceClass == pool.deviceClass);
}

// Data bytes per byte stored.
uint64_t scaled(uint64_t raw, const Pool& pool) {
  if (pool.replicas != 0) return raw / pool.replicas;
  const uint64_t width = pool.width();
  return width == 0 ? 0 : raw / width * pool.ecData;
}

void judgeOsds(const ClusterMap& map, const std::function<Duration(OsdId)>& downFor, Health& out) {
  constexpr uint64_t kNearlyFullPercent = 90;
  for (const auto& [id, osd] : map.osds) {
    if (!osd.up) {
      out.problems.push_back(osdName(id) + " at " + osd.addr + " on " +
                             (osd.host.empty() ? "an unnamed host" : osd.host) + " is down since " +
                             std::to_string(downFor(id) / 1s) +
                             " s: start cairn-osd there again; its data is needed");
    }
    if (osd.bytesTotal > 0 && osd.bytesUsed / kNearlyFullPercent >= osd.bytesTotal / 100)
      out.problems.push_back(osdName(id) + " is " +
                             std::to_string(osd.bytesUsed / (osd.bytesTotal / 100 + 1)) +
                             " % full: delete files or add OSDs");
  }
}

}  // namespace

std::string whyNotPlaced(const ClusterMap& map, const Pool* pool) {
  if (pool == nullptr) {
    return "no pool exists yet: it is made when enough OSDs have registered (" +
           std::to_string(map.osds.size()) + " so far)";
  }
  const bool placed = std::all_of(pool->pgs.begin(), pool->pgs.end(),
                                  [](const PlacementGroup& pg) { return !pg.osds.empty(); });
  if (placed && !pool->pgs.empty()) return {};
  constexpr const char* kDomains[] = {"OSDs", "hosts", "racks"};
  const auto domain = std::min<size_t>(static_cast<size_t>(pool->failureDomain), 2);
  return "pool " + pool->name + " needs " + std::to_string(pool->width()) + " " + kDomains[domain] +
         " and has " + std::to_string(usableDomains(map, *pool)) + ": start more cairn-osd";
}

Health judge(const ClusterMap& map, const std::function<Duration(OsdId)>& downFor,
             uint64_t garbageChunks) {
  Health out;
  uint64_t unavailable = 0, degraded = 0;
  judgeOsds(map, downFor, out);
  if (map.pools.empty()) out.problems.push_back(whyNotPlaced(map, nullptr));
  for (const auto& [id, pool] : map.pools) {
    const PgCounts n = countPgs(map, pool);
    unavailable += n.unavailable;
    degraded += n.degraded;
    if (auto why = whyNotPlaced(map, &pool); !why.empty()) {
      out.problems.push_back(why);
    } else if (n.unavailable + n.degraded > 0) {
      out.problems.push_back("pool " + pool.name + ": of " + std::to_string(pool.pgs.size()) +
                             " placement groups " + std::to_string(n.unavailable) +
                             " cannot be reached and " + std::to_string(n.degraded) +
                             " take no writes until their OSDs are back");
    }
  }
  const bool anyDown =
      std::any_of(map.osds.begin(), map.osds.end(), [](const auto& o) { return !o.second.up; });
  if (anyDown && garbageChunks > 0)
    out.problems.push_back(std::to_string(garbageChunks) +
                           " deleted chunks give their space back when all OSDs are up");
  if (map.pools.empty() || unavailable > 0) {
    out.text = "unavailable";
  } else {
    out.text = degraded > 0 || anyDown ? "degraded" : "ok";
  }
  return out;
}

Capacity capacity(const ClusterMap& map, const Pool& pool) {
  uint64_t total = 0, free = 0;
  for (const auto& [id, osd] : map.osds) {
    if (!serves(osd, pool)) continue;
    total += osd.bytesTotal;
    free += osd.bytesTotal - std::min(osd.bytesUsed, osd.bytesTotal);
  }
  return {scaled(total, pool), scaled(free, pool)};
}

std::map<PoolId, uint64_t> poolBytes(const ClusterMap& map,
                                     const std::map<PoolId, uint64_t>& chunks) {
  uint64_t used = 0, shares = 0;
  for (const auto& [id, osd] : map.osds) used += osd.bytesUsed;
  auto share = [&](const Pool& pool) {
    auto it = chunks.find(pool.id);
    return it == chunks.end() ? 0 : it->second * pool.width();
  };
  for (const auto& [id, pool] : map.pools) shares += share(pool);
  std::map<PoolId, uint64_t> out;
  for (const auto& [id, pool] : map.pools) {
    const auto raw =
        shares == 0
            ? 0
            : static_cast<uint64_t>(static_cast<unsigned __int128>(used) * share(pool) / shares);
    out[id] = scaled(raw, pool);
  }
  return out;
}

}  // namespace cairn::mds
