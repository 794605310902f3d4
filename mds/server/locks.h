// The server's side of file locks (common/schema/LOCKS.md): requests against the lock table, grants
// to those who wait, the grace after a restart, and who has to be expired. One reactor thread.
//
// A lock that is not to be had is not waited for here: the client is told that it waits, and gets a
// push. What a request does wait for is that sessions of before the restart have reclaimed, and,
// before it is refused, that those for whose locks that is say whether they still stand. Both are
// over soon (overdue()); its caller may leave earlier.
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <set>
#include <vector>

#include "common/reactor/task.h"
#include "mds/server/caller.h"
#include "mds/server/lock_probes.h"
#include "mds/server/lock_table.h"
#include "mds/server/sessions.h"

namespace cairn::mds {

class Locks {
 public:
  // Tells the session, if it is connected. What is pushed to others may go out before the answer
  // to the request that caused it; what is pushed to a waiter goes out behind the answer that said
  // that it waits. All outlive it.
  using Push = std::function<void(const LockGrant&)>;
  Locks(Reactor& reactor, const Sessions& sessions, Push push, LockProbes::Push probe)
      : reactor_(reactor),
        sessions_(sessions),
        push_(std::move(push)),
        probes_(reactor, std::move(probe)) {}

  // Sessions of before the start may hold anything until they reclaim.
  void start(TimePoint now) { started_ = now; }

  struct Done {
    LockOutcome outcome = LockOutcome::kGranted;
    uint64_t serial = 0;
  };
  // kUnavailable, kBusyTryLater: see Caller. kInvalid: the session has not reclaimed, or waits
  // under that number already.
  Task<Result<Done>> set(Caller& caller, FileLock lock, std::optional<uint64_t> wait);
  // The owner is gone: what it asked for on this inode and is under way is refused, whatever it
  // waits for, or it would be had by nobody in front of those who come next.
  void abandon(const FileLock& lock);
  Task<Result<std::optional<FileLock>>> test(Caller& caller, FileLock lock);
  void cancel(SessionId session, uint64_t wait) { table_.cancel(session, wait); }
  // Every close on that inode that was over when the probe was sent has been told to us.
  void probed(const LockProbe& probe) { probes_.answered(probe); }

  // The session holds this and nothing else, and waits for nothing. False if it claims what others
  // hold, which no client does that keeps the contract.
  bool reclaimed(SessionId session, const std::vector<FileLock>& locks);
  // Behind the answer to its reclaim.
  void resendProbes(SessionId session) { probes_.resend(session); }
  // The session was ended; it is fenced, if it was expired.
  void drop(SessionId session);
  void dropInode(InodeId ino);

  // Sessions to be expired: they were not heard for `silence`, and others wait for their locks,
  // were just refused for them, or wait for their reclaim or their answer to a probe. Probes of
  // others are not waited for longer than that either.
  [[nodiscard]] std::vector<SessionId> overdue(TimePoint now, Duration silence);
  // We were not running for so long.
  void forgive(Duration gap) {
    started_ += gap;
    probes_.forgive(gap);
  }

  [[nodiscard]] const LockTable& table() const { return table_; }

 private:
  // A request under way.
  struct Asking {
    const FileLock& lock;
    bool abandoned = false;
  };
  struct Unsettled {
    SessionId session;
    Wait* wait;
  };
  Task<Result<Done>> set(Caller& caller, const Asking& asking, std::optional<uint64_t> wait);
  [[nodiscard]] Done refused() const;
  // Waits until every other session has said what it holds, or the request is abandoned.
  Task<Result<void>> settled(Caller& caller, const Asking& asking);
  void wakeUnsettled();
  // Waits until all who hold what is in the way have been asked whether it stands, or the same.
  Task<Result<void>> askHolders(Caller& caller, const Asking& asking);
  void pushGrants();

  Reactor& reactor_;
  const Sessions& sessions_;
  const Push push_;
  LockTable table_;
  LockProbes probes_;
  std::list<Unsettled> unsettled_;
  std::list<Asking> asking_;
  std::set<SessionId> refusedFor_;  // since overdue() was asked last
  TimePoint started_;
};

}  // namespace cairn::mds
