#include "mds/server/locks.h"

#include <algorithm>

namespace cairn::mds {

Task<Result<void>> Locks::settled(Caller& caller, const Asking& asking) {
  const SessionId session = asking.lock.owner.session;
  if (sessions_.isUnreclaimed(session))
    co_return fail(Errc::kInvalid, "a session reclaims what it holds before it asks for more");
  if (!sessions_.awaitsOthers(session)) co_return Result<void>{};
  Wait wait(reactor_, caller);
  while (sessions_.awaitsOthers(session) && !asking.abandoned) {
    CO_TRY(caller.mayWait());
    auto at = unsettled_.insert(unsettled_.end(), {session, &wait});
    co_await wait;
    unsettled_.erase(at);
  }
  if (!sessions_.alive(session)) co_return fail(Errc::kSessionExpired);
  co_return Result<void>{};
}

Task<Result<Locks::Done>> Locks::set(Caller& caller, FileLock lock, std::optional<uint64_t> wait) {
  const auto at = asking_.insert(asking_.end(), {lock});
  auto done = co_await set(caller, *at, wait);
  asking_.erase(at);
  co_return done;
}

Task<Result<Locks::Done>> Locks::set(Caller& caller, const Asking& asking,
                                     std::optional<uint64_t> wait) {
  const FileLock& lock = asking.lock;
  const SessionId session = lock.owner.session;
  if (lock.piece.type != LockType::kNone) CO_TRY(co_await settled(caller, asking));
  if (asking.abandoned) co_return refused();
  if (wait && table_.waits(session, *wait))
    co_return fail(Errc::kInvalid, "another request of this session waits under that number");
  Done done;
  done.outcome = table_.set(lock, wait);
  if (done.outcome == LockOutcome::kConflict) {
    pushGrants();  // an flock is lost before it is had anew, or not
    CO_TRY(co_await askHolders(caller, asking));
    if (asking.abandoned) co_return refused();
    done.outcome = table_.set(lock, wait);
  }
  done.serial = table_.serial();
  if (done.outcome == LockOutcome::kConflict) refusedFor_.merge(table_.inTheWay(lock));
  pushGrants();
  co_return done;
}

Locks::Done Locks::refused() const {
  return {LockOutcome::kConflict, table_.serial()};
}

void Locks::abandon(const FileLock& lock) {
  for (Asking& a : asking_)
    if (a.lock.ino == lock.ino && a.lock.owner == lock.owner) a.abandoned = true;
  wakeUnsettled();
  probes_.wake();
}

// Not before kDeadlock: an owner whose files are closed waits for nothing, so it is in no circle.
// One round is enough: who gets in the way meanwhile does so while the request is under way, and
// its owner is alive then (abandon()).
Task<Result<void>> Locks::askHolders(Caller& caller, const Asking& asking) {
  const FileLock& lock = asking.lock;
  std::vector<LockProbe> probes;
  for (SessionId holder : table_.inTheWay(lock)) probes.push_back(probes_.ask(holder, lock.ino));
  auto open = [&] {
    return !asking.abandoned &&
           std::ranges::any_of(probes, [&](const LockProbe& p) { return !probes_.settled(p); });
  };
  if (!open()) co_return Result<void>{};
  Wait wait(reactor_, caller);
  LockProbes::Waiter waiter(probes_, wait);
  while (open()) {
    CO_TRY(caller.mayWait());
    co_await wait;
  }
  // It may have reclaimed over another connection meanwhile, or have ended.
  if (caller.gone()) co_return fail(Errc::kUnavailable, "the connection is gone");
  if (!sessions_.alive(lock.owner.session)) co_return fail(Errc::kSessionExpired);
  co_return Result<void>{};
}

Task<Result<std::optional<FileLock>>> Locks::test(Caller& caller, FileLock lock) {
  const Asking asking{lock};
  CO_TRY(co_await settled(caller, asking));
  auto found = table_.test(lock);
  if (found) {
    CO_TRY(co_await askHolders(caller, asking));
    found = table_.test(lock);
  }
  if (found) refusedFor_.insert(found->owner.session);
  co_return found;
}

bool Locks::reclaimed(SessionId session, const std::vector<FileLock>& locks) {
  const bool all = table_.replace(session, locks);
  pushGrants();
  wakeUnsettled();
  return all;
}

void Locks::drop(SessionId session) {
  table_.dropSession(session);
  refusedFor_.erase(session);
  probes_.drop(session);
  pushGrants();
  wakeUnsettled();
}

void Locks::dropInode(InodeId ino) {
  table_.dropInode(ino);
  pushGrants();
}

void Locks::wakeUnsettled() {
  for (const Unsettled& u : unsettled_) u.wait->wake();
}

void Locks::pushGrants() {
  for (const LockGrant& grant : table_.takeGrants()) push_(grant);
}

std::vector<SessionId> Locks::overdue(TimePoint now, Duration silence) {
  std::vector<SessionId> out;
  const auto refusedFor = std::exchange(refusedFor_, {});
  for (SessionId id : sessions_.silent(now, silence)) {
    const bool awaited = sessions_.isUnreclaimed(id) && now - started_ > silence &&
                         std::ranges::any_of(unsettled_, [id](auto& u) { return u.session != id; });
    if (awaited || refusedFor.contains(id) || table_.blocksOthers(id) || probes_.awaits(id))
      out.push_back(id);
  }
  probes_.giveUp(now - silence, out);
  return out;
}

}  // namespace cairn::mds
