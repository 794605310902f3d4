// What OSDs store, chunk by chunk: a walk through all of it, or a look at one chunk. Any OSD that
// cannot be asked is an error: what it stores would seem not to be there.
#pragma once

#include <set>
#include <utility>
#include <vector>

#include "tools/cairn/chunk_findings.h"
#include "tools/cairn/command.h"
#include "tools/cairn/osd_calls.h"

namespace cairn::tools {

inline constexpr Duration kListTimeout = 30s;

// What one OSD may store chunks as.
struct StoredKind {
  uint8_t shard = 0;
  bool staged = false;
};
std::vector<StoredKind> storedKinds(const ClusterMap& map);

std::set<OsdId> upOsds(const ClusterMap& map);

// The chunks of one OSD and one kind, ascending by id, a page at a time.
class StoredWalk {
 public:
  StoredWalk(OsdCalls& calls, const OsdEntry& osd, StoredKind kind, ChunkId after = {},
             uint32_t limit = 4096)
      : calls_(calls), osd_(osd), kind_(kind), last_(after), limit_(limit) {}

  // Until it has a chunk to show, or there are no more.
  Task<Result<void>> fill();
  [[nodiscard]] bool has() const { return at_ < page_.size(); }
  [[nodiscard]] ChunkId id() const { return page_[at_].first; }
  StoredChunk take() { return page_[at_++].second; }

 private:
  OsdCalls& calls_;
  const OsdEntry& osd_;
  const StoredKind kind_;
  ChunkId last_;
  uint32_t limit_;
  std::vector<std::pair<ChunkId, StoredChunk>> page_;
  size_t at_ = 0;
  bool ended_ = false;
};

Task<Result<void>> fillAll(Env& env, std::vector<StoredWalk>& walks);
// All walks have a chunk to show or are over. Gives the lowest that any of them shows; empty at the
// end of all.
std::pair<ChunkId, std::vector<StoredChunk>> takeNext(std::vector<StoredWalk>& walks);

// What all OSDs that are up store of one chunk.
Task<Result<std::vector<StoredChunk>>> storedOf(Env& env, OsdCalls& calls, const ClusterMap& map,
                                                ChunkId chunk);

// What is found now of the kind of an earlier finding, of the same chunk. Where members lack it,
// only if others hold more than zeros: zeros and reserved space are not carried over to who is
// rebuilt.
Task<Result<std::vector<Finding>>> findAgain(Env& env, OsdCalls& calls, const ClusterMap& map,
                                             const Finding& earlier);

Task<Result<ClusterMap>> askMap(MdsConnection& connection);

}  // namespace cairn::tools
