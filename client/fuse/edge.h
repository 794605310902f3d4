// The FUSE edge: the kernel's requests become calls of client::Filesystem, its results become
// replies. libfuse3's low-level API parses and formats; the descriptor is polled on the reactor and
// read without blocking, so that one thread does FUSE, network and timers. The kernel's inode
// number is the InodeId; of each inode that it has, only the number of its entries is remembered.
//
// Permission checks are the kernel's (mount option default_permissions), from the attributes
// replied here.
//
// The kernel's caches are exact. It is told for how long it may keep what a lease covers, and to
// forget when that is recalled:
//   attributes  by an invalidation that takes no locks. A page in the kernel's cache is shown only
//               under attributes that are valid, so nothing is read from stale pages either, if
//               whoever answers with attributes waits for pages that are being dropped, and for
//               writes that the kernel has put into its pages before they had their lease
//               (settledAttr).
//   pages       are dropped on a pool thread, around those that requests which wait here have
//               locked (page_drops.h).
//   names       all at once, by raising the mount's epoch (Linux 6.16): the invalidation of one
//               name would wait for the directory's lock, which a request holds that waits for us.
//               Where the kernel knows no epochs it asks for every name.
// The kernel cannot forget the attributes of an inode that it does not have yet: an entry may have
// been written to it that the process which waited for it has not taken up. The forgetting is then
// repeated until it is taken up.
// An answer with attributes to a question that is older than an invalidation of the inode does not
// change the kernel's idea of its size, where reads and mappings end. So nothing is invalidated
// again that a recall has invalidated, and an open waits until what it found to be stale is
// dropped. Older is also a question whose answer is written, as long as the process that asked has
// not run since: so a recall invalidates nothing of an open file of which the kernel has nothing
// (File::keepsAttrs).
//
// Neither does an answer that meets a write(2) of the same inode, nor one that the kernel has asked
// for before such a write ended. What another mount has appended would not be there to read, while
// this one writes. So the kernel's size is raised where that may be so, before it is answered
// (raiseSize).
//
// The kernel tells of the end of an open file when close(2) may have returned already. What it has
// told nobody yet is heard on demand (hearCloses), so that locks end with the close.
#pragma once

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client/core/filesystem.h"
#include "client/fuse/callers.h"
#include "client/fuse/page_drops.h"
#include "client/fuse/under_way.h"
#include "common/base/env.h"
#include "common/metrics/metrics.h"
#include "common/reactor/sync.h"
#include "common/reactor/uring_reactor.h"

namespace cairn::client {

// An open file as the kernel names it (fuse_file_info.fh).
struct OpenFile {
  OpenFile(std::shared_ptr<Handle> h, int openFlags)
      : handle(std::move(h)), direct((openFlags & O_DIRECT) != 0) {}
  std::shared_ptr<Handle> handle;
  const bool direct;  // its reads show no pages
};

inline const OpenFile& openFileOf(const fuse_file_info* info) {
  return *reinterpret_cast<OpenFile*>(info->fh);
}
inline std::shared_ptr<Handle> handleOf(const fuse_file_info* info) {
  return openFileOf(info).handle;
}

// An open directory: the page of entries fetched last, so that the kernel's small readdir buffers
// cost no round trips.
struct OpenDir {
  InodeId ino;
  DirPage page;
  std::vector<Filesystem::Stamp> stamps;  // of the entries of `page`, with attributes
  size_t position = 0;                    // next entry of `page` to give
  uint64_t lastCookie = 0;                // the offset with which the kernel goes on there
  bool plus = false;                      // `page` was fetched with attributes
  bool loaded = false;
  bool quiet = false;  // O_NOATIME
};

class FuseEdge {
 public:
  FuseEdge(Env& env, UringReactor& reactor, Filesystem& fs);
  ~FuseEdge();
  FuseEdge(const FuseEdge&) = delete;
  FuseEdge& operator=(const FuseEdge&) = delete;

  // Mounts. `arguments`: "-o" options for libfuse. The directory was checked before (see mount.h).
  Result<void> mount(const std::string& directory, const std::vector<std::string>& arguments);
  // Serves until the kernel has let go of the mount, or quit(); then every request that was taken
  // is answered.
  Task<void> serve();
  // Takes no more requests: when the edge is destroyed, the kernel fails those that are left.
  void quit();

  // For the callback of INIT.
  void greeted(bool epochs) { epochs_ = epochs; }
  // Once true: for what is written to the kernel first, the answer to INIT.
  bool firstAnswer() { return std::exchange(unanswered_, false); }
  // Whether the answer to a request is to be written: its caller may have been killed.
  [[nodiscard]] bool expected(uint64_t unique);
  // It is written now.
  void answering(uint64_t unique) { underWay_.answered(unique); }

  // ---- for the operations ----
  Env& env;
  UringReactor& reactor;
  Filesystem& fs;

  // Runs `task`; if it fails, replies its errno. A task that succeeds has replied.
  void run(fuse_req_t request, const char* op, Task<Result<void>> task);
  // The same for a request that libfuse does not know, by the number that the kernel gave it.
  void run(uint64_t unique, const char* op, Task<Result<void>> task);
  // Answers such a request; a negative errno, -ENOENT if it was interrupted.
  int answer(uint64_t unique, int error, std::string_view payload);
  // The bytes of a write request: a slice of the request's own memory where that saves a large
  // copy.
  Buffer takeWritten(const char* data, size_t size);

