// One more name for an inode that is not a directory; symlinks may have several names.
//
// Errors: kPermission (a directory), kNotFound (unlinked meanwhile, and not made without a name),
// kTooManyLinks, kExists, and those of a directory and a name (make.cc).
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> link(OpContext& ctx, schema::Link::Reader args) {
  const auto name = nameOf(args.getName());
  TRY(checkName(name));
  auto parent = ctx.directory(InodeId(args.getParent()));
  TRY(parent);
  auto source = ctx.inode(InodeId(args.getIno()));
  TRY(source);
  Inode& inode = **source;
  if (inode.isDirectory()) return fail(Errc::kPermission);
  // An orphan stays one: purge must not meet an inode that has a name again. But what never had a
  // name may get one while it is held.
  if (inode.nlink == 0 && !inode.linkable) return fail(Errc::kNotFound);
  auto taken = ctx.hasEntry(**parent, name);
  TRY(taken);
  if (*taken) return fail(Errc::kExists);
  if (inode.nlink >= kMaxLinks) return fail(Errc::kTooManyLinks);

  if (inode.linkable) {
    inode.linkable = false;
    if (inode.condemned.empty())
      ctx.dropOrphan(inode.ino);
    else
      ctx.setOrphan(inode.ino, {});  // there is still something to free
  }
  ++inode.nlink;
  ctx.changed(inode);
  ctx.attach(**parent, name, inode);
  ctx.modified(**parent);
  ctx.replyEntry(inode);
  return {};
}

}  // namespace cairn::mds::ops
