// Mounting: options, the checks before, and the life of a mount from connect to unmount. Used by
// `cairn mount` and mount.cairn.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "client/core/filesystem.h"
#include "client/fuse/edge.h"
#include "common/base/env.h"
#include "common/base/result.h"
#include "common/reactor/uring_reactor.h"

namespace cairn::client {

struct MountOptions {
  std::string directory;  // absolute
  std::string source;     // what /proc/mounts shows: the MDS addresses
  Options filesystem;
  std::vector<std::string> fuse;  // passed on as -o: ro, nosuid, allow_other, ...
  uint64_t kernelReadaheadBytes = 8 * kMiB;
};

// Reads "-o a,b,...": options of FUSE and of mount(8); those that only matter to fstab (noauto,
// _netdev, x-*, ...) are dropped. An unknown one gives kInvalid with its name.
Result<void> parseMountOptions(std::string_view text, MountOptions& options);

// Can `directory` be mounted on? It must be an empty-handed directory that is no mount of Cairn
// already, and /dev/fuse must work. The error says what to do. Also finds a dead mount ("transport
// endpoint is not connected") and says how to clear it.
Result<void> checkMountPoint(const std::string& directory);

// Connects, mounts, calls `onMounted`, serves until the mount is gone (umount, fusermount3 -u, or
// `stop` is set, which takes it), flushes and says good-bye to the MDS.
Task<Result<void>> runMount(Env& env, UringReactor& reactor, MountOptions options, Event& stop,
                            std::function<void()> onMounted);

}  // namespace cairn::client
