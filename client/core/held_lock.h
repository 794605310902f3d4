// A file lock of one owner, as it is named to the MDS. Plain values.
#pragma once

#include "common/base/ids.h"
#include "common/locks/lock_ranges.h"

namespace cairn::client {

struct HeldLock {
  InodeId ino;
  LockSpace space = LockSpace::kRange;
  uint64_t owner = 0;  // the kernel's number
  LockPiece piece;
};

}  // namespace cairn::client
