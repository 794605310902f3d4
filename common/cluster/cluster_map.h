// The cluster map as daemons and clients hold it: a value, read from and written to
// schema::ClusterMap. The MDS makes new epochs; everyone else replaces theirs by a newer one.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/uuid.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/types.capnp.h"
// clang-format on

namespace cairn {

struct OsdEntry {
  OsdId id;
  Uuid uuid;
  std::string addr, host, rack;
  schema::DeviceClass deviceClass = schema::DeviceClass::SSD;
  uint32_t weight = 0;  // 65536 = 1 TiB
  bool up = false, in = false;
  uint64_t bytesUsed = 0, bytesTotal = 0;  // as last heard; changes of these alone make no epoch
  uint32_t pid = 0;
  uint64_t incarnation = 0;
  bool autoOut = false;      // out because it was down for too long: in again when it is up
  bool fixedWeight = false;  // by an administrator, not by its size
};

struct PlacementGroup {
  MapEpoch epoch;              // of the last change of osds and joining
  std::vector<OsdId> osds;     // in sync: each holds every acknowledged write; first = primary
  std::vector<OsdId> joining;  // up, and being made equal by the primary; none of `osds`
  // In messages only of erasure-coded pools: who left `osds` because it was down, while these have
  // been too few to acknowledge anything since. So each still holds every acknowledged write too.
  std::vector<OsdId> complete;
  // Of an erasure-coded pool: which shard each member holds. Also of others who are known to have
  // one (the MDS alone): an OSD that returns finds what it left. Empty in a replicated pool, whose
  // members all hold shard 0.
  std::map<OsdId, uint8_t> shards = {};

  [[nodiscard]] uint8_t shardOf(OsdId id) const;
  // How many different shards are in sync; in a replicated pool, how many copies.
  [[nodiscard]] size_t inSync() const;

  bool operator==(const PlacementGroup&) const = default;
};

struct Pool {
  PoolId id;
  std::string name;
  uint16_t replicas = 0, ecData = 0, ecParity = 0;
  schema::DeviceClass deviceClass = schema::DeviceClass::SSD;
  bool anyClass = true;
  schema::FailureDomain failureDomain = schema::FailureDomain::OSD;
  uint32_t stripeUnit = 0;
  uint16_t minSize = 1;  // with fewer in sync a group takes no mutations
  std::vector<PlacementGroup> pgs;

  // Copies (or shards) that a placement group has.
  [[nodiscard]] size_t width() const {
    return replicas != 0 ? replicas : size_t{ecData} + ecParity;
  }
  [[nodiscard]] bool erasureCoded() const { return replicas == 0; }
  // Members in sync that are needed to read anything.
  [[nodiscard]] size_t needed() const { return erasureCoded() ? ecData : 1; }
  // What minSize is unless somebody chose: more than half of the copies (of two, one); a shard more
  // than the data needs, so that what was acknowledged survives one loss more. With one parity
  // shard just what the data needs: all of K+1 would let the first failure stop every write.
  [[nodiscard]] uint16_t usualMinSize() const;
  // "3x" or "4+2".
  [[nodiscard]] std::string redundancy() const;
  // The placement group of a chunk: jump-free modulo of a mixed id, fixed for the pool's life.
  [[nodiscard]] PgIndex pgOf(ChunkId chunk) const;
};

// Which client sessions OSDs refuse: those below `below` that are not `alive`. Session ids grow and
// are never reused, so that this names all that ended without naming any of them.
struct Fence {
  SessionId below;
  std::set<SessionId> alive;  // all of them below `below`
  bool operator==(const Fence&) const = default;
};

struct ClusterMap {
  MapEpoch epoch;
  Uuid cluster;
  std::map<OsdId, OsdEntry> osds;
  std::map<PoolId, Pool> pools;
  Fence fence;
  bool rebalancePaused = false;  // data moves only where copies or shards are missing

  // Whether data requests of this session are refused. Never those of none (0): daemons and tools.
  [[nodiscard]] bool fenced(SessionId session) const;

  [[nodiscard]] const OsdEntry* osd(OsdId id) const;
  [[nodiscard]] const Pool* pool(PoolId id) const;
  [[nodiscard]] const Pool* poolByName(std::string_view name) const;
  // kNotFound when the pool or the group does not exist.
  [[nodiscard]] Result<const PlacementGroup*> group(PoolId pool, PgIndex pg) const;

  static ClusterMap read(schema::ClusterMap::Reader reader);
  void write(schema::ClusterMap::Builder builder) const;
};

}  // namespace cairn
