// Changes of stripes, by the primary of a group of an erasure-coded pool (staged_op.h has the
// idea).
//
// Invariants
//   - A change goes through two rounds, each durable everywhere before what follows: every member
//     concerned has its slot; every one has made the change. It is acknowledged after the first:
//     from then on nothing but its completion is possible.
//   - The exclusive lock of its rows is kept until the second has ended, so that a read shows only
//     what every member in sync holds.
//   - Its slots are removed before the lock goes where it is made from another chunk, or while
//     somebody who joins has but that to wait for; otherwise they are left (staged_slots.h), and
//     removed when the chunk has not been changed for a second.
//   - A member that does not confirm a round is taken out of the group before the next begins
//     (Membership). If that cannot be had the outcome is unknown to us, and the group is served by
//     nobody until a primary has resolved what is staged (StripeResolver).
//   - Members that are joining and follow take part in all rounds. Those that do not follow have
//   the
//     chunk put on their list.
//
// One reactor thread.
#pragma once

#include <functional>
#include <memory>
#include <set>

#include "osd/service/erasure/shard_reader.h"
#include "osd/service/erasure/staged_op.h"
#include "osd/service/erasure/staged_slots.h"
#include "osd/service/replicator.h"
#include "osd/service/whole_blocks.h"

namespace cairn::osd {

// Locks, and whatever else lives as long as the last round of the changes that need it.
using Held = std::shared_ptr<void>;

class StripeWriter {
 public:
  // All outlive it.
  StripeWriter(Env& env, GroupTable& groups, MapState& map, Membership& membership,
               Replicator& replicator, ShardReader& reader)
      : env_(env),
        groups_(groups),
        map_(map),
        membership_(membership),
        replicator_(replicator),
        reader_(reader),
        stop_(env.reactor),
        scope_(env.reactor) {}

  // Blocks of a chunk, whole ones; without data they become zeros, or what the same blocks of
  // `source` are, if it is one: whole stripes, of which the source's are locked shared.
  struct Change {
    BlockRange blocks;
    Buffer data;
    std::vector<uint32_t> crcs;  // one per block, if there is data
    ChunkId source = {};
  };
  // Changes one piece (ShardLayout::pieces). The rows are locked exclusively, by `held`; `allowed`
  // is asked at the last moment before the change is numbered. Errors: its; kNoSpace: some member
  // is full, and nothing changed; kCorrupt: what the stripe needs cannot be read; kUnavailable,
  // kStaleEpoch: unknown.
  Task<Result<ChunkVersion>> change(GroupRef group, ChunkId chunk, Change change,
                                    std::function<Result<void>()> allowed, Held held);
  // Reserves space for the blocks on every shard concerned. Errors likewise; after kNoSpace some of
  // it may be reserved.
  Task<Result<void>> allocate(GroupRef group, ChunkId chunk, BlockRange blocks);

  // Removes what changes of these chunks have left on the members, once those under way have ended.
  // An error: some may still have it, and it will be tried again.
  Task<Result<void>> sweep(GroupRef group, std::vector<ChunkId> chunks);
  // Chunks of which something is left, as far as this primaryship knows.
  [[nodiscard]] std::vector<ChunkId> left(const GroupRef& group) const {
    return slots_.left(group);
  }

  // Some change uses the chunk's slots, or has left one, as far as this primaryship knows.
  [[nodiscard]] bool uses(ChunkId chunk) const { return slots_.knows(chunk); }

  // Waits for the last rounds, which end soon once the groups do.
  Task<void> close() {
    stop_.set();
    return scope_.join();
  }

 private:
  // What a shard will hold: a slot, with room for its head.
  struct NewRows {
    Buffer slot;                 // until it is staged
    std::vector<uint32_t> crcs;  // of the rows
    std::vector<bool> holes;     // rows of zeros, once it is staged
  };
  struct Party {
    OsdId id;
    uint8_t shard;
  };
  struct Op;
  using OpRef = std::shared_ptr<Op>;

  static Mutation slotOf(Mutation::Kind kind, const Op& op);
  Task<Result<void>> prepare(Op& op, const Change& change);
  Task<Result<bool>> prepareByDelta(Op& op, const Change& change);
  Task<Result<void>> prepareWhole(Op& op, const Change& change);
  NewRows& makeRows(Op& op, uint8_t shard);
  void fill(Op& op, const Change& change, uint8_t shard);
  void finishParity(Op& op);

  Task<Result<void>> stage(OpRef op);
  Task<Result<void>> abort(OpRef op);
  Task<void> complete(OpRef op);
  Task<Result<void>> tryComplete(Op& op);

  std::vector<Party> parties(const GroupRef& group, const StagedOp& staged) const;
  Task<std::vector<Result<void>>> round(Op& op,
                                        const std::function<std::vector<Mutation>(uint8_t)>& what);
  Task<Result<void>> sendAll(GroupRef group, Party to, std::vector<Mutation> mutations,
                             ChunkVersion number, ChunkVersion committed);
  Task<Result<void>> settle(Op& op, const std::vector<Result<void>>& results);
  Task<Result<void>> settleOthers(Op& op);
  Result<void> still(const Op& op) const;

  Task<Result<uint32_t>> takeSlot(GroupRef group, ChunkId chunk, uint32_t blocks);
  void freeSlot(const Op& op);
  Task<Result<void>> removeSlots(Op& op);
  Task<Result<void>> sweepSome(GroupRef group, std::vector<ChunkId> chunks);
  Task<Result<void>> trySweep(GroupRef group, const std::vector<ChunkId>& chunks);
  Task<void> sweepIdle();

  Env& env_;
  GroupTable& groups_;
  MapState& map_;
  Membership& membership_;
  Replicator& replicator_;
  ShardReader& reader_;
  StagedSlots slots_;
  bool sweeping_ = false;
  Event stop_;
  TaskScope scope_;
};

// What makes a staged change, on a member that has its slot. `holes`, if it is not empty, says of
// each row whether it is to be one.
std::vector<Mutation> toMake(const StagedOp& op, ChunkId chunk, const std::vector<bool>& holes);

}  // namespace cairn::osd
