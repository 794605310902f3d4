// Attribute rules that several operations share.
#pragma once

#include <sys/stat.h>

#include "mds/state/state_machine.h"

namespace cairn::mds::ops {

// Data or owner changed hands: a program must not keep powers that its new contents or owner were
// not given. S_ISGID without group execution meant mandatory locking and stays (chown(2)).
inline void clearSuid(Inode& inode) {
  if (inode.isDirectory()) return;
  inode.mode &= ~static_cast<uint32_t>(S_ISUID);
  if ((inode.mode & S_IXGRP) != 0) inode.mode &= ~static_cast<uint32_t>(S_ISGID);
}

}  // namespace cairn::mds::ops
