// removexattr(2). Errors: kStale, kNoAttribute (but of access control lists: that there is none is
// what was asked for).
#include "mds/ops/ops.h"
#include "mds/ops/xattrs.h"

namespace cairn::mds::ops {

Result<void> removeXattr(OpContext& ctx, schema::XattrName::Reader args) {
  const auto name = nameOf(args.getName());
  auto found = ctx.inode(InodeId(args.getIno()));
  TRY(found);
  Inode& inode = **found;
  auto dropped = dropXattr(ctx, inode, name);
  TRY(dropped);
  if (*dropped)
    ctx.changed(inode);
  else if (name != kAccessAcl && name != kDefaultAcl)
    return fail(Errc::kNoAttribute);
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
