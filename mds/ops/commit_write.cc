// Data up to `size` is durable on the OSDs: the file is at least that long from now on.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file), kTooBig.
#include <algorithm>

#include "mds/ops/attributes.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> commitWrite(OpContext& ctx, schema::CommitWrite::Reader args) {
  if (args.getSize() > kMaxFileSize) return fail(Errc::kTooBig);
  auto found = ctx.regularFile(InodeId(args.getIno()));
  TRY(found);
  Inode& file = **found;
  // Whoever extends a file has found or made its tail clean before.
  const bool extends = args.getSize() > file.size;
  if (args.getTailCleaned()) file.tailUnclean = false;
  noteWriter(file, ctx.session(), args.getTailCleaned() || extends);
  file.size = std::max(file.size, args.getSize());
  if (args.getClearSuid()) {
    clearSuid(file);
    ctx.changed(file);
  }
  ++file.dataVersion;
  ctx.touch(file);
  // The file changed when it was written, and its writer has shown that ctime since: it must not
  // move when we hear of it, which tar(1) would take for a change. But it moves on with every
  // change, and not ahead of our clock, whatever the writer's says. A commit without a time belongs
  // to writes that an earlier one has dated.
  if (args.getSetMtime()) {
    file.mtimeNs = args.getMtimeNs();
    file.ctimeNs = std::max(file.ctimeNs + 1, std::min(file.mtimeNs, ctx.timeNs()));
  }
  ctx.replyAttr(file);
  return {};
}

}  // namespace cairn::mds::ops
