#include "mds/server/status.h"

#include <algorithm>

#include "common/cluster/health.h"
#include "mds/cluster/placement.h"

namespace cairn::mds {
namespace {

std::string osdName(OsdId id) {
  return "osd." + std::to_string(id.value);
}

// Data bytes per byte stored.
uint64_t scaled(uint64_t raw, const Pool& pool) {
  if (pool.replicas != 0) return raw / pool.replicas;
  const uint64_t width = pool.width();
  return width == 0 ? 0 : raw / width * pool.ecData;
}

// Whether a group can do nothing before an OSD of its lists that is down is back.
bool waitsFor(const ClusterMap& map, const Pool& pool, const PlacementGroup& pg, OsdId id) {
  auto in = [id](const auto& list) { return std::ranges::find(list, id) != list.end(); };
  if (in(pg.osds)) return true;
  if (!in(pg.complete)) return false;
  PlacementGroup up = pg;
  std::erase_if(up.osds, [&map](OsdId member) {
    const OsdEntry* osd = map.osd(member);
    return osd == nullptr || !osd->up;
  });
  return up.inSync() < pool.needed();
}

// Of an OSD that is down: what becomes of what it held.
std::string whatFollows(const ClusterMap& map, OsdId id, const OsdEntry& osd) {
  size_t needing = 0;
  std::string pools;
  for (const auto& [poolId, pool] : map.pools) {
    size_t here = 0;
    for (const PlacementGroup& pg : pool.pgs) here += waitsFor(map, pool, pg, id) ? 1 : 0;
    if (here == 0) continue;
    needing += here;
    pools += (pools.empty() ? "" : ", ") + pool.name;
  }
  if (needing > 0)
    return ": " + std::to_string(needing) + " placement groups of " + pools +
           " wait for what it holds; start cairn-osd there again";
  if (osd.autoOut) return ", for too long: others get what it held; start it again or remove it";
  if (!osd.in) return "; it is out, and nothing waits for it";
  return ": others serve what it held; start cairn-osd there again";
}

// Which of a pool's groups lack something; empty if none does. That data moves is no problem.
std::string judgePool(const Pool& pool, const PgCounts& n) {
  std::string text;
  auto say = [&](uint32_t groups, const char* what) {
    if (groups > 0)
      text += (text.empty() ? "" : ", ") + std::to_string(groups) + " " + std::string(what);
  };
  say(n.unavailable, "take no writes until OSDs are back");
  say(n.degraded, pool.erasureCoded() ? "have fewer shards than they should"
                                      : "have fewer copies than they should");
  if (text.empty()) return text;
  return "pool " + pool.name + ": of " + std::to_string(pool.pgs.size()) + " placement groups " +
         text;
}

void judgeOsds(const ClusterMap& map, const std::function<Duration(OsdId)>& downFor, Health& out) {
  constexpr uint64_t kNearlyFullPercent = 90;
  for (const auto& [id, osd] : map.osds) {
    if (!osd.up) {
      out.problems.push_back(osdName(id) + " at " + osd.addr + " on " +
                             (osd.host.empty() ? "an unnamed host" : osd.host) + " is down since " +
                             std::to_string(downFor(id) / 1s) + " s" + whatFollows(map, id, osd));
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
    auto why = whyNotPlaced(map, &pool);
    if (why.empty()) why = judgePool(pool, n);
    if (!why.empty()) out.problems.push_back(why);
  }
  // One that is out and that nothing waits for is no part of the cluster's health.
  const bool anyDown = std::any_of(map.osds.begin(), map.osds.end(), [](const auto& o) {
    return !o.second.up && (o.second.in || o.second.autoOut);
  });
  if (unavailable > 0 && garbageChunks > 0)
    out.problems.push_back(std::to_string(garbageChunks) +
                           " deleted chunks give their space back when their groups take writes");
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
  // Of a code, all shards of a chunk together are its width over what is needed.
  auto share = [&](const Pool& pool) {
    constexpr uint64_t kParts = 720720;  // every number of data shards divides it
    auto it = chunks.find(pool.id);
    return it == chunks.end() ? 0 : it->second * pool.width() * (kParts / pool.needed());
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
