// One regular file as this client holds it: attributes, chunk map, dirty data, errors. Shared by
// all handles of the inode, and kept for a while after the last was released. One reactor thread;
// `core` outlives it.
//
// Reading needs a read lease of the inode, changing its size or data a write lease (see
// lease_table.h): each operation enters it first. Under a lease nothing here waits for a request to
// the MDS but those that only a lease's holder sends.
//
// Order of locks, outermost first:
//   the lease
//   appending_  appends, one at a time
//   gate_       the shape of the file: writes hold it shared; truncate, punch and fallocate hold
//               it exclusively
//   onDisk_     byte ranges that are being changed on the OSDs: no two overlapping changes are in
//               flight, so that each may be repeated (see chunk_io.h)
//   committing_ commits of size and time, one at a time
// Flushing never takes gate_ nor enters the lease: whoever holds or gives up either waits for
// flushes. What is dirty is under the write lease until it is flushed and committed.
//
// Data first, size after: commit() tells the MDS only of bytes that are durable.
//
// Mappings: nobody is told when a process writes into a page that it has mapped. So while a handle
// is open through which that is possible (O_RDWR), pages are filled under the write lease only, and
// are dropped when it goes (see lease_table.h): of a page that may be written there is one, in one
// mount. Mappings of several mounts are as coherent as those of one machine.
#pragma once

#include <algorithm>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <utility>

#include "client/core/block_cache.h"
#include "client/core/chunk_map.h"
#include "client/core/dirty_map.h"
#include "client/core/error_seq.h"
#include "client/core/filesystem.h"
#include "client/core/inode_state.h"
#include "client/core/interval_set.h"
#include "client/core/lease_table.h"
#include "client/core/read_pattern.h"

namespace cairn::client {

class File;

// How often in a row an OSD may say that a chunk is gone which the MDS has just named.
inline constexpr int kMaxStale = 3;

// What all files of a mount stand on.
struct Core {
  Env& env;
  const Options& options;
  Event& stop;
  MdsOps& mds;
  LeaseTable& leases;
  ChunkIo& io;
  BlockCache& cache;
  DirtyBudget& budget;
  TaskScope& scope;
  std::function<void(File&)> onPending;          // it has something to flush or to commit now
  std::function<void(InodeId)> onForeignChange;  // another client changed its data
  std::function<void(InodeId)> onPageWait;       // see Filesystem
  std::function<void(InodeId)> onWriteWait;
  std::function<void(InodeId, Filesystem::PageWait)> onLateWrite;
  std::function<void(PoolId)> onScarceRoom;    // what is buffered for the pool is to go out
  std::function<Task<void>(File&)> dropPages;  // of the cache above
  // Grows before and after every change of names or attributes that this client asked for without
  // learning which inodes it touched.
  uint64_t nameChanges = 0;
};

class Handle {
 public:
  Handle(std::shared_ptr<File> f, int openFlags, uint64_t seenErrors)
      : file(std::move(f)), flags(openFlags), seen(seenErrors) {}
  const std::shared_ptr<File> file;
  const int flags;
  uint64_t seen;  // errors that were reported, see ErrorSeq
  ReadPattern pattern;
  bool released = false;
  bool broken = false;  // locks that were taken through it are lost, see FileLocks
  // Asked under a lease: then the session lives, and nobody else has the locks yet.
  [[nodiscard]] Result<void> usable() const {
    if (broken) return fail(Errc::kIo, "locks that were taken through this handle are lost");
    return {};
  }
};

class File : public std::enable_shared_from_this<File> {
 public:
  File(Core& core, InodeId ino);
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] InodeId ino() const { return ino_; }
  [[nodiscard]] bool loaded() const { return state_.loaded(); }
  [[nodiscard]] uint64_t size() const { return state_.size(dirty_.end()); }
  // With this client's unflushed size and times.
  [[nodiscard]] Attr attr() const { return state_.merged(dirty_.end()); }
  // When a question is asked, for learn().
  struct Asked {
    uint64_t nameChanges, chunkVersion;
  };
  [[nodiscard]] Asked asking() const { return {core_.nameChanges, chunks_.version()}; }
  // Takes over what an answer said, at once: before anything else runs.
  void learn(const ServerAttr& a);
  void learn(const ServerAttr& a, Asked asked);
  // The MDS's answer to open, create and lease. True if the data is what this client knew.
  bool learn(const ServerEntry& entry, Asked asked);
  // The MDS knows of an access at this time; or of one that we do not know, and attr() is not what
  // it would answer now.
  void accessed(int64_t atNs) { state_.accessed(atNs); }
  void doubtAccess() { learnedAt_ = UINT64_MAX; }
  // Whether attr() is what the MDS would answer now.
  [[nodiscard]] bool current() const;
  // And nobody can change that before this returns control, as `mode` stands.
  [[nodiscard]] bool currentUnder(LeaseMode mode) const;

