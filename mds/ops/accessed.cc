// Reads, told by the mount they came through: times of last access, and nothing else of an inode.
//
// Whether one is due is decided here, by the record as it is now: of many readers the first counts.
// A reader's clock that is ahead of ours does not take the time ahead of ours.
//
// Errors: none of its own. An inode that is gone is left out.
#include <algorithm>

#include "common/base/access_time.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> accessed(OpContext& ctx, schema::Accessed::Reader args) {
  for (auto access : args.getAccesses()) {
    auto found = ctx.inode(InodeId(access.getIno()));
    if (!found && found.error().code == Errc::kStale) continue;
    TRY(found);
    Inode& inode = **found;
    const int64_t at = std::min(access.getTimeNs(), ctx.timeNs());
    if (!accessDue(inode.atimeNs, inode.mtimeNs, inode.ctimeNs, at, args.getAlways())) continue;
    inode.atimeNs = at;
    ctx.store(inode);
  }
  return {};
}

}  // namespace cairn::mds::ops
