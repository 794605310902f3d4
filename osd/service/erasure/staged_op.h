// A change of stripes that is written down before it is made.
//
// New bytes of a stripe must appear on all of its shards or on none, or the stripe could not be
// decoded any more. So each shard that changes is first sent what it will hold, next to what it
// holds: into its staged chunk, one contiguous slot for each change. A slot begins with one block
// that says what the change is (this file), and goes on with the new rows. Once every member in
// sync that is concerned has its slot, the change is decided, and acknowledged. Then each makes it,
// by cloning the rows out of the slot into the chunk.
//
// Slots stay where they are until they are written over or removed (staged_slots.h). Who takes over
// finds them. Those of changes up to the number that any member in sync knows to be committed mean
// nothing. A later change whose slot is on every member in sync whose shard it concerns is made
// (again; in the order of the numbers that is harmless). One that some of them do not have was
// never decided, or has been made by all and nothing overlaps it that is older and would be made
// again. Invariants, for a change that was decided:
//   - A slot goes from a member in sync by a record that also says that the change is committed.
//   - A member comes in sync only when nobody has a slot left of a change that it took no part in.
//   - What is made from another chunk is not made again once that may have changed: its slots are
//     gone before that chunk's lock is.
#pragma once

#include <vector>

#include "common/base/buffer.h"
#include "common/base/env.h"
#include "common/erasure/erasure_code.h"
#include "osd/service/block_range.h"
#include "osd/store.h"

namespace cairn::osd {

struct StagedOp {
  ChunkVersion number;  // of the change, in the group
  BlockRange rows;      // of every shard in `shards`
  ShardSet shards = 0;
  bool zero = false;  // the rows become holes; the slot holds none
  uint32_t slot = 0;  // where it begins in the staged chunk, in blocks
  // The rows become those of this chunk of the group, if it is one, as each member has them: locked
  // until the change is made, they are the same whoever makes it. The slot holds none.
  ChunkId source = {};

  [[nodiscard]] uint32_t slotBlocks() const { return zero || source ? 1 : 1 + rows.to - rows.from; }
  bool operator==(const StagedOp&) const = default;
};

// The first block of the slot: fills `block`, which has kBlockSize bytes.
void encodeStaged(const StagedOp& op, ChunkId chunk, MutBytes block);
// kCorrupt if it is not one of this chunk at `slot`.
Result<StagedOp> decodeStaged(Bytes block, ChunkId chunk, uint32_t slot);

// The whole slots that a store has for `chunk`, by position. `stored` is the name of the staged
// chunk there.
Task<Result<std::vector<StagedOp>>> stagedIn(Store& store, ChunkId stored, ChunkId chunk);

}  // namespace cairn::osd
