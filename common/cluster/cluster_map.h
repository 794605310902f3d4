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
};

struct PlacementGroup {
  MapEpoch epoch;
  std::vector<OsdId> osds;  // first = primary
};

struct Pool {
  PoolId id;
  std::string name;
  uint16_t replicas = 0, ecData = 0, ecParity = 0;
  schema::DeviceClass deviceClass = schema::DeviceClass::SSD;
  bool anyClass = true;
  schema::FailureDomain failureDomain = schema::FailureDomain::OSD;
  uint32_t stripeUnit = 0;
  std::vector<PlacementGroup> pgs;

  // Copies (or shards) that a placement group has.
  [[nodiscard]] size_t width() const {
    return replicas != 0 ? replicas : size_t{ecData} + ecParity;
  }
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
