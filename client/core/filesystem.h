// A mounted Cairn filesystem as a library: what client/fuse, and later the C API and the views,
// stand on. One reactor thread; every operation is a coroutine and many run at once. Metadata goes
// to the MDS, data to the placement group's primary OSD; failures of daemons are waited out (see
// Options::requestTimeout), never shown to the application while they may pass.
//
// Durability
//   - Namespace operations are durable when they complete.
//   - write() into the write-behind buffer is not durable; fsync() is: data on every in-sync copy,
//   size and times in the MDS log.
//   - An error of a background flush is kept and given once to each open handle of the inode: at
//   its next write, fsync or flush
//     (like errseq_t in Linux). The data that could not be written stays out; it is never silently
//     dropped.
// Coherence: exact, but for times of last access. What one mount has written, made, renamed or
// changed is what every other mount sees from then on; caches live under leases
// (common/schema/LEASES.md).
#pragma once

#include <sys/stat.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/locks/lock_ranges.h"
#include "common/net/network.h"
#include "common/reactor/sync.h"
#include "common/reactor/task.h"

namespace cairn::client {

struct Attr {
  InodeId ino;
  uint32_t generation = 0, mode = 0, nlink = 0, uid = 0, gid = 0;
  uint64_t rdev = 0, size = 0, blocks512 = 0;
  int64_t atimeNs = 0, mtimeNs = 0, ctimeNs = 0, btimeNs = 0;
  PoolId pool;
  InodeId parent;  // directories
  uint64_t dataVersion = 0;
};

struct DirEntry {
  std::string name;
  InodeId ino;
  uint8_t type = 0;
  uint64_t cookie = 0;
  std::optional<Attr> attr;  // plus; not of a file that another mount is writing
};

struct DirPage {
  std::vector<DirEntry> entries;
  bool end = false;
};

// A lock as it is asked for (common/schema/LOCKS.md).
struct LockRequest {
  LockSpace space = LockSpace::kRange;
  uint64_t owner = 0;  // the kernel's number
  LockPiece piece;     // kNone: unlock. flock: the whole file.
};

// How a request for a lock is told that its asker does not wait for it any more. An unlock is done
// all the same, and before anything else that its owner asks for. One reactor thread.
class LockWait {
 public:
  // `patient`: it waits for whoever is in the way.
  explicit LockWait(Reactor& reactor, bool patient = true) : changed_(reactor), patient_(patient) {}
  void interrupt() {
    interrupted_ = true;
    changed_.set();
  }

 private:
  friend class FileLocks;
  Event changed_;  // interrupted, granted, to be asked for again, or the mount ends
  const bool patient_;
  bool interrupted_ = false;
};

// What setattr changes; unset fields stay.
struct AttrChange {
  std::optional<uint32_t> mode, uid, gid;
  std::optional<uint64_t> size;
  struct Time {
    bool now = false;
    int64_t ns = 0;
  };
  std::optional<Time> atime, mtime;
  bool clearSuid = false;
};

// Who makes something new. The umask counts unless the directory has a default ACL.
struct Maker {
  uint32_t uid = 0, gid = 0, umask = 0;
};

struct Capacity {
  uint64_t bytesTotal = 0, bytesFree = 0, inodes = 0, inodesFree = 0;
};

// An open file. Made by open() and create(), given back by release(). `direct`: O_DIRECT, writes
// are durable when they complete.
class Handle;

struct MountInfo {
  std::string mountPoint;  // shown in `cairn status`
  std::string host;
  uint32_t pid = 0;
};

// Which reads change the time of last access: mount(8)'s noatime, relatime, strictatime.
struct AccessPolicy {
  enum class When : uint8_t { kNever, kRelative, kAlways };
  When when = When::kRelative;
  bool directories = true;  // nodiratime: false
  bool operator==(const AccessPolicy&) const = default;
};

struct Options {
  std::vector<Endpoint> mds;
  uint64_t cacheBytes = 256 * kMiB;        // clean data read ahead or just read
  uint64_t writeBufferBytes = 128 * kMiB;  // dirty data of all files; writers wait beyond
  Duration flushAge = 3s;                  // dirty data older than this is flushed
  uint64_t readaheadBytes = 16 * kMiB;     // per sequential reader
  Duration requestTimeout =
      0s;  // give up on dead daemons after this (kIo at the application); 0 = never
  AccessPolicy access{};
};

// How bytes are read.
struct Reading {
  bool intoPages = false;  // into pages of the cache above, where mappings see them
  bool quiet = false;      // with O_NOATIME
};

// How bytes came to be written.
struct Writing {
  bool fromMapping = false;  // they belong at their offset, with O_APPEND too
  bool intoPages = false;    // the cache above has them too, in pages that it has locked
  bool clearSuid = false;    // by somebody who may not keep S_ISUID and S_ISGID on what he changes
};

class Filesystem {
 public:
  virtual ~Filesystem() = default;
  // Connects, opens a session, fetches the map. Fails when no MDS answers within 10 s or it
  // refuses.
  static Task<Result<std::unique_ptr<Filesystem>>> mount(Env& env, Options options, MountInfo info);
  // Flushes everything, ends the session. The first flush error, if any.
  virtual Task<Result<void>> unmount() = 0;
  // For a simulated kill: ends everything at once without flushing.
  virtual Task<void> abandon() = 0;

