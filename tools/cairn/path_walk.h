// Where a path on a mounted Cairn filesystem leads, found without a system call that the mount
// would have to answer: from /proc and the metadata servers alone. So it works while the mount
// hangs, and no client is asked to give anything back for it.
#pragma once

#include "tools/cairn/command.h"

namespace cairn::tools {

// Where a path enters a mount.
struct MountEntry {
  std::string point;  // the mount point
  std::vector<Endpoint> servers;
  std::vector<std::string> rest;  // the names behind it, not looked at
};

// Follows symbolic links up to the mount point. kInvalid if the path leads to no mounted Cairn
// filesystem.
Result<MountEntry> enterMount(const std::string& path);

// What the MDS knows of an inode. Of a file that a client is writing, size and times may be old.
struct WalkedFile {
  InodeId ino;
  PoolId pool;
  uint32_t mode = 0, chunkCount = 0;
  uint64_t size = 0;
};

// The rest of the walk. `elsewhere` is set instead where a symbolic link, or a "..", leads out of
// the filesystem: a path to begin with anew.
struct Walked {
  WalkedFile file;
  std::string elsewhere;
};
Task<Result<Walked>> walk(MdsConnection& connection, MountEntry entry);

}  // namespace cairn::tools
