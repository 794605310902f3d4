// Whole chunks of a punched hole go to the garbage queue: they read as zeros from now on.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file; no chunks or too many), kTooBig.
#include "mds/ops/chunk_map.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> removeChunks(OpContext& ctx, schema::Chunks::Reader args) {
  const uint32_t first = args.getFirst(), count = args.getCount();
  TRY(checkRange(first, count));
  auto found = ctx.regularFile(InodeId(args.getIno()));
  TRY(found);
  Inode& file = **found;
  if (file.chunkCount != 0) {
    auto records = ctx.state().chunkRecords(file.ino, first, first + count, count);
    TRY(records);
    for (const auto& chunk : *records) discard(ctx, file, chunk);
  }
  // Without its chunk, a tail holds no old bytes.
  const uint64_t tail = file.size / kChunkSize;
  if (tail >= first && tail < uint64_t{first} + count) file.tailUnclean = false;
  ++file.dataVersion;
  ctx.modified(file);
  ctx.replyAttr(file);
  return {};
}

}  // namespace cairn::mds::ops
