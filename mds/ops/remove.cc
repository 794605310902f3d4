// unlink and rmdir.
//
// Errors: kNotFound, kIsDirectory (unlink of a directory), kNotDirectory (rmdir of something else),
// kNotEmpty, and those of a directory and a name (make.cc).
#include "mds/ops/ops.h"
#include "mds/ops/unlink.h"

namespace cairn::mds::ops {

Result<void> remove(OpContext& ctx, schema::Remove::Reader args) {
  const auto name = nameOf(args.getName());
  TRY(checkName(name));
  auto parent = ctx.directory(InodeId(args.getParent()));
  TRY(parent);
  auto found = ctx.child(**parent, name);
  TRY(found);
  if (*found == nullptr) return fail(Errc::kNotFound);
  Inode& victim = **found;
  if (args.getDirectory()) {
    if (!victim.isDirectory()) return fail(Errc::kNotDirectory);
    if (victim.size != 0) return fail(Errc::kNotEmpty);
  } else if (victim.isDirectory()) {
    return fail(Errc::kIsDirectory);
  }
  ctx.detach(**parent, name, victim);
  ctx.modified(**parent);
  return dropName(ctx, victim);
}

}  // namespace cairn::mds::ops