  Task<Result<std::vector<Buffer>>> read(Handle& handle, uint64_t offset, uint32_t length,
                                         Reading how = {});
  Task<Result<void>> write(Handle& handle, uint64_t offset, Buffer data, Writing how = {});
  // Makes durable what was written before the call. With `sizeOnly` the MDS is told only if the
  // file has grown (fdatasync).
  Task<Result<void>> sync(bool sizeOnly);
  // Any change of attributes; a size truncates or extends, under the write lease.
  Task<Result<Attr>> setattr(AttrChange change);
  Task<Result<void>> fallocate(const Handle& handle, int mode, uint64_t offset, uint64_t length);
  Task<Result<uint64_t>> seek(uint64_t offset, int whence);

  // Of a copy by reference (file_copy.h), in two steps, for two files and two leases.
  // Makes durable what the source has in [from, to), whole blocks, and says in which chunks it
  // lies. `to` is cut at the last whole block of the file, and becomes `from` if too little is
  // left.
  Task<Result<std::vector<std::optional<ChunkAddr>>>> lookToClone(const Handle& handle,
                                                                  uint64_t from, uint64_t& to);
  // [offset, offset + length), whole blocks of one chunk, becomes what `sources[0]` has at the same
  // place of the chunk (none: a hole); the other sources are for the chunks behind that one. False,
  // and nothing was changed: it lies elsewhere. kStale: `sources[0]` was removed or never written.
  Task<Result<bool>> cloneFrom(Handle& handle, uint64_t offset, uint64_t length,
                               std::span<const std::optional<ChunkAddr>> sources);
  // An OSD says that it is not there.
  void doubtChunk(uint32_t index, ChunkAddr chunk) { chunks_.doubt(index, chunk); }

  // Whether anything is not flushed or not committed.
  [[nodiscard]] bool pending() const { return !dirty_.empty() || state_.uncommitted(); }
  [[nodiscard]] bool flushed() const { return dirty_.empty(); }
  // Since when, or since when the last background flush runs.
  [[nodiscard]] TimePoint pendingSince() const { return pendingSince_; }
  // Flushes and commits in the background; errors are kept for the handles.
  Task<void> settle();
  [[nodiscard]] bool settling() const { return settling_; }
  [[nodiscard]] PoolId pool() const { return state_.server().pool; }
  // Starts flushing all that is dirty; gives the memory that it will free.
  uint64_t pushOut();
  // Before the write lease is given up: everything is flushed and committed, or the handles will be
  // told of what could not be.
  Task<void> writeBack();
  // The session has expired: what is not flushed and committed is lost, and the handles will say
  // so.
  void loseUnflushed();
  // What mappings have changed and was not written is lost with the write lease.
  void losePages();
  // The cache above is told to drop the file's pages; and it has, all of before that. The first
  // gives what the second needs to know.
  uint64_t forgetPages();
  void pagesDropped(uint64_t losses);
  // Whether it may keep what it is told of the attributes of an open file; and whether it may have
  // any, or pages. A process takes an answer up some time after it was given, and not at all what
  // it finds to be older than an invalidation: it goes on with the size of before then. So nothing
  // may be kept, and need be invalidated, before a lease has stood for a while since the first
  // answer under it: after each change of a file that others write, too, that is.
  bool keepsAttrs();
  [[nodiscard]] bool told() const { return shown_ != 0 || attrsKept_; }
  void attrsKept() { attrsKept_ = true; }
  // See Filesystem. A file that nobody can write here has no writes for answers to meet; one that
  // was closed may have had one when the question was asked.
  [[nodiscard]] Filesystem::SizeDoubt sizeDoubt() const {
    return {writable && sizeRaised_ != foreignGrowth_ ? foreignGrowth_ : 0, size()};
  }
  void sizeRaised(const Filesystem::SizeDoubt& doubt) { sizeRaised_ = doubt.growth; }
  // What it has in its pages at most.
  [[nodiscard]] uint64_t shownBytes() const { return std::min(shown_, size()); }
  [[nodiscard]] bool mapped() const { return mappable != 0; }
  // Waits for the lease under which pages are filled that can be mapped.
  Task<Result<void>> holdToMap();
  // Before the first handle is given out through which pages may be mapped to be written: all that
  // are there will have been filled under the write lease.
  Task<void> readyToMap();
  void noneMaps() { readyToMap_ = false; }
  [[nodiscard]] std::vector<Filesystem::PageWait> pageWaits() const;
  // See Filesystem.
  [[nodiscard]] bool writeWaits() const;
  Task<void> writesAdmitted();
  // Whether an open must make it drop them: somebody else changed the data while nobody had the
  // file open. Once.
  bool takeStale() { return std::exchange(stale_, false); }
  // At the end of the mount: nothing of it needs the core any more.
  void abandon() { dirty_.dropUnflushed(); }

  ErrorSeq& errors() { return errors_; }

  // Handles, and opens on their way; of them, those through which pages may be mapped to be
  // written; handles that were given out. The owner's, see FileTable.
  uint32_t opens = 0, mappable = 0, handles = 0;
  bool writable = false;  // through a handle that was asked for since this was made

