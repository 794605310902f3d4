// The files that this mount knows: those that are open, and some that were. Keeps the MDS's record
// of what is open in step, flushes what has been dirty for long, and starts flushing when dirty
// memory runs short. One reactor thread; `core` outlives it; stop() and the end of its loops come
// before destruction.
#pragma once

#include <list>
#include <map>
#include <set>
#include <unordered_map>

#include "client/core/file.h"

namespace cairn::client {

class FileTable {
 public:
  explicit FileTable(Core& core);
  FileTable(const FileTable&) = delete;
  FileTable& operator=(const FileTable&) = delete;

  // Takes over what an answer said of any inode, and gives it with what this client has changed.
  Attr see(const ServerAttr& a);
  // The file if it is known, or nullptr.
  [[nodiscard]] std::shared_ptr<File> find(InodeId ino) const;
  // The file with attributes that the MDS gave during this call; known from now on, open or not.
  // kIsDirectory or kInvalid when it is not a regular file.
  Task<Result<std::shared_ptr<File>>> fetch(InodeId ino);

  Task<Result<Filesystem::Opened>> open(InodeId ino, int flags, bool clearSuid);
  // Of a file that the MDS has made and opened.
  Filesystem::Opened adopt(const ServerEntry& entry, int flags);
  void release(Handle& handle);
  // Counted as open here.
  [[nodiscard]] std::vector<InodeId> openInodes() const;
  // What the cache above has in its pages of open files, at most.
  [[nodiscard]] uint64_t shownBytes() const;

  // For LeaseTable::Hooks.
  Task<void> writeBack(InodeId ino);
  [[nodiscard]] bool keepsLease(InodeId ino) const;
  [[nodiscard]] bool mapped(InodeId ino) const;
  // That have something to flush or to commit.
  [[nodiscard]] size_t pendingFiles() const;
  // Nobody knows what others have read meanwhile.
  void doubtAccesses();
  // Unflushed data of all files is lost, and what mappings have changed under the write leases that
  // were held.
  void sessionLost(const std::vector<InodeId>& written);
  // Flushes and commits everything; the first error that no application was told.
  Task<Result<void>> flushAll();

  // Run until stop().
  Task<void> flushAging();
  Task<void> sendReleases();
  // `core.stop` is set.
  void stop();
  // Drops what was not flushed, when nothing runs any more.
  void abandon();

 private:
  std::shared_ptr<File> get(InodeId ino);
  void opening(const std::shared_ptr<File>& file, int flags);
  void closed(const std::shared_ptr<File>& file, int flags);
  Task<Result<bool>> openThere(std::shared_ptr<File> file, int flags);
  Filesystem::Opened handOut(const std::shared_ptr<File>& file, int flags);
  void forget(InodeId ino);
  void evict();
  void relieve();
  void pushOut(PoolId pool);
  void queueRelease(InodeId ino);
  Task<void> finishClosed(std::shared_ptr<File> file);
  static Task<void> settle(std::shared_ptr<File> file);

  Core& core_;
  std::unordered_map<InodeId, std::shared_ptr<File>> files_;
  // Closed ones, oldest first, and where each is.
  std::list<InodeId> closed_;
  std::unordered_map<InodeId, std::list<InodeId>::iterator> closedAt_;
  TimePoint pushOutFrom_{};
  std::map<InodeId, std::shared_ptr<File>> pending_;  // something to flush or to commit, perhaps
  std::set<InodeId> toRelease_;                       // the MDS is not told yet
  std::set<InodeId> releasing_;                       // being told
  Event releaseWanted_;
  Pulse released_;
};

}  // namespace cairn::client
