// Who holds which file lock, and who waits for one (common/schema/LOCKS.md). A plain data
// structure: it decides who gets what, as Linux does on one machine, and waits for nothing itself
// (locks.h does). Volatile: after a restart sessions tell it again. One reactor thread.
//
// Invariant: no two owners hold locks on a byte, in one space, of which one is for writing.
//
// Costs: one owner's pieces are found in logarithmic time; a lock is compared with every other
// owner that holds something in that space of the inode, but for a read lock where nobody writes.
// What becomes of a session or an inode costs what it held.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/locks/lock_ranges.h"

namespace cairn::mds {

struct LockOwner {
  SessionId session;
  LockSpace space = LockSpace::kRange;
  uint64_t id = 0;  // the kernel's
  auto operator<=>(const LockOwner&) const = default;
};

// A lock that is held or asked for; kNone: what is to be unlocked.
struct FileLock {
  InodeId ino;
  LockOwner owner;
  LockPiece piece;
};

struct LockGrant {
  SessionId session;
  uint64_t wait = 0;
  uint64_t serial = 0;
  bool operator==(const LockGrant&) const = default;
};

enum class LockOutcome : uint8_t { kGranted, kConflict, kDeadlock, kWaiting, kTooMany };

class LockTable {
 public:
  LockTable() = default;
  LockTable(const LockTable&) = delete;
  LockTable& operator=(const LockTable&) = delete;

  // Locks or unlocks. With `wait`, a number that is no other wait's of the session, what cannot be
  // had now is waited for: kWaiting. kTooMany: a limit; nothing was changed, but an flock of the
  // other type is gone.
  LockOutcome set(const FileLock& lock, std::optional<uint64_t> wait);
  // What is in the way, at the lowest offset.
  [[nodiscard]] std::optional<FileLock> test(const FileLock& lock) const;
  // The sessions that hold what is in the way, each once.
  [[nodiscard]] std::set<SessionId> inTheWay(const FileLock& lock) const;
  // Whether it was waiting.
  bool cancel(SessionId session, uint64_t wait);
  [[nodiscard]] bool waits(SessionId session, uint64_t wait) const;

  // The session holds this and waits for nothing, whatever was known. False if some of it is not
  // free; that is left out.
  bool replace(SessionId session, const std::vector<FileLock>& locks);
  void dropSession(SessionId session) { replace(session, {}); }
  // The inode is gone. Those that wait for locks on it are granted them.
  void dropInode(InodeId ino);

  // What was granted to those who waited, since the last call, in order.
  std::vector<LockGrant> takeGrants() { return std::exchange(grants_, {}); }
  // Of the last change.
  [[nodiscard]] uint64_t serial() const { return serial_; }

  // Whether another session waits for what this one holds.
  [[nodiscard]] bool blocksOthers(SessionId session) const;
  [[nodiscard]] bool anyOn(InodeId ino) const;
  [[nodiscard]] size_t size() const { return size_; }  // pieces
  [[nodiscard]] size_t waiting() const { return waiting_; }
  [[nodiscard]] size_t heldBy(SessionId session) const;

  static constexpr size_t kMaxPerSession = 100'000;
  static constexpr size_t kMaxPerFile = 16'384;  // in one space
  static constexpr size_t kMaxWaitsPerSession = 16'384;
  static constexpr size_t kMaxWaitsPerFile = 16'384;

 private:
  struct Wait {
    FileLock lock;
    uint64_t id = 0;
  };
  using Waits = std::list<Wait>;
  struct File {  // one space of an inode
    std::map<LockOwner, LockRanges> held;
    size_t pieces = 0, writing = 0;
    Waits waits;  // in order of arrival
  };
  using Key = std::pair<InodeId, LockSpace>;
  struct Session {
    std::set<std::pair<Key, LockOwner>> holds;
    size_t pieces = 0;
    std::map<uint64_t, Waits::iterator> waits;
  };

  [[nodiscard]] static Key keyOf(const FileLock& l) { return {l.ino, l.owner.space}; }
  [[nodiscard]] const File* find(const Key& key) const;
  // Calls `f(owner, piece)` for what is in the way of the lock, until it returns true; whether it
  // did.
  template <class F>
  bool forEachInTheWay(const File& file, const FileLock& lock, F f) const;
  [[nodiscard]] bool blocked(const File& file, const FileLock& lock) const;
  [[nodiscard]] bool wouldDeadlock(const File& file, const FileLock& lock) const;
  [[nodiscard]] bool tooMany(const File& file, const FileLock& lock) const;
  // Whether it took anything away.
  bool apply(File& file, const FileLock& lock);
  void enqueue(File& file, const FileLock& lock, uint64_t id);
  void dequeue(File& file, Waits::iterator wait);
  // Grants what nothing is in the way of any more.
  void wake(const Key& key);
  void tidy(const Key& key);
  void tidy(SessionId session);

  std::map<Key, File> files_;
  std::map<SessionId, Session> sessions_;
  std::map<LockOwner, std::set<const Wait*>> waitsOf_;  // in the space of ranges
  std::vector<LockGrant> grants_;
  uint64_t serial_ = 0;
  size_t size_ = 0, waiting_ = 0;
};

}  // namespace cairn::mds
