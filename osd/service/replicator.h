// A mutation of a chunk on every member of its group, and the settling of those that did not
// succeed everywhere.
//
// Invariants
//   - A mutation succeeds only when it is durable here and on every other member of the group.
//   - It goes out with the exclusive lock of its blocks held, and the lock is kept until every
//     member has answered or its connection was dropped: members see the mutations of a block in
//     the primary's order.
//   - Where a mutation failed, its blocks are owed to the members that may hold them differently;
//     a read refuses them until they are settled: it never shows what is not committed everywhere.
//     What we hold wins: a mutation without an answer may come or not come to be.
//   - A clone reads its source on each member for itself. So its blocks are locked too, shared, and
//     nothing is owed of them: they are the same everywhere.
//   - A write into a hole that some member had no room for is undone: the hole is a hole again.
//
// The debts are in memory only: see osd/README.md, "What a failed write leaves".
#pragma once

#include <functional>
#include <vector>

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/osd.capnp.h"
// clang-format on
#include "osd/service/chunk_table.h"
#include "osd/service/map_state.h"
#include "osd/service/mds_link.h"
#include "osd/service/peers.h"
#include "osd/service/probe.h"
#include "osd/store.h"

namespace cairn::osd {

// One change of whole blocks of one chunk.
struct Mutation {
  enum class Kind : uint8_t { kWrite, kZero, kAllocate, kClone };
  Kind kind = Kind::kWrite;
  uint32_t offset = 0, length = 0;  // multiples of kBlockSize
  Buffer data;                      // kWrite: `length` bytes, at most kMaxIoBytes
  std::vector<uint32_t> crcs;       // kWrite: one per block
  ChunkId source = {};              // kClone: each member's own copy of it is cloned
  uint32_t sourceOffset = 0;
};

// Checked by checkClone().
Mutation cloneOf(schema::Clone::Reader clone);

class Replicator {
 public:
  struct Options {
    Duration replicateTimeout = 5s;
    Duration settleEvery = 200ms;  // while there is something to settle
  };
  // All outlive it. `onStoreError` is told of kIo and kCorrupt from mutations of the store.
  Replicator(Env& env, Options options, Store& store, ChunkTable& chunks, MapState& map,
             MapSource& source, Peers& peers, Probe& probe,
             std::function<void(const Error&)> onStoreError);
  Replicator(const Replicator&) = delete;
  Replicator& operator=(const Replicator&) = delete;

  // For the primary, with the exclusive lock of the mutation's blocks held and `at` checked under
  // it. kNoSpace: some member is full; kStale: a chunk was removed; kStaleEpoch: a member has a
  // newer map; kUnavailable otherwise. After any failure the same mutation may be sent again.
  Task<Result<ChunkVersion>> mutate(Placement at, Target target, const ChunkTable::Ref& chunk,
                                    Mutation mutation);
  // On this OSD alone: what a replica does. The lock is held.
  Task<Result<void>> apply(const ChunkTable::Ref& chunk, Mutation mutation, Stamp stamp);

  // Settles debts until stop().
  Task<void> run();
  void stop();

 private:
  Task<Result<void>> forward(OsdId to, Target target, ChunkId chunk, const Mutation* mutation,
                             ChunkVersion version);
  Task<void> undo(std::vector<OsdId> replicas, Target target, const ChunkTable::Ref& chunk,
                  uint32_t offset, uint32_t length);
  Result<void> learnVersion(const ChunkTable::Ref& chunk);

  Task<bool> settleAll();
  Task<bool> settleChunk(ChunkId id);
  Task<bool> settleOne(const ChunkTable::Ref& chunk, OsdId member);
  bool mayOwe(const ChunkTable::Ref& chunk, OsdId member) const;
  Task<Result<BlockRange>> resend(Target target, const ChunkTable::Ref& chunk, OsdId member,
                                  BlockRange range);

  Env& env_;
  const Options options_;
  Store& store_;
  ChunkTable& chunks_;
  MapState& map_;
  MapSource& source_;
  Peers& peers_;
  Probe& probe_;
  std::function<void(const Error&)> onStoreError_;
  bool stopped_ = false;
  MapEpoch wantedEpoch_;  // a member has a map beyond ours
  Event work_;            // there is something to settle, or stopped
  Event stop_;
};

}  // namespace cairn::osd
