// The live sessions and what is known of them only in memory: when they were last heard, which
// inodes they have open, whether they have told us since we started. One reactor thread.
//
// After a restart nobody's open files and leases are known. Until a session has reclaimed its own,
// it counts as a holder of every inode: removing a file that it may have open keeps the inode as an
// orphan, and once the session has reclaimed (or is ended) what it does not hold is released. What
// a lease of others excludes waits (leases.h).
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
    bool leases = false;  // answers recalls, so it may be granted leases
  };

  explicit Sessions(Duration timeout) : timeout_(timeout) {}

  // A session of before the restart, or a new one (which holds nothing).
  void addKnown(SessionId id, TimePoint now) {
    sessions_[id] = {now, false};
    unreclaimed_.insert(id);
  }
  void addNew(SessionId id, TimePoint now, bool leases) { sessions_[id] = {now, leases}; }
  void remove(SessionId id);

  // The session was heard. kSessionExpired if there is none.
  Result<void> touch(SessionId id, TimePoint now);
  [[nodiscard]] bool alive(SessionId id) const { return sessions_.contains(id); }
  [[nodiscard]] const State* find(SessionId id) const;
  [[nodiscard]] bool takesLeases(SessionId id) const {
    const State* s = find(id);
    return s != nullptr && s->leases;
  }
  // Those not heard for the timeout.
  [[nodiscard]] std::vector<SessionId> expired(TimePoint now) const {
    return silent(now, timeout_);
  }
  // Those not heard for longer than this.
  [[nodiscard]] std::vector<SessionId> silent(TimePoint now, Duration longerThan) const;
  // We were not running for so long: nobody could be heard.
  void forgive(Duration gap);

  // What the session has open, or a part of it. With `last` it has said everything.
  void reclaim(SessionId id, const std::vector<InodeId>& inodes, bool leases, bool last);
  // kBusyTryLater when the session has too many files open.
  [[nodiscard]] Result<void> mayOpen(SessionId id) const;
  void noteOpen(SessionId id, InodeId ino);
  void release(SessionId id, InodeId ino) { opens_.remove(id, ino); }
  // Everyone who has the inode open or may have.
  [[nodiscard]] std::vector<SessionId> mayHold(InodeId ino) const;
  // Whether the session certainly does not hold the inode (any more).
  [[nodiscard]] bool surelyNotHolding(SessionId id, InodeId ino) const;

  [[nodiscard]] size_t size() const { return sessions_.size(); }
  // Sessions of before the restart that have not said what they hold.
  [[nodiscard]] size_t unreclaimed() const { return unreclaimed_.size(); }
  [[nodiscard]] bool isUnreclaimed(SessionId id) const { return unreclaimed_.contains(id); }
  [[nodiscard]] const std::set<SessionId>& unreclaimedSessions() const { return unreclaimed_; }
  // Whether there are some besides this one.
  [[nodiscard]] bool awaitsOthers(SessionId id) const {
    return unreclaimed_.size() > (unreclaimed_.contains(id) ? 1 : 0);
  }
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
