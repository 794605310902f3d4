#include "tools/cairn/stored_chunks.h"

#include <algorithm>

#include "common/base/units.h"
#include "common/reactor/sync.h"

namespace cairn::tools {

std::vector<StoredKind> storedKinds(const ClusterMap& map) {
  std::vector<StoredKind> kinds{{}};
  size_t shards = 0;
  for (const auto& [id, pool] : map.pools)
    if (pool.erasureCoded()) shards = std::max(shards, pool.width());
  for (uint8_t shard = 0; shard < shards; ++shard) {
    if (shard != 0) kinds.push_back({shard, false});
    kinds.push_back({shard, true});
  }
  return kinds;
}

std::set<OsdId> upOsds(const ClusterMap& map) {
  std::set<OsdId> ids;
  for (const auto& [id, osd] : map.osds)
    if (osd.up) ids.insert(id);
  return ids;
}

Task<Result<void>> StoredWalk::fill() {
  if (at_ < page_.size() || ended_) co_return Result<void>{};
  OutMessage m;
  auto l = m.body<schema::OsdRequest>().initList();
  l.setAfter(last_.value);
  l.setLimit(limit_);
  l.setShard(kind_.shard);
  l.setStaged(kind_.staged);
  auto reply = co_await calls_.ask(osd_, std::move(m), kListTimeout);
  if (!reply)
    co_return fail(Errc::kUnavailable,
                   "osd." + std::to_string(osd_.id.value) +
                       " cannot be asked for its chunks: " + reply.error().text() + "; try again");
  auto list = reply->body<schema::OsdReply>().getList();
  page_.clear();
  at_ = 0;
  for (auto c : list.getChunks()) {
    last_ = ChunkId(c.getChunk());
    page_.push_back({last_,
                     {osd_.id, PoolId(c.getPool()), PgIndex(c.getPg()),
                      ChunkVersion(c.getVersion()), kind_.shard, kind_.staged}});
  }
  ended_ = page_.empty() || !list.getMore();
  co_return Result<void>{};
}

Task<Result<void>> fillAll(Env& env, std::vector<StoredWalk>& walks) {
  std::vector<Task<Result<void>>> tasks;
  for (auto& walk : walks)
    if (!walk.has()) tasks.push_back(walk.fill());
  for (const auto& filled : co_await whenAll(env.reactor, std::move(tasks))) CO_TRY(filled);
  co_return Result<void>{};
}

std::pair<ChunkId, std::vector<StoredChunk>> takeNext(std::vector<StoredWalk>& walks) {
  ChunkId lowest;
  for (const auto& walk : walks)
    if (walk.has() && (!lowest || walk.id() < lowest)) lowest = walk.id();
  std::vector<StoredChunk> stored;
  for (auto& walk : walks)
    if (walk.has() && walk.id() == lowest) stored.push_back(walk.take());
  return {lowest, std::move(stored)};
}

Task<Result<std::vector<StoredChunk>>> storedOf(Env& env, OsdCalls& calls, const ClusterMap& map,
                                                ChunkId chunk) {
  std::vector<StoredWalk> walks;
  for (const auto& [id, osd] : map.osds)
    if (osd.up)
      for (StoredKind kind : storedKinds(map))
        walks.emplace_back(calls, osd, kind, ChunkId(chunk.value - 1), 1);
  CO_TRY(co_await fillAll(env, walks));
  std::vector<StoredChunk> stored;
  for (auto& walk : walks)
    if (walk.has() && walk.id() == chunk) stored.push_back(walk.take());
  co_return stored;
}

namespace {

// Whether an OSD that is in sync holds anything but zeros of the chunk.
Task<Result<bool>> holdsData(OsdCalls& calls, const ClusterMap& map, const Finding& f) {
  constexpr uint64_t kStretch = 4u << 20;
  auto group = map.group(f.pool, f.pg);
  CO_TRY(group);
  const auto holder = std::ranges::find_if(f.stored, [&](const StoredChunk& s) {
    return std::ranges::find((*group)->osds, s.osd) != (*group)->osds.end();
  });
  if (holder == f.stored.end()) co_return true;
  uint64_t end = kChunkSize;
  for (uint64_t at = 0; at < end; at += kStretch) {
    OutMessage m;
    auto body = m.body<schema::OsdRequest>();
    body.setPool(f.pool.value);
    body.setPg(f.pg.value);
    body.setPgEpoch((*group)->epoch.value);
    auto d = body.initDigest();
    d.setChunk(f.chunk.value);
    d.setOffset(static_cast<uint32_t>(at));
    d.setLength(kStretch);
    auto reply = co_await calls.ask(*map.osd(holder->osd), std::move(m), kListTimeout);
    CO_TRY(reply);
    auto digest = reply->body<schema::OsdReply>().getDigest();
    end = uint64_t{digest.getEnd()} * kBlockSize;
    // Stored zeros have the hash of a hole, which is zero.
    if (std::ranges::any_of(digest.getHashes(), [](uint8_t b) { return b != 0; })) co_return true;
  }
  co_return false;
}

}  // namespace

Task<Result<std::vector<Finding>>> findAgain(Env& env, OsdCalls& calls, const ClusterMap& map,
                                             const Finding& earlier) {
  auto stored = co_await storedOf(env, calls, map, earlier.chunk);
  CO_TRY(stored);
  std::vector<Finding> found;
  if (stored->empty()) co_return found;
  found =
      judgeChunk(map, upOsds(map), earlier.chunk, earlier.file ? &*earlier.file : nullptr, *stored);
  std::erase_if(found, [&](const Finding& f) { return f.trouble != earlier.trouble; });
  if (found.empty() || earlier.trouble != Trouble::kDiffers) co_return found;
  auto data = co_await holdsData(calls, map, found.front());
  CO_TRY(data);
  if (!*data) found.clear();
  co_return found;
}

Task<Result<ClusterMap>> askMap(MdsConnection& connection) {
  auto status = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
  CO_TRY(status);
  co_return ClusterMap::read(status->body<schema::MdsReply>().getStatus().getMap());
}

}  // namespace cairn::tools