 private:
  class PageRequest;
  // Begins an operation under a lease, which is asked for if need be. `request`: of what the cache
  // above keeps locked until it is done.
  Task<Result<LeaseTable::Use>> enter(LeaseMode mode, Urgency urgency = Urgency::kCanWait,
                                      PageRequest* request = nullptr);
  [[nodiscard]] LeaseTable::Use tryEnter(LeaseMode mode, Urgency urgency);
  void pageWaitBegan(bool ofWrite);
  // Marks [from, to) of the file as changed on the OSDs.
  void changedOnDisk(uint64_t from, uint64_t to);
  void foreignChange();
  void notePending();

  // file.cc: flushing and committing
  void kick();
  static Task<void> flush(std::shared_ptr<File> self, DirtyMap::Run run);
  Task<Result<void>> storeRun(const DirtyMap::Run& run, SessionId session);
  Task<void> drain(uint64_t from, uint64_t to);
  Task<Result<void>> commit(bool sizeOnly);
  // Only in `session`, in which the bytes were accepted.
  Task<Result<void>> store(uint64_t offset, std::vector<Buffer> parts, SessionId session);

  // file_write.cc
  // The session in which bytes were accepted: in another one they may not be stored.
  struct Accepted {
    uint64_t leases;
    SessionId session;
  };
  [[nodiscard]] Result<void> stillIn(const Accepted& accepted) const;
  Result<void> checkMapping(uint64_t lossesBefore);
  [[nodiscard]] bool tailInTheWay(uint64_t end) const;
  Task<Result<void>> cleanTail();
  Task<Result<void>> writeThrough(uint64_t offset, Buffer data, const Accepted& in);
  static Task<Result<void>> storePiece(std::shared_ptr<File> self, uint64_t offset, Buffer data,
                                       SessionId session);

  // file_read.cc
  Task<Result<std::vector<Buffer>>> readHeld(Handle& handle, uint64_t offset, uint32_t length);
  Task<Result<std::vector<Buffer>>> collect(std::vector<Task<Result<Buffer>>> reads);
  void readAhead(uint64_t from, uint64_t to);
  std::shared_ptr<BlockCache::Fill> startFill(uint64_t index, uint64_t need);
  static Task<void> fillPiece(std::shared_ptr<File> self, std::shared_ptr<BlockCache::Fill> fill,
                              uint64_t length);
  Task<Result<Buffer>> readStored(uint64_t offset, uint64_t length);
  static Task<Result<Buffer>> readPiece(std::shared_ptr<File> self, uint64_t from, uint64_t to,
                                        bool keep, bool fresh);

  // file_copy.cc
  Task<Result<std::optional<ChunkAddr>>> cloneTarget(
      uint32_t index, std::span<const std::optional<ChunkAddr>> sources);

  // file_space.cc
  Task<Result<Attr>> resize(AttrChange change);
  Task<Result<void>> punch(uint64_t from, uint64_t to);
  Task<Result<void>> zeroStored(uint64_t from, uint64_t to);
  Task<Result<void>> zeroLocked(uint64_t from, uint64_t to);
  Task<Result<void>> removeWhole(uint32_t first, uint32_t count);
  Task<Result<void>> reserve(uint64_t from, uint64_t to);
  Task<Result<void>> extendTo(uint64_t size);
  Task<Result<Attr>> mutateAttr(AttrChange change);

  Core& core_;
  const InodeId ino_;
  InodeState state_;
  ChunkMap chunks_;
  DirtyMap dirty_;
  ErrorSeq errors_;
  RangeLock gate_;
  RangeLock onDisk_;
  AsyncMutex committing_;
  AsyncMutex acquiring_;
  AsyncMutex tail_;
  AsyncMutex appending_;
  AsyncMutex dropping_;
  Pulse flushed_;  // after each extent
  size_t flushesInFlight_ = 0;
  uint64_t flushBytesInFlight_ = 0;
  TimePoint pendingSince_{};
  uint64_t learnedUnder_ = 0;  // LeaseTable::since() when the state was learned
  uint64_t learnedAt_ = 0;     // Core::nameChanges when it was asked for
  bool wasPending_ = false;
  bool settling_ = false;
  std::list<PageRequest*> pageRequests_;
  Pulse admitted_;  // one of them does not wait any more
  bool readyToMap_ = false;
  uint64_t losses_ = 0,
           lossesDropped_ = 0;  // see losePages(); the pages of the first so many are gone
  uint64_t shown_ = 0;          // bytes that were read or written since pages were forgotten
  bool stale_ = false;          // and are not true any more
  bool attrsKept_ = true;       // attributes that may be kept were given out since
  uint64_t answeredUnder_ = 0;  // LeaseTable::since() of the latest answer with attributes
  TimePoint answeredAt_{};      // and when the first under that was given
  uint64_t foreignGrowth_ = 0;  // how often an answer said a size beyond what was known
  uint64_t sizeRaised_ = 0;     // so many of them the cache above has surely taken up
};

}  // namespace cairn::client