  virtual Task<Result<Attr>> lookup(InodeId parent, std::string name) = 0;
  // Sees this client's unflushed size and mtime. `toRead`: for a read that will show pages of the
  // cache above, if they are there. The lease under which they are filled is got first.
  virtual Task<Result<Attr>> getattr(InodeId ino, bool toRead = false) = 0;
  virtual Task<Result<Attr>> setattr(InodeId ino, AttrChange change) = 0;
  virtual Task<Result<std::string>> readlink(InodeId ino) = 0;
  virtual Task<Result<Attr>> mknod(InodeId parent, std::string name, uint32_t mode, uint64_t rdev,
                                   Maker maker) = 0;
  virtual Task<Result<Attr>> mkdir(InodeId parent, std::string name, uint32_t mode,
                                   Maker maker) = 0;
  virtual Task<Result<Attr>> symlink(InodeId parent, std::string name, std::string target,
                                     Maker maker) = 0;
  virtual Task<Result<Attr>> link(InodeId ino, InodeId newParent, std::string newName) = 0;
  virtual Task<Result<void>> unlink(InodeId parent, std::string name) = 0;
  virtual Task<Result<void>> rmdir(InodeId parent, std::string name) = 0;
  virtual Task<Result<void>> rename(InodeId parent, std::string name, InodeId newParent,
                                    std::string newName, uint32_t flags) = 0;
  // `quiet`: with O_NOATIME.
  virtual Task<Result<DirPage>> readdir(InodeId dir, uint64_t cookie, uint32_t limit, bool plus,
                                        bool quiet = false) = 0;
  virtual Task<Result<std::string>> getxattr(InodeId ino, std::string name) = 0;
  virtual Task<Result<std::vector<std::string>>> listxattr(InodeId ino) = 0;
  // `dropSgid`: it is an access ACL, and the caller is not in the file's group.
  virtual Task<Result<void>> setxattr(InodeId ino, std::string name, std::string value,
                                      uint32_t flags, bool dropSgid) = 0;
  virtual Task<Result<void>> removexattr(InodeId ino, std::string name) = 0;
  virtual Task<Result<Capacity>> statfs() = 0;

  struct Opened {
    Attr attr;
    std::shared_ptr<Handle> handle;
    bool dataUnchanged =
        false;  // since this client last had it open: the kernel may keep its pages
  };
  // `flags` as open(2): O_TRUNC, O_APPEND, O_DIRECT, O_SYNC, O_DSYNC count here. `clearSuid`: if it
  // truncates, see Writing.
  virtual Task<Result<Opened>> open(InodeId ino, int flags, bool clearSuid = false) = 0;
  // What is there already is opened for root if it is a regular file; kStale otherwise: the caller
  // has to look at what it is, and at the rights to it.
  virtual Task<Result<Opened>> create(InodeId parent, std::string name, uint32_t mode, Maker maker,
                                      int flags) = 0;
  // O_TMPFILE: a file without a name, gone when it is released; link() gives it one.
  virtual Task<Result<Opened>> tmpfile(InodeId parent, uint32_t mode, Maker maker, int flags) = 0;
  // The bytes there are, at most `length`: fewer at the end of the file. Parts in order; holes come
  // as zeros.
  virtual Task<Result<std::vector<Buffer>>> read(std::shared_ptr<Handle> h, uint64_t offset,
                                                 uint32_t length, Reading how = {}) = 0;
  // Takes all of `data` (copied if it must be kept). With O_APPEND `offset` is ignored.
  virtual Task<Result<void>> write(std::shared_ptr<Handle> h, uint64_t offset, Buffer data,
                                   Writing how = {}) = 0;
  virtual Task<Result<void>> flush(
      std::shared_ptr<Handle> h) = 0;  // close(2): data and size are out; errors
  virtual Task<Result<void>> fsync(std::shared_ptr<Handle> h) = 0;
  // As fsync(), but the times may follow later: saves the round trip to the MDS when the size is
  // known there.
  virtual Task<Result<void>> fdatasync(std::shared_ptr<Handle> h) { return fsync(std::move(h)); }
  virtual Task<Result<void>> fsyncInode(
      InodeId ino) = 0;  // also directories (their operations are durable already)
  virtual Task<void> release(std::shared_ptr<Handle> h) = 0;
  // fallocate(2): mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE (with or without KEEP_SIZE).
  virtual Task<Result<void>> fallocate(std::shared_ptr<Handle> h, int mode, uint64_t offset,
                                       uint64_t length) = 0;
  // SEEK_DATA / SEEK_HOLE of lseek(2); kNoAttribute for ENXIO.
  virtual Task<Result<uint64_t>> seek(std::shared_ptr<Handle> h, uint64_t offset, int whence) = 0;
  // copy_file_range(2): what was copied, less than `length` also before the end of the source.
  // Bytes are shared where they can be (client/core/file_copy.h). As durable as after write().
  virtual Task<Result<uint64_t>> copyRange(std::shared_ptr<Handle> in, uint64_t inOffset,
                                           std::shared_ptr<Handle> out, uint64_t outOffset,
                                           uint64_t length) = 0;

