// removexattr(2). Errors: kStale, kNoAttribute.
#include "mds/ops/ops.h"
#include "mds/state/keys.h"

namespace cairn::mds::ops {

Result<void> removeXattr(OpContext& ctx, schema::XattrName::Reader args) {
  const auto name = nameOf(args.getName());
  auto found = ctx.inode(InodeId(args.getIno()));
  TRY(found);
  Inode& inode = **found;
  if (inode.xattrCount == 0) return fail(Errc::kNoAttribute);
  auto key = keys::xattr(inode.ino, name);
  auto old = ctx.state().txn.get(key);
  TRY(old);
  if (!*old) return fail(Errc::kNoAttribute);
  ctx.state().txn.del(std::move(key));
  --inode.xattrCount;
  inode.xattrListBytes -= static_cast<uint32_t>(name.size() + 1);
  ctx.changed(inode);
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
