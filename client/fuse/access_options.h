// Which reads change the time of last access: what mount options say, and the kernel's table of
// mounts. The kernel leaves these times to who serves the file system (FUSE inodes are S_NOATIME),
// and does not tell it when a remount changes the options: the table is watched for that. Options
// of bind mounts are not seen: a request does not say which mount it came through.
#pragma once

#include <string>
#include <string_view>

#include "client/core/filesystem.h"
#include "common/base/result.h"
#include "common/reactor/uring_reactor.h"

namespace cairn::client {

// Whether the word is one of these options: noatime, relatime, strictatime, nodiratime and their
// opposites.
bool takeAccessOption(std::string_view word, AccessPolicy& policy);

// What the options of a mount in /proc/self/mountinfo ask for.
AccessPolicy accessPolicyOf(std::string_view mountOptions);

// Gives the mount at `directory` the options that libfuse cannot pass on. kPermission: not root.
Result<void> setAccessOptions(const std::string& directory, AccessPolicy policy);

// Tells the file system when the options of its mount change. On the reactor's thread.
class MountTableWatch {
 public:
  MountTableWatch(UringReactor& reactor, Filesystem& fs, const std::string& directory);
  ~MountTableWatch();
  MountTableWatch(const MountTableWatch&) = delete;
  MountTableWatch& operator=(const MountTableWatch&) = delete;

  // Until end().
  Task<void> run();
  void end();

 private:
  UringReactor& reactor_;
  Filesystem& fs_;
  std::string id_;       // of the mount, in the table; empty: it is not there
  std::string options_;  // as they were last
  int fd_ = -1;
  bool ended_ = false;
};

}  // namespace cairn::client
