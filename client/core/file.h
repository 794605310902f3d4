// One regular file as this client holds it: attributes, chunk map, dirty data, errors. Shared by
// all handles of the inode, and kept for a while after the last was released. One reactor thread;
// `core` outlives it.
//
// Order of locks, outermost first:
//   gate_     the shape of the file: writes hold it shared; truncate, punch, fallocate and appends
//             that go through hold it exclusively
//   onDisk_   byte ranges that are being changed on the OSDs: no two overlapping changes are in
//             flight, so that each may be repeated (see chunk_io.h)
//   mutating_ mutations of the inode at the MDS, one at a time, so that what this client's cached
//             data belongs to stays known (see inode_state.h)
// Flushing never takes gate_: whoever holds it exclusively waits for flushes.
//
// Data first, size after: commit() tells the MDS only of bytes that are durable.
#pragma once

#include <functional>
#include <memory>

#include "client/core/block_cache.h"
#include "client/core/chunk_map.h"
#include "client/core/dirty_map.h"
#include "client/core/error_seq.h"
#include "client/core/inode_state.h"
#include "client/core/interval_set.h"
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
  ChunkIo& io;
  BlockCache& cache;
  DirtyBudget& budget;
  TaskScope& scope;
  std::function<void(File&)> onPending;          // it has something to flush or to commit now
  std::function<void(InodeId)> onForeignChange;  // another client changed its data
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
  // Takes over what a query said.
  void learn(const ServerAttr& a);
  // The MDS's answer to open and create, asked when chunkVersion() was `asked`. True if the data is
  // what this client knew.
  bool learnOpened(const ServerEntry& entry, uint64_t asked);
  [[nodiscard]] uint64_t chunkVersion() const { return chunks_.version(); }
  // Held around open() at the MDS, so that learnOpened() is exact.
  Task<AsyncMutex::Guard> lockMutations() { return mutating_.lock(); }

  Task<Result<std::vector<Buffer>>> read(Handle& handle, uint64_t offset, uint32_t length);
  Task<Result<void>> write(Handle& handle, uint64_t offset, Buffer data);
  // Makes durable what was written before the call. With `sizeOnly` the MDS is told only if the
  // file has grown (fdatasync).
  Task<Result<void>> sync(bool sizeOnly);
  // Any change of attributes; a size truncates or extends.
  Task<Result<Attr>> setattr(AttrChange change);
  Task<Result<void>> fallocate(int mode, uint64_t offset, uint64_t length);
  Task<Result<uint64_t>> seek(uint64_t offset, int whence);

  // Whether anything is not flushed or not committed.
  [[nodiscard]] bool pending() const { return !dirty_.empty() || state_.uncommitted(); }
  [[nodiscard]] bool flushed() const { return dirty_.empty(); }
  // Since when, or since when the last background flush runs.
  [[nodiscard]] TimePoint pendingSince() const { return pendingSince_; }
  // Flushes and commits in the background; errors are kept for the handles.
  Task<void> settle();
  [[nodiscard]] bool settling() const { return settling_; }
  // Starts flushing all that is dirty; gives the memory that it will free.
  uint64_t pushOut();
  // The session has expired: what is not flushed is lost, and the handles will say so.
  void loseUnflushed();
  // At the end of the mount: nothing of it needs the core any more.
  void abandon() { dirty_.dropUnflushed(); }

  ErrorSeq& errors() { return errors_; }

  // Handles, and opens on their way. The owner's, see FileTable.
  uint32_t opens = 0;

 private:
  // Marks [from, to) of the file as changed on the OSDs.
  void changedOnDisk(uint64_t from, uint64_t to);
  void foreignChange();
  void notePending();

  // file.cc: flushing and committing
  void kick();
  static Task<void> flushExtent(std::shared_ptr<File> self, DirtyMap::ExtentPtr extent);
  Task<void> drain(uint64_t from, uint64_t to);
  Task<Result<void>> commit(bool sizeOnly);
  Task<Result<void>> store(uint64_t offset, Buffer data);

  // file_write.cc
  [[nodiscard]] bool tailInTheWay(uint64_t end) const;
  Task<Result<void>> cleanTail();
  Task<Result<void>> writeThrough(uint64_t offset, Buffer data);
  static Task<Result<void>> storePiece(std::shared_ptr<File> self, uint64_t offset, Buffer data);

  // file_read.cc
  Task<Result<std::vector<Buffer>>> collect(std::vector<Task<Result<Buffer>>> reads);
  void readAhead(uint64_t from, uint64_t to);
  std::shared_ptr<BlockCache::Fill> startFill(uint64_t index, uint64_t need);
  static Task<void> fillPiece(std::shared_ptr<File> self, std::shared_ptr<BlockCache::Fill> fill,
                              uint64_t length);
  Task<Result<Buffer>> readStored(uint64_t offset, uint64_t length);
  static Task<Result<Buffer>> readPiece(std::shared_ptr<File> self, uint64_t from, uint64_t to,
                                        bool keep, bool fresh);

  // file_space.cc
  Task<Result<Attr>> resize(AttrChange change);
  Task<Result<void>> punch(uint64_t from, uint64_t to);
  Task<Result<void>> zeroStored(uint64_t from, uint64_t to);
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
  AsyncMutex mutating_;
  AsyncMutex tail_;
  Pulse flushed_;  // after each extent
  size_t flushesInFlight_ = 0;
  uint64_t flushBytesInFlight_ = 0;
  TimePoint pendingSince_{};
  bool wasPending_ = false;
  bool settling_ = false;
};

}  // namespace cairn::client
