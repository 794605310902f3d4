// The pool that new files below a directory use, or that an empty file's chunks go to.
//
// Errors: kStale, kNotFound (no such pool), kInvalid (a file with chunks, or neither).
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> setLayout(OpContext& ctx, schema::SetLayout::Reader args) {
  auto found = ctx.inode(InodeId(args.getIno()));
  TRY(found);
  Inode& inode = **found;
  const auto name = textOf(args.getPool());
  const Pool* pool = ctx.cluster().map.poolByName(name);
  if (pool == nullptr) return fail(Errc::kNotFound, "there is no pool '" + std::string(name) + "'");
  if (!inode.isDirectory() && !inode.isRegular())
    return fail(Errc::kInvalid, "only directories and files have a layout");
  if (inode.isRegular() && inode.chunkCount != 0)
    return fail(Errc::kInvalid, "the file has data already; copy it to a new file instead");
  ctx.setPool(inode, pool->id);
  ctx.changed(inode);
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
