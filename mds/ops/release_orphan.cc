// A session closed an unlinked inode. With the last holder, it is freed at once if that is little
// work, otherwise by purge. Releasing what is not held succeeds: a repeated close does no harm.
#include <algorithm>

#include "mds/ops/ops.h"
#include "mds/ops/unlink.h"

namespace cairn::mds::ops {

Result<void> releaseOrphan(OpContext& ctx, schema::ReleaseOrphan::Reader args) {
  const InodeId ino(args.getIno());
  const auto* heldBy = ctx.orphan(ino);
  if (heldBy == nullptr) return {};
  auto holders = *heldBy;
  if (std::erase(holders, SessionId(args.getSession())) == 0) return {};
  if (!holders.empty()) {
    ctx.setOrphan(ino, std::move(holders));
    return {};
  }
  auto inode = ctx.storedInode(ino);
  TRY(inode);
  if (*inode == nullptr)
    return fail(Errc::kCorrupt, "orphan " + std::to_string(ino.value) + " has no inode");
  return release(ctx, **inode);
}

}  // namespace cairn::mds::ops
