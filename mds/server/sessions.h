// The live sessions and what is known of them only in memory: when they were last heard, which
// inodes they hold, whether they have told us since we started. One reactor thread.
//
// After a restart nobody's open files are known. Until a session has reclaimed its own, it counts
// as a holder of every inode: removing a file that it may have open keeps the inode as an orphan,
// and once the session has reclaimed (or is ended) what it does not hold is released.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "common/base/result.h"
#include "common/base/units.h"
#include "mds/server/open_table.h"

namespace cairn::mds {

class Sessions {
 public:
  struct State {
    TimePoint heard;
    uint32_t leases = 0;
  };

  explicit Sessions(Duration timeout) : timeout_(timeout) {}

  // A session of before the restart, or a new one (which holds nothing).
  void addKnown(SessionId id, TimePoint now) {
    sessions_[id] = {now, 0};
    unreclaimed_.insert(id);
  }
  void addNew(SessionId id, TimePoint now) { sessions_[id] = {now, 0}; }
  void remove(SessionId id);

  // The session was heard. kSessionExpired if there is none.
  Result<void> touch(SessionId id, TimePoint now);
  [[nodiscard]] bool alive(SessionId id) const { return sessions_.contains(id); }
  [[nodiscard]] const State* find(SessionId id) const;
  void setLeases(SessionId id, uint32_t leases);
  // Those not heard for the timeout.
  [[nodiscard]] std::vector<SessionId> expired(TimePoint now) const;
  // We were not running for so long: nobody could be heard.
  void forgive(Duration gap);

  // What the session holds, all of it if it is the first time since the restart.
  void reclaim(SessionId id, const std::vector<InodeId>& inodes);
  // kBusyTryLater when the session has too many files open.
  [[nodiscard]] Result<void> mayOpen(SessionId id) const;
  void noteOpen(SessionId id, InodeId ino);
  void release(SessionId id, InodeId ino) { opens_.remove(id, ino); }
  // Everyone who has the inode open or may have.
  [[nodiscard]] std::vector<SessionId> mayHold(InodeId ino) const;
  // Whether the session certainly does not hold the inode (any more).
  [[nodiscard]] bool surelyNotHolding(SessionId id, InodeId ino) const;

  [[nodiscard]] size_t size() const { return sessions_.size(); }
  [[nodiscard]] size_t unreclaimed() const { return unreclaimed_.size(); }
  [[nodiscard]] const OpenTable& opens() const { return opens_; }

  static constexpr size_t kMaxSessions = 65536;
  // So many can be reclaimed with one message.
  static constexpr size_t kMaxOpensPerSession = 100'000;

 private:
  const Duration timeout_;
  std::map<SessionId, State> sessions_;
  std::set<SessionId> unreclaimed_;  // a subset of them
  OpenTable opens_;
};

}  // namespace cairn::mds
