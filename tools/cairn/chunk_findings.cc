#include "tools/cairn/chunk_findings.h"

#include <algorithm>

#include "common/cluster/health.h"

namespace cairn::tools {

namespace {

bool contains(const std::vector<OsdId>& list, OsdId id) {
  return std::ranges::find(list, id) != list.end();
}

std::string osdList(const std::vector<OsdId>& ids) {
  std::string out;
  for (OsdId id : ids) out += (out.empty() ? "osd." : ", osd.") + std::to_string(id.value);
  return out;
}

// A member in sync, that holds what a member holds.
bool isMembers(const PlacementGroup& pg, const StoredChunk& s) {
  return contains(pg.osds, s.osd) && pg.shardOf(s.osd) == s.shard;
}

std::vector<OsdId> holders(const std::vector<StoredChunk>& stored) {
  std::vector<OsdId> ids;
  for (const auto& s : stored) ids.push_back(s.osd);
  return ids;
}

// Of the members in sync: who lacks the chunk; empty if all or none do. Versions are not compared:
// making a chunk equal leaves a member the greater one that it may have.
std::string difference(const Pool& pool, const PlacementGroup& pg, const std::set<OsdId>& asked,
                       const std::vector<StoredChunk>& stored) {
  std::vector<OsdId> have, lack;
  for (OsdId id : pg.osds) {
    if (!asked.contains(id)) continue;
    const bool holds = std::ranges::any_of(
        stored, [id](const StoredChunk& s) { return s.osd == id && !s.staged; });
    // What a data shard lacks may have been a hole always.
    if (holds)
      have.push_back(id);
    else if (!pool.erasureCoded() || pg.shardOf(id) >= pool.ecData)
      lack.push_back(id);
  }
  if (have.empty() || lack.empty()) return {};
  return "stored by " + osdList(have) + ", and missing on " + osdList(lack) + ", in sync like " +
         (have.size() == 1 ? "it" : "them");
}

// Of a group that is whole, only members hold chunks: others remove theirs when it becomes so.
std::vector<OsdId> strays(const ClusterMap& map, const Pool& pool, const PlacementGroup& pg,
                          const std::vector<StoredChunk>& stored) {
  std::vector<OsdId> ids;
  if (pgState(map, pool, pg) == PgState::kClean)
    for (const auto& s : stored)
      if (!isMembers(pg, s) && !contains(ids, s.osd)) ids.push_back(s.osd);
  return ids;
}

}  // namespace

const char* troubleName(Trouble trouble) {
  switch (trouble) {
    case Trouble::kLeaked:
      return "leaked";
    case Trouble::kDiffers:
      return "differs";
    case Trouble::kStray:
      return "stray";
    case Trouble::kWrongGroup:
      return "wrong group";
    case Trouble::kDamaged:
      return "damaged";
  }
  return "?";
}

std::vector<Finding> judgeChunk(const ClusterMap& map, const std::set<OsdId>& asked, ChunkId chunk,
                                const KnownChunk* known, const std::vector<StoredChunk>& stored) {
  // What is in the garbage queue is on its way out: anywhere, or nowhere.
  if (known != nullptr && !known->ino) return {};
  const PoolId poolId = known != nullptr ? known->pool : stored.front().pool;
  const Pool* pool = map.pool(poolId);
  std::vector<Finding> out;
  auto add = [&](Trouble trouble, PgIndex pg, std::string text) {
    out.push_back({trouble, chunk, poolId, pg,
                   known == nullptr ? std::nullopt : std::optional<KnownChunk>(*known), stored,
                   std::move(text)});
  };
  if (pool == nullptr || pool->pgs.empty()) {
    add(Trouble::kWrongGroup, {},
        "pool " + std::to_string(poolId.value) + " does not exist; stored by " +
            osdList(holders(stored)));
    return out;
  }
  const PgIndex pgIndex = pool->pgOf(chunk);
  const PlacementGroup& pg = pool->pgs[pgIndex.value];
  for (const auto& s : stored)
    if (s.pool != poolId || s.pg != pgIndex)
      add(Trouble::kWrongGroup, pgIndex,
          "osd." + std::to_string(s.osd.value) + " stores it under group " +
              std::to_string(s.pool.value) + "." + std::to_string(s.pg.value));
  std::vector<OsdId> members;
  for (const auto& s : stored)
    if (isMembers(pg, s) && !contains(members, s.osd)) members.push_back(s.osd);
  if (known == nullptr && !members.empty())
    add(Trouble::kLeaked, pgIndex,
        "stored by " + osdList(members) + ", and no file, deleted or not, names it");
  if (known != nullptr)
    if (auto text = difference(*pool, pg, asked, stored); !text.empty())
      add(Trouble::kDiffers, pgIndex, std::move(text));
  if (auto ids = strays(map, *pool, pg, stored); !ids.empty())
    add(Trouble::kStray, pgIndex,
        "stored by " + osdList(ids) + (members.empty() ? " alone" : "") +
            ", no member of its group");
  return out;
}

}  // namespace cairn::tools