  // From now on. Times of last access are told to the MDS about a second later, and lost with this
  // client; they alone are not exact between mounts.
  virtual void recordAccesses(AccessPolicy policy) = 0;

  // ---- File locks, as exact as on one machine (common/schema/LOCKS.md) ----
  // Handles through which locks were taken that were lost with the session give kIo from then on.

  // Locks or unlocks. Without a patient `wait`: kWouldBlock if somebody else is in the way. With
  // it: waits; kDeadlock. kInterrupted if it was interrupted first. kNoLocks: there are too many.
  virtual Task<Result<void>> lock(std::shared_ptr<Handle> h, LockRequest what,
                                  std::shared_ptr<LockWait> wait) = 0;
  // A lock that is in the way of this one, or type kNone. Its pid is known on the same mount only.
  virtual Task<Result<LockPiece>> testLock(std::shared_ptr<Handle> h, LockRequest what) = 0;
  // close(2) of a descriptor by this owner: its ranges of the inode are unlocked. What was locked
  // through the handle by others goes with release().
  virtual Task<void> unlockRanges(std::shared_ptr<Handle> h, uint64_t owner) = 0;

  // ---- The cache above: the kernel's, kept exact by the FUSE edge ----

  // What was answered of an inode is still true while its stamp is the same and not without a
  // lease.
  struct Stamp {
    uint64_t lease = 0;  // 0: none
    uint64_t names = 0;
    bool operator==(const Stamp&) const = default;
  };
  [[nodiscard]] virtual Stamp stamp(InodeId ino) const = 0;
  // For how long what was just said of the inode (of a directory: also its names, and the names it
  // does not have) may be kept without asking again, unless onForget() is called before. Zero: not
  // at all. To be asked when the answer is given, with no wait in between.
  virtual Duration mayCache(InodeId ino) = 0;
  // kUntold: nothing was read or written of an open file since its pages were forgotten, and
  // nothing said that may be kept. Only what is still being dropped is to be waited for.
  enum class Cached : uint8_t { kAttributes, kNames, kPages, kUntold };
  // What the cache above keeps of the inode's attributes is not true any more when this has been
  // called; and neither are, when it has completed, the names in the directory (kNames) or the
  // pages of the file (kPages). What was written into mapped pages is written here (fromMapping)
  // before it completes. It must not wait for requests that wait for a lease. May be empty. Called
  // on the reactor's thread.
  std::function<Task<void>(InodeId, Cached)> onForget;
  // Reads end where the cache above believes the file to end. While it writes it takes up no answer
  // with a size: of what somebody else has appended it may be told in vain. So before attributes
  // are answered it is made to take up `size`, while there is a doubt.
  struct SizeDoubt {
    uint64_t growth = 0;  // 0: there is none
    uint64_t size = 0;
  };
  [[nodiscard]] virtual SizeDoubt sizeDoubt(InodeId ino) const = 0;
  // It has taken up that size at least.
  virtual void sizeRaised(InodeId ino, SizeDoubt doubt) = 0;
  // A request of the cache above, with pages locked, that waits for a lease or will have to, for it
  // began under one that has lapsed: it fills them, or they are written.
  struct PageWait {
    uint64_t from = 0, to = 0;
    bool write = false;
  };
  [[nodiscard]] virtual std::vector<PageWait> pageWaits(InodeId ino) const = 0;
  // There is one more. May be empty. Called on the reactor's thread; it must not wait.
  std::function<void(InodeId)> onPageWait;
  // One of them is a write. What it brings is in the pages of the cache above, and is not to be
  // shown before writesAdmitted() has completed: an answer with attributes waits for that, and what
  // is kept of them is forgotten when onWriteWait is called. May be empty; on the reactor's thread;
  // it must not wait.
  virtual Task<void> writesAdmitted(InodeId ino) = 0;
  [[nodiscard]] virtual bool writeWaits(InodeId ino) const = 0;
  std::function<void(InodeId)> onWriteWait;
  // A write that had to wait for its lease is done, and about to be answered. Its pages may have
  // been dropped meanwhile, and filled with what was there before: they are to be dropped, and an
  // answer with attributes waits for that. May be empty; on the reactor's thread; it must not wait.
  std::function<void(InodeId, PageWait)> onLateWrite;
  // Completes when every close of the file that was over when it was called has come here as a
  // release(): the cache above may tell of it later than those who close. Nothing is waited for
  // that could wait for a file lock. May be empty. Called on the reactor's thread.
  std::function<Task<void>(InodeId)> onHearCloses;
  // Pages of the file that were cached before are not true: an answer with its attributes waits
  // until they are gone. May be empty. Called on the reactor's thread while a request of that inode
  // is served: it must not wait.
  std::function<void(InodeId)> onDataChanged;
};

}  // namespace cairn::client
