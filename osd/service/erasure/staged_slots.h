// Where in its staged chunk each change has its slot (staged_op.h), for the primary of the group.
//
// A staged chunk is divided into slots of fixed sizes at fixed places: so what begins a slot never
// lies where the rows of another one did, and what is left of an older, longer one means nothing.
//
// A slot is taken for a change, and when the change has been made everywhere it is left as it is:
// most are written over by a later change, which costs nothing. Whoever writes over one, or removes
// it, tells the member with the same that its change is committed: so of a change that some member
// has no slot of, and of which nobody knows that it is committed, it is certain that it was never
// decided.
//
// One reactor thread; nothing here suspends.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "osd/service/group_table.h"

namespace cairn::osd {

// Whether a slot may begin at this block, and how many blocks it may have.
struct SlotPlace {
  uint32_t first = 0, blocks = 0;
};
// The place that `block` is the first of, if it is.
std::optional<SlotPlace> slotPlaceAt(uint32_t block);

class StagedSlots {
 public:
  // Where a change of the group may put `blocks` blocks; nothing while all such places are taken,
  // or the staged chunk is being removed. What was left in an earlier primaryship is forgotten:
  // members may still have it.
  std::optional<uint32_t> take(const GroupRef& group, ChunkId chunk, uint32_t blocks,
                               TimePoint now);
  // The change came to nothing, or its slot is gone.
  void free(ChunkId chunk, uint32_t slot);
  // The change has been made everywhere.
  void leave(ChunkId chunk, uint32_t slot, ChunkVersion number);

  // Chunks of the group of which anything is left.
  [[nodiscard]] std::vector<ChunkId> left(const GroupRef& group) const;
  struct Idle {
    GroupRef group;
    std::vector<ChunkId> chunks;  // ascending
  };
  // Of which nothing is taken, and was not since `before`.
  [[nodiscard]] std::vector<Idle> idleSince(TimePoint before) const;
  // What is left of primaryships that are over is for the next one.
  void forgetOthers();
  [[nodiscard]] bool knows(ChunkId chunk) const { return chunks_.contains(chunk); }
  [[nodiscard]] bool empty() const { return chunks_.empty(); }

  // ---- Removing staged chunks ----
  // Nothing is taken of it until it was removed, or that was given up.
  void close(const GroupRef& group, ChunkId chunk) { of(group, chunk).closed = true; }
  [[nodiscard]] bool closed(ChunkId chunk) const;
  // Nothing of it is taken any more: the greatest number of what is left.
  [[nodiscard]] std::optional<ChunkVersion> settled(ChunkId chunk) const;
  void removed(ChunkId chunk) { chunks_.erase(chunk); }
  void reopen(ChunkId chunk) { chunks_.at(chunk).closed = false; }

 private:
  struct Slot {
    bool taken = false;
    ChunkVersion number;  // of the change that left it
  };
  struct Chunk {
    GroupRef group;
    std::map<uint32_t, Slot> slots;
    size_t taken = 0;
    bool closed = false;
    TimePoint used{};
  };
  Chunk& of(const GroupRef& group, ChunkId chunk);

  std::map<ChunkId, Chunk> chunks_;
};

}  // namespace cairn::osd
