// What the primary of a group asks of another member. Every call carries the epoch that the group
// has in the map at that moment.
//
// Errors: kUnavailable: not reached, or not heard in time (whether it happened is then unknown), or
// the member's store has failed; kStaleEpoch: its map is newer; kNoSpace; kBusyTryLater.
#pragma once

#include <array>
#include <vector>

#include "common/base/env.h"
#include "osd/service/erasure/staged_op.h"
#include "osd/service/group_table.h"
#include "osd/service/mutation.h"
#include "osd/service/peers.h"
#include "osd/service/probe.h"

namespace cairn::osd {

// One page of the changes that a member knows of, and where it stands.
struct MemberChanges {
  GroupState state;
  std::vector<Changed> changes;
  bool more = false;
};

// What identifies the bytes of a block: the first half of its SHA-256. All zero: a hole.
using BlockHash = std::array<uint8_t, 16>;
BlockHash hashOf(Bytes block);
inline constexpr BlockHash kHoleHash{};
inline constexpr BlockHash kDamagedHash = [] {
  BlockHash h{};
  h.fill(0xff);
  return h;
}();

struct MemberDigest {
  bool exists = false;
  ChunkVersion version;
  uint32_t end = 0;               // behind its last stored block, in bytes
  std::vector<BlockHash> hashes;  // of the range asked for
};

// What a member has staged beside a chunk.
struct MemberStaged {
  std::vector<StagedOp> ops;
  bool any = false;  // something is stored there, whole slots or not
};

class MemberCalls {
 public:
  // All outlive it.
  MemberCalls(Env& env, Duration timeout, const GroupTable& groups, Peers& peers, Probe& probe)
      : env_(env), timeout_(timeout), groups_(groups), peers_(peers), probe_(probe) {}

  // Durable at the member when it completes. `mutation` outlives the call.
  Task<Result<void>> replicate(OsdId to, GroupId group, const Mutation* mutation,
                               ChunkVersion number, ChunkVersion committed);
  Task<Result<MemberChanges>> changes(OsdId to, GroupId group, Changed after);
  // At most 4 MiB. A block that the member cannot read has kDamagedHash.
  Task<Result<MemberDigest>> digest(OsdId to, GroupId group, ChunkId chunk, uint32_t offset,
                                    uint32_t length);
  // Verified. At most 4 MiB. kCorrupt, kIo: the member cannot read them.
  Task<Result<ReadData>> fetch(OsdId to, GroupId group, ChunkId chunk, uint32_t offset,
                               uint32_t length);
  // Of an erasure-coded pool. Where the member's shard has data: merged (offset, length) pairs.
  Task<Result<std::vector<std::pair<uint32_t, uint32_t>>>> extents(OsdId to, GroupId group,
                                                                   ChunkId chunk, uint32_t offset);
  Task<Result<MemberStaged>> staged(OsdId to, GroupId group, ChunkId chunk);

 private:
  Task<Result<InMessage>> call(OsdId to, GroupId group, OutMessage message);
  // The same for changes: a member whose store is damaged cannot do what it is asked.
  Task<Result<InMessage>> demand(OsdId to, GroupId group, OutMessage message);

  Env& env_;
  const Duration timeout_;
  const GroupTable& groups_;
  Peers& peers_;
  Probe& probe_;
};

}  // namespace cairn::osd
