// Makes the missing chunks of a range and answers with all of it. Chunks are placed in the file's
// pool by their id; ids grow and are never reused.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file; no chunks or too many), kTooBig.
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
  auto next = existing.begin();
  for (uint32_t index = first; index < first + count; ++index) {
    if (next != existing.end() && next->index == index) {
      const Chunk chunk = *next++;
      if (!file.condemns(index, chunk.id)) {
        chunks.push_back(chunk);
        continue;
      }
      discard(ctx, file, chunk);  // of before a truncation that purge has not reached yet
    }
    chunks.push_back(allocate(ctx, file, index));
  }
  ctx.replyChunks(chunks);
  return {};
}

}  // namespace cairn::mds::ops
