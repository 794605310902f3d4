// A client has made zeros of all that lay behind the end of the file in its last chunk. Chunks
// behind that one, which another writer may have filled before it was expired, are given up here:
// the client holds the write lease, so nobody knows them. It counts only if the file still ends
// there: another truncation would have left another tail.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file).
#include "mds/ops/attributes.h"
#include "mds/ops/chunk_map.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> tailCleaned(OpContext& ctx, schema::TailCleaned::Reader args) {
  auto found = ctx.regularFile(InodeId(args.getIno()));
  TRY(found);
  Inode& file = **found;
  if (file.tailUncleanFor(ctx.session()) && file.size == args.getSize()) {
    if (file.writer != ctx.session())
      TRY(discardFrom(ctx, file,
                      static_cast<uint32_t>(roundUp(file.size, kChunkSize) / kChunkSize)));
    file.tailUnclean = false;
    noteWriter(file, ctx.session(), true);
    ctx.touch(file);  // no data that anybody may read has changed: times stay
  }
  ctx.replyAttr(file);
  return {};
}

}  // namespace cairn::mds::ops
