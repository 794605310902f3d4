// Where a pool's placement groups lie: weighted rendezvous hashing (Thaler, Ravishankar, "Using
// name-based mappings to increase hit rates", 1998; weights after Schindelhauer, Schomaker,
// "Weighted distributed hash tables", 2005). Every OSD draws a pseudo-random number for every
// group, and the group takes the best draws of distinct failure domains.
//
// Properties (tested)
//   - An OSD's share of a pool follows its weight; so do its shares of primaries.
//   - A change of one OSD moves only groups to it (added, heavier) or from it (removed, lighter).
//   - Bit-deterministic: integers only. apply() runs this on every member of an MDS group, and
//     libm's logarithm may differ between machines.
//
// Pure functions; any thread.
#pragma once

#include <vector>

#include "common/cluster/cluster_map.h"

namespace cairn::mds {

// One list per group, in the order of PgIndex, as many as `pool.pgs` has: pool.width() OSDs, best
// draw (the primary) first, no two in one failure domain, only OSDs that are `in`, of the pool's
// class and of a weight above 0. Empty where there are not enough domains. OSDs that name no host
// (or rack) share one nameless domain.
std::vector<std::vector<OsdId>> placePool(const ClusterMap& map, const Pool& pool);

// Failure domains that hold an OSD which placePool() may use: it can fill its lists if there are at
// least pool.width().
size_t usableDomains(const ClusterMap& map, const Pool& pool);

// Host if the pool could be placed over distinct hosts now, otherwise OSD.
schema::FailureDomain chooseFailureDomain(const ClusterMap& map, const Pool& pool);

// Groups of a new pool: a power of two, about 100 copies an OSD, in [128, 8192]. It stays for the
// pool's life, so small clusters get room to grow to about 40 OSDs with an even spread. The upper
// bound is the map's: it travels whole, in one message of at most 1 MiB, at about 40 bytes a group.
uint32_t choosePgCount(const ClusterMap& map, const Pool& pool);
inline constexpr uint32_t kMinPgCount = 128;
inline constexpr uint32_t kMaxPgCount = 8192;

// -log2((x + 1) / 2^64) in 1/2^32, within 2^-24: 0 for the largest x, 64 * 2^32 for 0. Exposed for
// its test.
uint64_t negLog2(uint64_t x);

}  // namespace cairn::mds
