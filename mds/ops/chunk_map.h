// The life of chunks: from a file's chunk map to the garbage queue. Used by the operations.
#pragma once

#include "mds/ops/context.h"

namespace cairn::mds::ops {

// What one command frees at once; the rest of a larger truncation is condemned and freed by purge.
inline constexpr size_t kMaxDiscards = 4096;
// An unlinked inode with no more chunks or xattrs than this is freed by the command that unlinks
// it.
inline constexpr uint32_t kMaxFreedAtOnce = 64;
// Chunks that one allocChunks or removeChunks may name.
inline constexpr uint32_t kMaxChunksPerCommand = 1024;
// Large truncations of one file that may wait for purge at the same time.
inline constexpr size_t kMaxCondemned = 16;

// Of them, that may be asked to be in the group of another chunk.
inline constexpr uint32_t kMaxNear = 64;

// A new chunk at `index`, where there is no record; with `near`, in the group in which that chunk
// is, if it is in the file's pool.
Chunk allocate(OpContext& ctx, Inode& file, uint32_t index, ChunkId near = {});
// Whether the chunk is where allocate() would put it.
bool isNear(OpContext& ctx, const Inode& file, const Chunk& chunk, ChunkId near);
// From the chunk map to the garbage queue.
void discard(OpContext& ctx, Inode& file, const Chunk& chunk);
// Every chunk at or after `from`: the first kMaxDiscards now, the others as condemned.
// kBusyTryLater if too many such truncations wait already.
Result<void> discardFrom(OpContext& ctx, Inode& file, uint32_t from);
// Up to `budget` condemned chunks; what was done is taken off `file.condemned` and `budget`.
Result<void> discardCondemned(OpContext& ctx, Inode& file, size_t& budget);

// kInvalid for no chunks or more than kMaxChunksPerCommand, kTooBig beyond the largest file.
Result<void> checkRange(uint32_t first, uint32_t count);

}  // namespace cairn::mds::ops
