// Data up to `size` is durable on the OSDs: the file is at least that long from now on.
//
// Errors: kStale, kIsDirectory, kInvalid (not a file), kTooBig.
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
  if (args.getClearSuid()) clearSuid(file);
  ++file.dataVersion;
  ctx.changed(file);
  if (args.getSetMtime()) file.mtimeNs = args.getMtimeNs();
  ctx.replyAttr(file);
  return {};
}

}  // namespace cairn::mds::ops
