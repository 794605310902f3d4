// The server's side of leases (common/schema/LEASES.md): claims, which wait until nobody holds a
// lease that they exclude; grants; recalls and their answers. One reactor thread.
//
// Why nothing waits in a circle. A request waits, in this order, for
//   1. names (NameLocks), never for another once it has claimed anything;
//   2. its claim, one, of all its inodes at once: entered in all of their queues in one step, it
//      waits only for claims that were entered before it, so claims never wait for each other in a
//      circle, whatever inodes they share;
//   3. the returns of those who hold leases on these inodes. A client gives a lease back when what
//      runs under it has ended, and that needs OSDs and the requests of a holder (commitWrite and
//      the like, leaseReturn, reclaim, keepalive), all of which wait here for nobody. A client that
//      does not answer is ended, see overdue();
//   4. what only the log can hold up: RemovalGate, the command itself.
// And a connection always has room for a holder's requests (Caller::kMaxWaits), and is not kept
// from being replaced by requests that wait (Caller::leave).
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <list>
#include <vector>

#include "common/base/env.h"
#include "common/metrics/metrics.h"
#include "common/reactor/task.h"
#include "common/schema/mds.capnp.h"
#include "mds/server/caller.h"
#include "mds/server/claims.h"
#include "mds/server/lease_table.h"
#include "mds/server/sessions.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

class Leases {
 public:
  // Sends a recall if the session is connected. Never called where a claim is released: so a recall
  // goes out behind the reply that granted the lease. All outlive it.
  using Push = std::function<void(const Recall&)>;
  Leases(Env& env, const Sessions& sessions, Push push);

  // Sessions of before the start may hold anything until they reclaim. `serial`: larger than any
  // that an earlier run has used.
  void start(TimePoint now, uint64_t serial);

  // ---- claims ----

  // What a request is about to do to some inodes. From its construction nobody else is granted a
  // lease on them; once ready() nobody else holds a lease that excludes it. Lives until the reply
  // is built and its grants are made.
  class Claim {
   public:
    static constexpr size_t kMaxInodes = 4;
    // Zeros and repetitions among the inodes are left out.
    Claim(Leases& leases, Caller& caller, SessionId session, ClaimKind kind,
          std::initializer_list<InodeId> inodes);
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    // Recalls what is in the way; whether nothing is.
    [[nodiscard]] bool ready();
    // Waits until ready(): at once if nothing is in the way. kUnavailable, kBusyTryLater: see
    // Caller.
    Task<Result<void>> wait();
    // Whether a grant of what was acquired takes nothing from anybody.
    [[nodiscard]] bool acquired(InodeId ino) const;

   private:
    friend class Leases;
    [[nodiscard]] LeaseMode othersKeep() const {
      return kind_ == ClaimKind::kAcquireRead ? LeaseMode::kRead : LeaseMode::kNone;
    }
    Leases& leases_;
    Caller& caller_;
    const SessionId session_;
    const ClaimKind kind_;
    std::array<Claims::Entry, kMaxInodes> entries_;
    size_t count_ = 0;
    Wait wait_;
  };

  // Whether the attributes known here may be behind those of another session that writes the file.
  [[nodiscard]] bool behind(SessionId session, const Inode& inode) const;
  [[nodiscard]] LeaseMode held(SessionId session, InodeId ino) const {
    return table_.held(session, ino);
  }

  // ---- grants ----

  // What one reply grants. Made and used where the reply is built, without waiting in between: a
  // recall that follows is sent behind it.
  class Grants {
   public:
    Grants(Leases& leases, SessionId session) : leases_(leases), session_(session) {}
    // The inode's attributes as this session is to see them, and a lease by the way: `wanted` if
    // nobody is in the way, otherwise less. What the session holds stays. With `claim`, a ready one
    // of this session that acquires: at least what it acquired.
    void attr(const Inode& inode, schema::Attr::Builder attr, LeaseMode wanted = LeaseMode::kRead,
              const Claim* claim = nullptr);
    // Whether the session now has a read lease on the directory.
    bool directory(InodeId dir);
    // Of what was granted; 0: nothing was.
    [[nodiscard]] uint64_t serial() const { return serial_; }

   private:
    LeaseMode grant(InodeId ino, LeaseMode wanted, const Claim* claim);
    Leases& leases_;
    const SessionId session_;
    uint64_t serial_ = 0;
  };

  // ---- what sessions say, and what becomes of them ----

  void giveBack(SessionId session, schema::LeaseReturn::Reader back, TimePoint now);
  // A part of a reclaim. The first of a connection (`serial` 0) gives the serial for the rest.
  // What is no longer free is recalled at once (no client that keeps the contract lists such).
  uint64_t reclaim(SessionId session, schema::Reclaim::Reader reclaim, uint64_t serial);
  // The last part was taken, and the session counts as reclaimed: what it did not list is given
  // back. The recalls that it has not answered, to be sent again behind the answer.
  std::vector<Recall> reclaimed(SessionId session, uint64_t serial);
  // The session was ended.
  void drop(SessionId session);
  // The inode is gone.
  void dropInode(InodeId ino);

  // Sessions to be expired: they owe an answer that somebody waits for, to a recall or of what they
  // hold since before the restart, and were not heard for `silence`, or owe it for `patience`. Of
  // that only counts what is after `ableSince`: before, they may have had nowhere to write to.
  [[nodiscard]] std::vector<SessionId> overdue(TimePoint now, Duration silence, Duration patience,
                                               TimePoint ableSince) const;
  // We were not running for so long.
  void forgive(Duration gap);

  [[nodiscard]] const LeaseTable& table() const { return table_; }
  [[nodiscard]] const Claims& claims() const { return claims_; }
  // From a recall to its answer.
  [[nodiscard]] const LatencyHistogram& answers() const { return answers_; }

  // Beyond so many a session gets only those that it asks for: bounds what one client can make us
  // remember by looking around.
  static constexpr size_t kMaxLeasesPerSession = 500'000;

 private:
  void wake(InodeId ino);
  void wake(const std::vector<InodeId>& inodes) {
    for (InodeId ino : inodes) wake(ino);
  }
  [[nodiscard]] static Claim& claimOf(const Claims::Entry& entry) {
    return *static_cast<Claim*>(entry.owner);
  }
  void push(const std::vector<Recall>& recalls);

  Reactor& reactor_;
  const Sessions& sessions_;
  const Push push_;
  LeaseTable table_;
  Claims claims_;
  std::list<Claim*> unsettled_;  // wait until sessions have reclaimed
  TimePoint started_;
  uint64_t nextSerial_ = 1;
  uint64_t& recalls_;
  LatencyHistogram answers_;
};

}  // namespace cairn::mds
