// What the operations work on: the records behind a transaction, and the parts that live in memory
// beside them (counters, sessions, cluster map), loaded when the database is opened. One thread;
// owned by the state machine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mds/state/records.h"
#include "mds/state/txn.h"

namespace cairn::mds {

struct Session {
  SessionInfo info;
  uint64_t ackedBelow = 1;        // every sequence number below was answered for good
  std::set<uint64_t> remembered;  // those with a stored answer, all >= ackedBelow
};

struct ClusterState {
  ClusterMap map;
  std::set<PoolId> autoDomain;  // pools whose failure domain is not chosen for good yet
  MapEpoch fenceEpoch;          // in which map.fence changed last
  // While rebalancing is paused, of groups that are not whole: who left `osds` meanwhile, and is
  // waited for rather than replaced (mds/ops/groups.h). No empty lists.
  std::map<std::pair<PoolId, PgIndex>, std::vector<OsdId>> away;
};

struct State {
  State(Kv& kv, size_t cacheBytes, uint64_t (*cookie)(std::string_view))
      : txn(kv, cacheBytes), cookieOf(cookie) {}

  Txn txn;
  uint64_t (*cookieOf)(std::string_view name);
  Counters counters;
  std::map<SessionId, Session> sessions;
  ClusterState cluster;
  std::map<PoolId, PoolUse> poolUse;
  // In memory too, because the leader asks for them all the time and LevelDB is slow to walk over
  // what was deleted.
  std::map<InodeId, std::vector<SessionId>> orphans;

  [[nodiscard]] bool bootstrapped() const { return static_cast<bool>(cluster.map.cluster); }

  // Fills what lives in memory from the database.
  Result<void> load();

  // Single records; nullopt: not there.
  Result<std::optional<Inode>> inode(InodeId ino);
  Result<std::optional<DentryRecord>> dentry(InodeId parent, std::string_view name);
  Result<std::optional<ChunkRecord>> chunk(InodeId ino, uint32_t index);
  // Chunk records of `ino` with an index in [from, to), at most `limit`, condemned ones included.
  Result<std::vector<Chunk>> chunkRecords(InodeId ino, uint32_t from, uint32_t to, size_t limit);
  Result<std::vector<std::string>> xattrNames(InodeId ino, size_t limit);

 private:
  Result<void> loadSessions();
  Result<void> loadMap();
};

inline constexpr uint32_t kMaxChunkIndex = static_cast<uint32_t>(kMaxFileSize / kChunkSize);

}  // namespace cairn::mds
