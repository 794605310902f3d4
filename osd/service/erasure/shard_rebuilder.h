// Makes one member's shard of a chunk what the other shards say it is: catching up, rebuilding,
// moving (compare Equalizer); and mends what is damaged on anybody in sync.
//
// One reactor thread. Errors: those of MemberCalls; kCorrupt: too much of a stripe is damaged;
// kUnavailable: too few shards can be read; kStaleEpoch: the primaryship has ended.
#pragma once

#include "osd/service/chunk_table.h"
#include "osd/service/equalizer.h"
#include "osd/service/erasure/shard_reader.h"
#include "osd/service/probe.h"
#include "osd/service/replicator.h"
#include "osd/service/throttle.h"

namespace cairn::osd {

class ShardRebuilder {
 public:
  // All outlive it.
  ShardRebuilder(Env& env, Store& store, ChunkTable& chunks, const MapState& map,
                 const GroupTable& groups, MemberCalls& members, Equalizer& equalizer,
                 Replicator& replicator, ShardReader& reader, Probe& probe)
      : env_(env),
        store_(store),
        chunks_(chunks),
        map_(map),
        groups_(groups),
        members_(members),
        equalizer_(equalizer),
        replicator_(replicator),
        reader_(reader),
        probe_(probe) {}

  // The shard of `member`, which is not us. A chunk that nobody in sync has is removed there. Each
  // stretch waits for its turn. Returns the bytes sent.
  Task<Result<uint64_t>> chunk(GroupRef group, ChunkId chunk, OsdId member, Throttle* throttle);
  // Whether anybody in sync has the chunk.
  Task<Result<bool>> exists(GroupRef group, ChunkId chunk);
  // Writes anew what members in sync cannot read; the caller holds the exclusive lock of the rows.
  // Returns how many blocks. kCorrupt when some cannot be rebuilt; all others are then.
  Task<Result<uint64_t>> heal(GroupRef group, ChunkId chunk, BlockRange rows);
  // Reads all of the chunk everywhere, mends what is damaged, and compares parity with data: a
  // shard that is intact and yet wrong is made anew where it is certain which one is. Returns how
  // many blocks were written. Errors as of heal().
  Task<Result<uint64_t>> scrub(GroupRef group, ChunkId chunk, Throttle& throttle);
  // The blocks of the chunk, not rows, that neither can be read nor made from others.
  Task<Result<std::vector<BlockRange>>> lost(GroupRef group, ChunkId chunk, Throttle& throttle);

 private:
  // What members in sync have of a chunk, all together.
  struct Survey {
    bool exists = false;
    ChunkVersion version;
    uint32_t end = 0;  // behind the last stored block of any shard, in bytes
  };
  Task<Result<Survey>> survey(GroupRef group, ChunkId chunk, OsdId without);
  Task<Result<MemberDigest>> first(GroupRef group, ChunkId chunk, OsdId member);
  Task<Result<uint64_t>> removeThere(GroupRef group, ChunkId chunk, OsdId member);
  Task<Result<ReadData>> expected(const GroupRef& group, ChunkId chunk, OsdId member,
                                  BlockRange rows);
  Task<Result<Equalizer::Progress>> levelDamaged(GroupRef group, ChunkId chunk, OsdId member,
                                                 BlockRange rows, ChunkVersion version);
  Task<Result<uint64_t>> writeBlocks(const GroupRef& group, ChunkId chunk, uint8_t shard,
                                     BlockRange rows, const ReadData& data);
  bool agree(const ShardLayout& layout, const ShardRows& rows, ShardSet shards, uint32_t row);
  Task<Result<std::optional<uint32_t>>> firstWrong(GroupRef group, ChunkId chunk, BlockRange rows);
  Task<Result<uint64_t>> mendRow(GroupRef group, ChunkId chunk, uint32_t row);
  Task<Result<uint64_t>> mend(GroupRef group, ChunkId chunk, BlockRange rows);

  Env& env_;
  Store& store_;
  ChunkTable& chunks_;
  const MapState& map_;
  const GroupTable& groups_;
  MemberCalls& members_;
  Equalizer& equalizer_;
  Replicator& replicator_;
  ShardReader& reader_;
  Probe& probe_;
};

}  // namespace cairn::osd
