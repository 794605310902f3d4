// chmod, chown, utimensat and truncate.
//
// Errors: kStale; for a size kIsDirectory, kInvalid (not a file), kTooBig, kBusyTryLater (too many
// large truncations are still being freed).
#include <sys/stat.h>

#include "mds/ops/attributes.h"
#include "mds/ops/chunk_map.h"
#include "mds/ops/ops.h"
#include "mds/ops/xattrs.h"

namespace cairn::mds::ops {
namespace {

Result<void> resize(OpContext& ctx, Inode& file, uint64_t size) {
  if (size > kMaxFileSize) return fail(Errc::kTooBig);
  // A shorter file has nothing behind its new end but what tailUnclean says.
  noteWriter(file, ctx.session(), size != file.size);
  if (size < file.size) {
    TRY(discardFrom(ctx, file, static_cast<uint32_t>(roundUp(size, kChunkSize) / kChunkSize)));
    // What the chunk with the new end holds beyond it must never be seen again: whoever extends
    // the file zeroes it first.
    file.tailUnclean = false;
    if (size % kChunkSize != 0) {
      const auto index = static_cast<uint32_t>(size / kChunkSize);
      auto tail = ctx.state().chunk(file.ino, index);
      TRY(tail);
      file.tailUnclean = *tail && !file.condemns(index, (*tail)->id);
    }
  }
  file.size = size;
  ++file.dataVersion;
  ctx.modified(file);  // also when the size stays: truncate(2) marks mtime and ctime
  return {};
}

}  // namespace

Result<void> setattr(OpContext& ctx, schema::Setattr::Reader args) {
  auto found = args.getSetSize() ? ctx.regularFile(InodeId(args.getIno()))
                                 : ctx.inode(InodeId(args.getIno()));
  TRY(found);
  Inode& inode = **found;
  if (args.getSetSize()) TRY(resize(ctx, inode, args.getSize()));
  if (args.getClearSuid()) clearSuid(inode);
  if (args.getSetMode()) TRY(setMode(ctx, inode, args.getMode()));
  if (args.getSetUid()) inode.uid = args.getUid();
  if (args.getSetGid()) inode.gid = args.getGid();
  const bool any = args.getSetSize() || args.getClearSuid() || args.getSetMode() ||
                   args.getSetUid() || args.getSetGid() || args.getSetAtime() || args.getSetMtime();
  if (any) ctx.changed(inode);
  if (args.getSetAtime()) inode.atimeNs = args.getAtimeNow() ? ctx.timeNs() : args.getAtimeNs();
  if (args.getSetMtime()) inode.mtimeNs = args.getMtimeNow() ? ctx.timeNs() : args.getMtimeNs();
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
