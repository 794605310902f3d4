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

// Where one pool's groups belong.
class Placer {
 public:
  // `map` is read here only.
  Placer(const ClusterMap& map, const Pool& pool);

  // Pool.width() OSDs, best draw (the primary) first, no two in one failure domain, only OSDs that
  // are `in` (up or not), of the pool's class and of a weight above 0. Fewer where there are not
  // enough domains. OSDs that name no host (or rack) share one nameless domain.
  [[nodiscard]] std::vector<OsdId> target(PgIndex pg) const;

 private:
  struct Candidate {
    OsdId id;
    uint32_t weight = 0;
    uint32_t domain = 0;
  };
  friend size_t usableDomains(const ClusterMap& map, const Pool& pool);
  std::vector<Candidate> osds_;
  uint64_t poolSeed_;
  size_t width_;
};

// The targets of all groups that `pool.pgs` has, in the order of PgIndex.
std::vector<std::vector<OsdId>> placePool(const ClusterMap& map, const Pool& pool);

// Failure domains that hold an OSD which may be used: targets are full if there are at least
// pool.width().
size_t usableDomains(const ClusterMap& map, const Pool& pool);

// Host if the pool could be placed over distinct hosts now, otherwise OSD.
schema::FailureDomain chooseFailureDomain(const ClusterMap& map, const Pool& pool);

// Groups of a new pool: a power of two, about 100 copies an OSD, in [128, 8192]. It stays for the
// pool's life, so small clusters get room to grow to about 40 OSDs with an even spread. The map
// travels whole, in one message of at most 1 MiB, so a pool takes no more of it than kMaxPoolBytes:
// 8192 groups of four, 2048 of 16+4.
uint32_t choosePgCount(const ClusterMap& map, const Pool& pool);
inline constexpr uint32_t kMinPgCount = 128;
inline constexpr uint32_t kMaxPgCount = 8192;
inline constexpr size_t kMaxPoolBytes = 576 << 10;
// What a group of the pool takes in the message, with as many joining as there are in sync.
size_t groupBytes(const Pool& pool);

// -log2((x + 1) / 2^64) in 1/2^32, within 2^-24: 0 for the largest x, 64 * 2^32 for 0. Exposed for
// its test.
uint64_t negLog2(uint64_t x);

}  // namespace cairn::mds
