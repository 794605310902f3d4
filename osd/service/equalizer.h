// Makes a chunk of another member equal to ours: the one procedure behind catching up, rebuilding,
// a new primary's reconciliation and the taking back of what failed.
//
// Blocks are compared by hashes of their bytes and only those that differ are sent, as the
// mutations that a member takes anyway. Stretch by stretch: while one is compared, its blocks are
// locked shared, so that reads go on and nothing changes them; what changes others reaches the
// member by itself, or the member is listed as behind again.
//
// A block of ours that is damaged is healed first. If it cannot be, neither can the member be made
// equal: kCorrupt; unless its own is damaged too.
//
// One reactor thread. Other errors: those of MemberCalls; kStaleEpoch when the primaryship has
// ended.
#pragma once

#include <algorithm>

#include "osd/service/chunk_table.h"
#include "osd/service/healer.h"
#include "osd/service/member_calls.h"
#include "osd/service/throttle.h"
#include "osd/store.h"

namespace cairn::osd {

class Equalizer {
 public:
  // All outlive it.
  Equalizer(BufferPool& buffers, Store& store, ChunkTable& chunks, MapState& map,
            MemberCalls& members, Healer& healer)
      : buffers_(buffers),
        store_(store),
        chunks_(chunks),
        map_(map),
        members_(members),
        healer_(healer) {}

  // A chunk that we do not have is removed there. Each stretch waits for its turn, if there is a
  // throttle. Returns the bytes sent.
  Task<Result<uint64_t>> chunk(GroupRef group, ChunkId chunk, OsdId member, Throttle* throttle);
  // The same for blocks whose exclusive lock the caller has.
  Task<Result<uint64_t>> range(GroupRef group, ChunkId chunk, OsdId member, BlockRange range);

  // The other way round: if the member has a later version of the chunk than we know of, our store
  // has lost changes that were acknowledged (it was set back, or a disk lied), and takes the
  // member's bytes. Returns how many were wrong here.
  Task<Result<uint64_t>> takeNewer(GroupRef group, ChunkId chunk, OsdId member, Throttle& throttle);

  struct Progress {
    uint64_t sent = 0;          // bytes
    bool changed = false;       // the member was sent something, and so our number
    uint32_t theirEnd = 0;      // behind the member's last stored block
    ChunkVersion theirVersion;  // before; 0 if it has not the chunk

    Progress& operator+=(const Progress& more) {
      sent += more.sent;
      changed |= more.changed;
      theirEnd = std::max(theirEnd, more.theirEnd);
      theirVersion = std::max(theirVersion, more.theirVersion);
      return *this;
    }
  };
  // Makes a locked stretch of the member's chunk what `ours` is.
  Task<Result<Progress>> level(const GroupRef& group, ChunkId chunk, OsdId member, BlockRange range,
                               const ReadData& ours, ChunkVersion version);
  // A block that is locked, and of which nobody in sync has anything good, for the reason `why`: it
  // is to be damaged at the member too. Fails with `why` if the member has something else there.
  Task<Result<Progress>> lose(const GroupRef& group, ChunkId chunk, OsdId member, uint32_t block,
                              ChunkVersion version, Error why);
  // Gives the member's chunk our number without changing a byte. `first` is what its first block
  // holds, which is locked; `exists`: it has the chunk.
  Task<Result<void>> touch(const GroupRef& group, ChunkId chunk, OsdId member, ReadData first,
                           bool exists, ChunkVersion version);

 private:
  Task<Result<Progress>> differences(const GroupRef& group, ChunkId chunk, OsdId member,
                                     BlockRange range, const MemberDigest& theirs,
                                     const ReadData& ours, ChunkVersion version);
  Task<Result<Progress>> compare(const GroupRef& group, ChunkId chunk, OsdId member,
                                 BlockRange range);
  Task<Result<Progress>> compareDamaged(const GroupRef& group, ChunkId chunk, OsdId member,
                                        BlockRange range);
  Task<Result<bool>> isNewer(GroupRef group, ChunkId chunk, OsdId member);
  Task<Result<uint64_t>> takeStretch(const GroupRef& group, ChunkId chunk, OsdId member,
                                     uint32_t offset);
  Task<Result<void>> takeVersion(const GroupRef& group, ChunkId chunk, ChunkVersion version);
  Task<Result<uint64_t>> removeThere(GroupRef group, const ChunkTable::Ref& chunk, OsdId member);
  Task<Result<void>> passVersion(GroupRef group, const ChunkTable::Ref& chunk, OsdId member);
  Task<Result<uint64_t>> send(const GroupRef& group, OsdId member, Mutation mutation,
                              ChunkVersion version);
  Result<void> still(const GroupRef& group) const;

  BufferPool& buffers_;
  Store& store_;
  ChunkTable& chunks_;
  MapState& map_;
  MemberCalls& members_;
  Healer& healer_;
};

// The offset behind the last stored block.
Result<uint32_t> endOf(Store& store, ChunkId chunk);
// A hash for each block of what a store answered for a range of `blocks`.
std::vector<BlockHash> hashesOf(const ReadData& data, uint32_t blocks);

}  // namespace cairn::osd
