// The FUSE edge: the kernel's requests become calls of client::Filesystem, its results become
// replies. libfuse3's low-level API parses and formats; the descriptor is polled on the reactor and
// read without blocking, so that one thread does FUSE, network and timers. The kernel's inode
// number is the InodeId, so nothing is remembered per inode here and forget() has nothing to do.
//
// Permission checks are the kernel's (mount option default_permissions), from the attributes
// replied here.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "client/core/filesystem.h"
#include "common/base/env.h"
#include "common/metrics/metrics.h"
#include "common/reactor/sync.h"
#include "common/reactor/uring_reactor.h"

namespace cairn::client {

struct EdgeOptions {
  double attrTimeoutSec = 1.0;
  double entryTimeoutSec = 1.0;
};

// An open file as the kernel names it (fuse_file_info.fh).
struct OpenFile {
  std::shared_ptr<Handle> handle;
};

// An open directory: the page of entries fetched last, so that the kernel's small readdir buffers
// cost no round trips.
struct OpenDir {
  InodeId ino;
  DirPage page;
  size_t position = 0;      // next entry of `page` to give
  uint64_t lastCookie = 0;  // the offset with which the kernel goes on there
  bool plus = false;        // `page` was fetched with attributes
  bool loaded = false;
};

class FuseEdge {
 public:
  FuseEdge(Env& env, UringReactor& reactor, Filesystem& fs, EdgeOptions options);
  ~FuseEdge();
  FuseEdge(const FuseEdge&) = delete;
  FuseEdge& operator=(const FuseEdge&) = delete;

  // Mounts. `arguments`: "-o" options for libfuse. The directory was checked before (see mount.h).
  Result<void> mount(const std::string& directory, const std::vector<std::string>& arguments);
  // Serves until the kernel has let go of the mount; then every request was answered.
  Task<void> serve();

  // ---- for the operations ----
  Env& env;
  UringReactor& reactor;
  Filesystem& fs;
  const EdgeOptions options;

  // Runs `task`; if it fails, replies its errno. A task that succeeds has replied.
  void run(fuse_req_t request, const char* op, Task<Result<void>> task);
  // The bytes of a write request: a slice of the request's own memory where that saves a large
  // copy.
  Buffer takeWritten(const char* data, size_t size);

  static FuseEdge& of(fuse_req_t request) {
    return *static_cast<FuseEdge*>(fuse_req_userdata(request));
  }
  static struct stat statOf(const Attr& attr);
  [[nodiscard]] fuse_entry_param entryOf(const Attr& attr) const;

 private:
  Task<void> answered(fuse_req_t request, OpMetrics& metrics, Task<Result<void>> task);

  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  Buffer receive_;  // where the next request lands
  bool receiveTaken_ = false;
  TaskScope scope_;
};

// Replies success when `task` has succeeded.
Task<Result<void>> replyDone(fuse_req_t request, Task<Result<void>> task);

// Fill in the table of callbacks, one part of it per file of operations.
void addNamespaceOps(fuse_lowlevel_ops& ops);
void addAttributeOps(fuse_lowlevel_ops& ops);
void addFileOps(fuse_lowlevel_ops& ops);
void addDirectoryOps(fuse_lowlevel_ops& ops);

}  // namespace cairn::client
