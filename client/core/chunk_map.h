// Which chunk holds which part of one file: what the MDS said, remembered. Knows of every index
// whether it is a chunk, a hole, or unknown. One reactor thread; `mds` outlives it.
//
// Kept exact by its owner for what this client does (truncated, removed); forgotten when another
// client changed the file.
#pragma once

#include <map>
#include <optional>

#include "client/core/interval_set.h"
#include "client/core/mds_ops.h"
#include "common/reactor/sync.h"

namespace cairn::client {

class ChunkMap {
 public:
  ChunkMap(Reactor& reactor, MdsOps& mds, InodeId ino) : mds_(mds), ino_(ino), asking_(reactor) {}

  // Grows whenever what is known here changes by our doing.
  [[nodiscard]] uint64_t version() const { return changes_; }
  // What open() and create() gave replaces everything. An answer that was asked for at an older
  // version() may not know of chunks that were made since: the caller drops it.
  void learn(const ServerEntry& entry);
  // The chunk at `index`, or none for a hole.
  Task<Result<std::optional<ChunkAddr>>> find(uint32_t index);
  // The first index in [index, end) that has a chunk, or none.
  Task<Result<std::optional<uint32_t>>> firstFrom(uint32_t index, uint32_t end);
  // The chunk at `index`, made if it does not exist; for sequential writers some more in advance.
  Task<Result<ChunkAddr>> make(uint32_t index);
  // The chunk at `index`, in the group of `near[0]` if it is to be made; and those behind it, as
  // far as `near` goes, in the groups of the others. With `replace`, nothing of the file can be
  // seen from `index` on: a chunk that was made elsewhere may be replaced.
  Task<Result<ChunkAddr>> makeNear(uint32_t index, std::vector<ChunkId> near, bool replace);
  // All of [first, first + count).
  Task<Result<void>> makeRange(uint32_t first, uint32_t count);

  // The file ends before `index` now; what lies beyond may still be chunks made in advance.
  void truncated(uint32_t index);
  // [first, first + count) is a hole now.
  void removed(uint32_t first, uint32_t count);
  // An OSD says that `addr` was removed: ask again. Another client may have cut the file.
  void doubt(uint32_t index, ChunkAddr addr);
  void forget();

 private:
  void note(const ChunkList& list, uint32_t first, uint32_t count);
  // Asks for the surroundings of `index`; asking_ is held.
  Task<Result<void>> ask(uint32_t index);
  MdsOps& mds_;
  const InodeId ino_;
  AsyncMutex asking_;
  std::map<uint32_t, ChunkAddr> chunks_;
  IntervalSet known_;
  uint64_t changes_ = 0;   // an answer to an older question does not count
  uint32_t lastMade_ = 0;  // highest index of the last make()
  uint32_t ahead_ = 1;
};

}  // namespace cairn::client
