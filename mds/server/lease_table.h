// Who holds which lease (common/schema/LEASES.md), and which recalls are unanswered. A plain data
// structure: it decides nothing and waits for nothing (leases.h does). Volatile: after a restart
// sessions tell it again. One reactor thread.
//
// Invariant: what one session holds for writing, no other session holds at all. Whoever grants
// keeps it; asserted here.
//
// Costs: what is asked of one session and one inode is found in constant time, however many others
// hold leases there; only recall() and holders() look at each of them. A lease takes 72 bytes, and
// the first on an inode 40 more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/units.h"

namespace cairn::mds {

enum class LeaseMode : uint8_t { kNone, kRead, kWrite };  // a larger one includes the smaller

struct Recall {
  SessionId session;
  InodeId ino;
  uint64_t serial = 0;                // of the lease
  LeaseMode keep = LeaseMode::kNone;  // what the holder may keep
  auto operator<=>(const Recall&) const = default;
};

class LeaseTable {
 public:
  LeaseTable() = default;
  LeaseTable(const LeaseTable&) = delete;
  LeaseTable& operator=(const LeaseTable&) = delete;

  [[nodiscard]] LeaseMode held(SessionId session, InodeId ino) const;
  // Whether a session other than this one holds more than `keep` on the inode.
  [[nodiscard]] bool othersHoldMore(InodeId ino, SessionId session, LeaseMode keep) const;
  [[nodiscard]] bool anybodyHolds(InodeId ino) const { return byInode_.contains(ino); }
  [[nodiscard]] std::vector<SessionId> holders(InodeId ino) const;
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] size_t heldBy(SessionId session) const;

  // From now on the session holds this, neither more nor less. A recall that it has not answered
  // was of the lease as it stood, and counts no longer.
  void grant(SessionId session, InodeId ino, LeaseMode mode, uint64_t serial);

  // Notes that every session but this one is to keep no more than `keep`, and gives those whom to
  // tell: who has been told already is not among them.
  std::vector<Recall> recall(InodeId ino, SessionId except, LeaseMode keep, TimePoint now);

  struct GivenBack {
    bool less = false;                    // the session holds less than before
    std::optional<TimePoint> recalledAt;  // it answered the recall of that time, in full
  };
  // The session keeps at most `keep` (kNone or kRead). Without effect if it holds nothing, or was
  // granted the lease again under a serial that it had not seen.
  GivenBack giveBack(SessionId session, InodeId ino, uint64_t serial, LeaseMode keep,
                     TimePoint now);
  // The session says again that it holds the lease, or less, from now on under this serial. A
  // recall stays unanswered. Whether it holds less than before.
  bool renew(SessionId session, InodeId ino, LeaseMode atMost, uint64_t serial, TimePoint now);
  // Takes what the session holds under an older serial; the inodes.
  std::vector<InodeId> dropOlder(SessionId session, uint64_t serial);
  // The session is gone; what it held.
  std::vector<InodeId> dropSession(SessionId session);
  // The inode is gone; whether anybody held it.
  bool dropInode(InodeId ino);

  // The unanswered recalls of a session, by inode.
  [[nodiscard]] std::vector<Recall> owedBy(SessionId session) const;
  // Sessions with unanswered recalls, and when the oldest of these was sent.
  struct Debtor {
    SessionId session;
    TimePoint since;
  };
  [[nodiscard]] std::vector<Debtor> debtors() const;
  // We were not running for so long: nobody could answer.
  void forgive(Duration gap);

 private:
  struct Session;
  // One session's lease on one inode; a node of `Session::leases`, so it stays where it is. All of
  // an inode are chained.
  struct Lease {
    Session* session = nullptr;
    uint64_t serial = 0;
    Lease *previous = nullptr, *next = nullptr;
    LeaseMode mode = LeaseMode::kNone;
    LeaseMode keep = LeaseMode::kNone;  // less than `mode`: recalled down to this, not answered
  };
  struct Session {
    SessionId id;
    std::unordered_map<InodeId, Lease> leases;
    std::map<InodeId, TimePoint> owed;  // since when
  };

  [[nodiscard]] const Lease* find(SessionId session, InodeId ino) const;
  [[nodiscard]] Lease* find(SessionId session, InodeId ino) {
    return const_cast<Lease*>(std::as_const(*this).find(session, ino));
  }
  void answered(Session& session, InodeId ino);
  void remove(Session& session, InodeId ino);

  std::unordered_map<InodeId, Lease*> byInode_;  // the newest first
  std::unordered_map<SessionId, Session> sessions_;
  std::set<SessionId> debtors_;
  size_t size_ = 0;
};

}  // namespace cairn::mds
