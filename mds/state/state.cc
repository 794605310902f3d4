#include "mds/state/state.h"

#include "mds/state/keys.h"

namespace cairn::mds {
namespace {

// Scans a prefix and hands each pair to `visit`, which may fail.
Result<void> eachRecord(
    Txn& txn, std::string_view prefix,
    const std::function<Result<void>(std::string_view, std::string_view)>& visit) {
  Result<void> failure;
  TRY(txn.scan(prefix, prefix, [&](std::string_view key, std::string_view value) {
    failure = visit(key, value);
    return failure.has_value();
  }));
  return failure;
}

}  // namespace

Result<void> State::load() {
  auto stored = txn.get(keys::counters());
  TRY(stored);
  if (!*stored) {
    // A database of something else, or one that lost its first record, is not taken for a new one.
    bool empty = true;
    TRY(txn.scan("", "", [&](std::string_view, std::string_view) { return empty = false; }));
    if (!empty)
      return fail(Errc::kCorrupt, "the database has no counters record; restore it from a copy");
    return {};
  }
  auto decoded = decodeCounters(keys::counters(), **stored);
  TRY(decoded);
  counters = *decoded;
  TRY(loadSessions());
  TRY(loadMap());
  TRY(eachRecord(txn, std::string(1, keys::kOrphan),
                 [&](std::string_view key, std::string_view value) -> Result<void> {
                   auto holders = decodeOrphan(key, value);
                   TRY(holders);
                   orphans[InodeId(keys::be64(key, 1))] = std::move(*holders);
                   return {};
                 }));
  return eachRecord(txn, std::string(1, keys::kPoolUse),
                    [&](std::string_view key, std::string_view value) -> Result<void> {
                      auto use = decodePoolUse(key, value);
                      TRY(use);
                      poolUse[PoolId(keys::be32(key, 1))] = *use;
                      return {};
                    });
}

Result<void> State::loadSessions() {
  TRY(eachRecord(txn, std::string(1, keys::kSession),
                 [&](std::string_view key, std::string_view value) -> Result<void> {
                   auto info = decodeSession(key, value);
                   TRY(info);
                   sessions[info->id].info = *info;
                   return {};
                 }));
  return eachRecord(txn, std::string(1, keys::kReply),
                    [&](std::string_view key, std::string_view value) -> Result<void> {
                      auto reply = decodeReply(key, value);
                      TRY(reply);
                      auto it = sessions.find(SessionId(keys::be64(key, 1)));
                      if (it == sessions.end())
                        return fail(Errc::kCorrupt,
                                    "record " + keys::text(key) + " belongs to no session");
                      Session& s = it->second;
                      s.remembered.insert(keys::be64(key, 9));
                      s.ackedBelow = std::max(s.ackedBelow, reply->ackedBelow);
                      return {};
                    });
}

Result<void> State::loadMap() {
  auto header = txn.get(keys::mapHeader());
  TRY(header);
  if (!*header) return {};
  auto h = decodeMapHeader(keys::mapHeader(), **header);
  TRY(h);
  ClusterMap& map = cluster.map;
  map.epoch = h->epoch;
  map.cluster = h->cluster;
  auto fence = txn.get(keys::mapFence());
  TRY(fence);
  if (*fence) {
    auto f = decodeFence(keys::mapFence(), **fence);
    TRY(f);
    map.fence = std::move(f->fence);
    cluster.fenceEpoch = f->epoch;
  }
  auto pause = txn.get(keys::mapPause());
  TRY(pause);
  if (*pause) TRY(decodePause(keys::mapPause(), **pause));
  map.rebalancePaused = pause->has_value();
  std::string prefix = keys::mapHeader();
  auto under = [&](char kind) {
    prefix.back() = kind;
    return std::string_view(prefix);
  };
  TRY(eachRecord(
      txn, under('a'), [&](std::string_view key, std::string_view value) -> Result<void> {
        auto away = decodeAway(key, value);
        TRY(away);
        cluster.away[{PoolId(keys::be32(key, 2)), PgIndex(keys::be32(key, 6))}] = std::move(*away);
        return {};
      }));
  TRY(eachRecord(txn, under('o'),
                 [&](std::string_view key, std::string_view value) -> Result<void> {
                   auto osd = decodeOsd(key, value);
                   TRY(osd);
                   map.osds[osd->id] = *osd;
                   return {};
                 }));
  TRY(eachRecord(txn, under('p'),
                 [&](std::string_view key, std::string_view value) -> Result<void> {
                   auto record = decodePool(key, value);
                   TRY(record);
                   record->pool.pgs.resize(record->pgCount);
                   if (record->autoDomain) cluster.autoDomain.insert(record->pool.id);
                   map.pools[record->pool.id] = std::move(record->pool);
                   return {};
                 }));
  return eachRecord(
      txn, under('g'), [&](std::string_view key, std::string_view value) -> Result<void> {
        auto group = decodeGroup(key, value);
        TRY(group);
        auto pool = map.pools.find(PoolId(keys::be32(key, 2)));
        uint32_t index = keys::be32(key, 6);
        if (pool == map.pools.end() || index >= pool->second.pgs.size())
          return fail(Errc::kCorrupt, "record " + keys::text(key) + " belongs to no pool");
        pool->second.pgs[index] = std::move(*group);
        return {};
      });
}

Result<std::optional<Inode>> State::inode(InodeId ino) {
  const std::string key = keys::inode(ino);
  auto value = txn.get(key);
  TRY(value);
  if (!*value) return std::optional<Inode>();
  auto inode = decodeInode(key, **value);
  TRY(inode);
  return std::optional<Inode>(std::move(*inode));
}

Result<std::optional<DentryRecord>> State::dentry(InodeId parent, std::string_view name) {
  const std::string key = keys::dentry(parent, cookieOf(name), name);
  auto value = txn.get(key);
  TRY(value);
  if (!*value) return std::optional<DentryRecord>();
  auto dentry = decodeDentry(key, **value);
  TRY(dentry);
  return std::optional<DentryRecord>(*dentry);
}

Result<std::optional<ChunkRecord>> State::chunk(InodeId ino, uint32_t index) {
  const std::string key = keys::chunk(ino, index);
  auto value = txn.get(key);
  TRY(value);
  if (!*value) return std::optional<ChunkRecord>();
  auto chunk = decodeChunk(key, **value);
  TRY(chunk);
  return std::optional<ChunkRecord>(*chunk);
}

Result<std::vector<Chunk>> State::chunkRecords(InodeId ino, uint32_t from, uint32_t to,
                                               size_t limit) {
  std::vector<Chunk> out;
  if (limit == 0 || from >= to) return out;
  Result<void> failure;
  TRY(txn.scan(keys::chunks(ino), keys::chunk(ino, from),
               [&](std::string_view key, std::string_view value) {
                 uint32_t index = keys::be32(key, 9);
                 if (index >= to) return false;
                 auto chunk = decodeChunk(key, value);
                 if (!chunk) {
                   failure = fail(std::move(chunk).error());
                   return false;
                 }
                 out.push_back({index, chunk->id, chunk->pool});
                 return out.size() < limit;
               }));
  TRY(failure);
  return out;
}

Result<std::vector<std::string>> State::xattrNames(InodeId ino, size_t limit) {
  std::vector<std::string> out;
  const std::string prefix = keys::xattrs(ino);
  TRY(txn.scan(prefix, prefix, [&](std::string_view key, std::string_view) {
    out.emplace_back(key.substr(prefix.size()));
    return out.size() < limit;
  }));
  return out;
}

}  // namespace cairn::mds
