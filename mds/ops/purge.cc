// One step of freeing: of an unlinked inode that nobody holds, or of what a large truncation left.
// The leader repeats it while orphans() lists the inode without holders.
//
// Errors: kNotFound (nothing left to do there), kBusy (held by a session), kInvalid (limit 0).
#include <algorithm>

#include "mds/ops/chunk_map.h"
#include "mds/ops/ops.h"
#include "mds/ops/unlink.h"

namespace cairn::mds::ops {

Result<void> purge(OpContext& ctx, schema::Purge::Reader args) {
  const InodeId ino(args.getIno());
  size_t budget = std::min<size_t>(args.getLimit(), kMaxDiscards);
  if (budget == 0) return fail(Errc::kInvalid);
  const auto* holders = ctx.orphan(ino);
  if (holders == nullptr) return fail(Errc::kNotFound);
  if (!holders->empty()) return fail(Errc::kBusy);
  auto found = ctx.storedInode(ino);
  TRY(found);
  if (*found == nullptr)
    return fail(Errc::kCorrupt, "orphan " + std::to_string(ino.value) + " has no inode");
  Inode& inode = **found;
  bool done;
  if (inode.nlink == 0) {
    TRY(freeContents(ctx, inode, budget));
    done = inode.chunkCount == 0 && inode.xattrCount == 0;
  } else {
    TRY(discardCondemned(ctx, inode, budget));
    done = inode.condemned.empty();
  }
  if (done) ctx.dropOrphan(ino);
  return {};
}

}  // namespace cairn::mds::ops
