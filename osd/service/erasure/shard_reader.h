// Reads rows of the shards of a chunk: from who holds them, or, where nobody in sync does or can,
// by decoding other ones.
//
// For the primary, with the rows locked at least shared. At most 4 MiB of one shard at a time.
// Everything returned is verified. One reactor thread.
#pragma once

#include <map>
#include <memory>

#include "common/base/env.h"
#include "osd/service/erasure/shard_layout.h"
#include "osd/service/group_table.h"
#include "osd/service/member_calls.h"

namespace cairn::osd {

// The same rows of several shards, as a store would answer for each.
using ShardRows = std::map<uint8_t, ReadData>;

class ShardReader {
 public:
  // All outlive it.
  ShardReader(Env& env, Store& store, const MapState& map, const GroupTable& groups,
              MemberCalls& members)
      : env_(env), store_(store), map_(map), groups_(groups), members_(members) {}

  // Rows of one shard from its holder. kUnavailable: there is none, or it does not answer;
  // kCorrupt, kIo: they are damaged there.
  Task<Result<ReadData>> direct(GroupRef group, ChunkId chunk, uint8_t shard, BlockRange rows);

  struct Decoded {
    ShardRows rows;        // of all that were wanted
    ShardSet read = 0;     // shards that were read, not made from others
    ShardSet damaged = 0;  // shards that their holder could not read
  };
  // Shards in `avoid` are not asked for. kCorrupt: so much is damaged that too few are left;
  // kUnavailable: too few can be reached.
  Task<Result<Decoded>> rows(GroupRef group, ChunkId chunk, ShardSet wanted, BlockRange rows,
                             ShardSet avoid = 0);

  // Shards that somebody in sync holds.
  [[nodiscard]] ShardSet held(const GroupRef& group) const;
  [[nodiscard]] const ErasureCode& code(const ShardLayout& layout);
  // Of the group's pool, as the map says now. Null if the group is gone, or is not erasure-coded.
  [[nodiscard]] const Pool* pool(const GroupId& group) const;

 private:
  Result<void> decode(const ShardLayout& layout, ShardSet missing, uint32_t blocks,
                      ShardRows& rows);

  Env& env_;
  Store& store_;
  const MapState& map_;
  const GroupTable& groups_;
  MemberCalls& members_;
  std::map<std::pair<uint32_t, uint32_t>, std::unique_ptr<ErasureCode>> codes_;
};

// `data` as if nothing were a hole: its bytes, zeros where there was one.
const uint8_t* bytesOrZeros(const ReadData& data, const Buffer& zeros);

}  // namespace cairn::osd
