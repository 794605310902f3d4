// What chunks and groups of an erasure-coded pool are called.
//
// On the wire a shard of a chunk has the chunk's id: which shard is meant follows from who is
// asked, for the map says which one each member holds. In an OSD's store the shard's number is part
// of the name, of chunks and of groups. So what an OSD holds from a time in which it had another
// shard of the same group is another group to it, of which nothing is taken for the new one.
//
// Beside each chunk there may be a staged one (staged_op.h), with the top bit of the id set, in the
// same group. Replicated pools have shard 0 and nothing staged: all names are the same everywhere.
#pragma once

#include "common/base/ids.h"
#include "osd/store.h"

namespace cairn::osd {

namespace detail {
inline constexpr uint64_t kStagedBit = uint64_t{1} << 63;
inline constexpr unsigned kChunkShardBit = 56, kGroupShardBit = 24;
inline constexpr uint64_t kChunkShardMask = uint64_t{0x1f} << kChunkShardBit;
inline constexpr uint32_t kGroupShardMask = uint32_t{0x1f} << kGroupShardBit;
}  // namespace detail

constexpr ChunkId staged(ChunkId chunk) {
  return ChunkId{chunk.value | detail::kStagedBit};
}
constexpr bool isStaged(ChunkId chunk) {
  return (chunk.value & detail::kStagedBit) != 0;
}
constexpr ChunkId unstaged(ChunkId chunk) {
  return ChunkId{chunk.value & ~detail::kStagedBit};
}

constexpr ChunkId inStore(ChunkId chunk, uint8_t shard) {
  return ChunkId{chunk.value | uint64_t{shard} << detail::kChunkShardBit};
}
constexpr ChunkId onWire(ChunkId stored) {
  return ChunkId{stored.value & ~detail::kChunkShardMask};
}
constexpr GroupId inStore(GroupId group, uint8_t shard) {
  return {group.pool, PgIndex{group.pg.value | uint32_t{shard} << detail::kGroupShardBit}};
}
constexpr GroupId onWire(GroupId stored) {
  return {stored.pool, PgIndex{stored.pg.value & ~detail::kGroupShardMask}};
}
constexpr uint8_t shardOf(GroupId stored) {
  return static_cast<uint8_t>((stored.pg.value & detail::kGroupShardMask) >>
                              detail::kGroupShardBit);
}

}  // namespace cairn::osd
