// Gives the primary back what its own disk has lost: blocks that do not match their checksums are
// fetched from another member that is in sync, and written anew.
#pragma once

#include <functional>

#include "osd/service/block_range.h"
#include "osd/service/group_table.h"
#include "osd/service/member_calls.h"
#include "osd/store.h"

namespace cairn::osd {

class Healer {
 public:
  // All outlive it. `onStoreError` is told when the store cannot be changed any more.
  Healer(Env& env, Store& store, const GroupTable& groups, MemberCalls& members, Probe& probe,
         std::function<void(const Error&)> onStoreError)
      : env_(env),
        store_(store),
        groups_(groups),
        members_(members),
        probe_(probe),
        onStoreError_(std::move(onStoreError)) {}

  // The caller holds the exclusive lock of the range. Durable when it completes; returns how many
  // blocks were written. kCorrupt when no other member has a good copy of some block; the others
  // are healed then. kUnavailable when the store takes nothing any more: others are to lead.
  Task<Result<uint64_t>> heal(GroupRef group, ChunkId chunk, BlockRange range);

 private:
  Task<Result<void>> healBlock(const GroupRef& group, ChunkId chunk, uint32_t block);

  Env& env_;
  Store& store_;
  const GroupTable& groups_;
  MemberCalls& members_;
  Probe& probe_;
  std::function<void(const Error&)> onStoreError_;
};

}  // namespace cairn::osd