  static FuseEdge& of(fuse_req_t request) {
    return *static_cast<FuseEdge*>(fuse_req_userdata(request));
  }
  // Whether the kernel must hand on an open file's reads and writes as they come. With O_APPEND it
  // would put the bytes into its pages where it believes the end to be, and cut one write(2) into
  // several where a page begins that it has not read: others could append in between.
  [[nodiscard]] static bool bypassesPages(int flags) { return (flags & O_APPEND) != 0; }
  static struct stat statOf(const Attr& attr);
  static timespec timeOf(int64_t ns);
  // The kernel has an open file until it releases it, or the mount is over: a mount that was taken
  // down by force releases nothing.
  void handedOut(std::unique_ptr<OpenFile> file) {
    OpenFile* const key = file.get();
    open_[key] = std::move(file);
  }
  std::unique_ptr<OpenFile> takeBack(const fuse_file_info* info) {
    auto file = open_.extract(reinterpret_cast<OpenFile*>(info->fh));
    return file ? std::move(file.mapped()) : nullptr;
  }
  // The kernel was given an entry of the inode, or gives some of them back.
  void entryGiven(uint64_t ino) { ++known_[InodeId(ino)]; }
  void entriesForgotten(uint64_t ino, uint64_t count);
  // An entry of `parent`, with what the kernel may cache of it. Without `attr`: there is no such
  // name.
  [[nodiscard]] fuse_entry_param entryOf(const Attr* attr, InodeId parent);
  // Seconds for which the kernel may keep attributes that are answered now.
  [[nodiscard]] double attrTimeout(InodeId ino);
  // Begins to drop the kernel's pages of the file: they may be wrong.
  void startDrop(InodeId ino);
  [[nodiscard]] bool dropping(InodeId ino) const { return drops_.underWay(ino); }
  // Of requests to lock, to unlock and to close, by the kernel's number: how they are told that
  // their caller was killed, or that the kernel has let go of the mount. Called once at most.
  std::unordered_map<uint64_t, std::function<void()>> onGivenUp;
  // What nobody waits for but the end of serve().
  void start(Task<void> task) { scope_.spawn(std::move(task)); }
  // The number of the request that is handed to its operation now.
  [[nodiscard]] uint64_t taking() const { return taking_; }
  // Waits until no pages of it are being dropped.
  Task<void> dropped(InodeId ino) { return drops_.ended(ino); }
  // The attributes, when no stale page is left that they would make readable.
  Task<Result<Attr>> settledAttr(InodeId ino, bool toRead);

 private:
  // Takes up requests that the kernel has queued, but not too many at once.
  enum class Taken : uint8_t { kAll, kSome, kGone };
  Taken takeRequests();
  Task<void> takeAllRequests();
  Task<void> hearCloses(InodeId ino, std::shared_ptr<Event> heard);
  int tell(uint64_t unique, int error, std::string_view payload);
  Task<int> outcome(OpMetrics& metrics, Task<Result<void>> task);
  Task<void> answered(fuse_req_t request, OpMetrics& metrics, Task<Result<void>> task);
  Task<void> answered(uint64_t unique, OpMetrics& metrics, Task<Result<void>> task);
  Task<void> forget(InodeId ino, Filesystem::Cached what);
  // When it has completed, the kernel takes the file to be no shorter.
  Task<void> raiseSize(InodeId ino, uint64_t size);
  // False: the kernel does not have the inode.
  [[nodiscard]] bool forgetAttr(InodeId ino);
  // When it has completed, the kernel does not take the attributes for valid.
  Task<void> attrForgotten(InodeId ino);
  Task<void> forgetAllAttrs();
  void forgetNames();
  // Answers callers that were killed. Runs until `gone_`.
  Task<void> dismissCallers();
  Task<void> dropPages(InodeId ino, std::shared_ptr<PageDrops::Walk> walk);

  fuse_session* session_ = nullptr;
  int ready_ = -1;  // an epoll instance: /dev/fuse has a request, or quit_
  int quit_ = -1;   // an eventfd
  bool mounted_ = false;
  bool unanswered_ = true;
  bool epochs_ = false;  // the kernel forgets names by epoch
  std::unordered_map<OpenFile*, std::unique_ptr<OpenFile>> open_;
  std::unordered_map<InodeId, uint64_t> known_;  // entries that the kernel has of each inode
  Buffer receive_;                               // where the next request lands
  bool receiveTaken_ = false;
  uint64_t taking_ = 0;
  Callers callers_;
  UnderWay underWay_;
  Event gone_;  // the mount
  TaskScope scope_;
  PageDrops drops_;
};

// Replies success when `task` has succeeded.
Task<Result<void>> replyDone(fuse_req_t request, Task<Result<void>> task);

// Fill in the table of callbacks, one part of it per file of operations.
void addNamespaceOps(fuse_lowlevel_ops& ops);
void addAttributeOps(fuse_lowlevel_ops& ops);
void addFileOps(fuse_lowlevel_ops& ops);
void addLockOps(fuse_lowlevel_ops& ops);
void addDirectoryOps(fuse_lowlevel_ops& ops);

}  // namespace cairn::client
