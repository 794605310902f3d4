// Makes the missing chunks of a range and answers with all of it. Chunks are placed in the file's
// pool by their id; ids grow and are never reused. A chunk that is to be near another, for a copy
// that shares its blocks (osd.capnp, Clone), gets an id that is placed there. That costs nothing
// but ids: no record says where a chunk lies, and no map is changed.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file; no chunks or too many), kTooBig.
#include <algorithm>

#include "mds/ops/attributes.h"
#include "mds/ops/chunk_map.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> allocChunks(OpContext& ctx, schema::Chunks::Reader args) {
  const uint32_t first = args.getFirst(), count = args.getCount();
  TRY(checkRange(first, count));
  auto found = ctx.regularFile(InodeId(args.getIno()));
  TRY(found);
  Inode& file = **found;
  // As long as a file has no chunks, whoever makes the first finds nothing behind the end.
  noteWriter(file, ctx.session(), false);
  std::vector<Chunk> existing;
  if (file.chunkCount != 0) {
    auto records = ctx.state().chunkRecords(file.ino, first, first + count, count);
    TRY(records);
    existing = std::move(*records);
  }
  std::vector<Chunk> chunks;
  chunks.reserve(count);
  const auto near = args.getNear();
  if (near.size() > std::min(count, kMaxNear)) return fail(Errc::kInvalid);
  auto next = existing.begin();
  for (uint32_t index = first; index < first + count; ++index) {
    const ChunkId wanted(index - first < near.size() ? near[index - first] : 0);
    if (next != existing.end() && next->index == index) {
      const Chunk chunk = *next++;
      const bool unseen = index * kChunkSize >= file.size;
      const bool misplaced = wanted && unseen && !isNear(ctx, file, chunk, wanted);
      if (!misplaced && !file.condemns(index, chunk.id)) {
        chunks.push_back(chunk);
        continue;
      }
      // It is of before a truncation that purge has not reached yet; or it holds nothing, like the
      // first chunk, which is made with the file.
      discard(ctx, file, chunk);
    }
    chunks.push_back(allocate(ctx, file, index, wanted));
  }
  ctx.replyChunks(chunks);
  return {};
}

}  // namespace cairn::mds::ops
