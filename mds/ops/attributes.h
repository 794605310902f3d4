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

// `session` changes the data or the size of a file: it becomes the one that may leave bytes behind
// the end (Inode::writer), unless it still has to clean up behind another, who then stays under
// suspicion. `cleaned`: it has zeroed the tail, or could not have done this without.
inline void noteWriter(Inode& file, SessionId session, bool cleaned) {
  if (cleaned || !file.tailUncleanFor(session)) file.writer = session;
}

}  // namespace cairn::mds::ops
