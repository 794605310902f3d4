// The end of an inode: its last name goes, its last holder goes, its contents are freed. Used by
// the operations.
#pragma once

#include "mds/ops/context.h"

namespace cairn::mds::ops {

// One name less (a directory has only one). An inode without a name becomes an orphan while
// sessions of the command's openBy hold it, and is freed otherwise. `victim` may be gone
// afterwards.
Result<void> dropName(OpContext& ctx, Inode& victim);
// Frees an unlinked inode that nobody holds: at once if that is little work, otherwise in steps by
// purge.
Result<void> release(OpContext& ctx, Inode& inode);
// Frees up to `budget` chunks and xattrs of an unlinked inode that nobody holds, and the inode with
// the last; what was done is taken off `budget`.
Result<void> freeContents(OpContext& ctx, Inode& inode, size_t& budget);

}  // namespace cairn::mds::ops
