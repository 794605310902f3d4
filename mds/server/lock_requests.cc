// Requests for file locks: from the wire to Locks, and back.
#include "common/logging/log.h"
#include "mds/server/server.h"

namespace cairn::mds {
namespace {

FileLock read(schema::FileLock::Reader lock, SessionId session) {
  return {InodeId{lock.getIno()},
          {session, static_cast<LockSpace>(lock.getSpace()), lock.getOwner()},
          {lock.getStart(), lock.getEnd(), static_cast<LockType>(lock.getType()), lock.getPid()}};
}

schema::LockReply::Outcome wireOutcome(LockOutcome outcome) {
  using Wire = schema::LockReply::Outcome;
  switch (outcome) {
    case LockOutcome::kGranted:
      return Wire::GRANTED;
    case LockOutcome::kConflict:
      return Wire::CONFLICT;
    case LockOutcome::kDeadlock:
      return Wire::DEADLOCK;
    case LockOutcome::kWaiting:
    case LockOutcome::kTooMany:
      break;
  }
  return Wire::WAITING;
}

}  // namespace

Task<Result<OutMessage>> Server::lock(schema::MdsRequest::Reader request, RpcPeer& peer) {
  auto wanted = request.getLock();
  const FileLock lock = read(wanted.getLock(), SessionId{request.getSession()});
  if (lock.piece.type != LockType::kNone) CO_TRY(state_.inode(lock.ino));
  if (lock.piece.type == LockType::kNone && wanted.getGone()) locks_.abandon(lock);
  std::optional<uint64_t> wait;
  if (wanted.getWait()) wait = wanted.getId();
  auto done = co_await locks_.set(callerOf(peer), lock, wait);
  CO_TRY(done);
  if (done->outcome == LockOutcome::kTooMany)
    co_return fail(Errc::kNoLocks, "this session or file has too many locks");
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initLock();
  reply.setOutcome(wireOutcome(done->outcome));
  reply.setSerial(done->serial);
  co_return out;
}

Task<Result<OutMessage>> Server::lockTest(schema::MdsRequest::Reader request, RpcPeer& peer) {
  const FileLock lock = read(request.getLockTest(), SessionId{request.getSession()});
  auto found = co_await locks_.test(callerOf(peer), lock);
  CO_TRY(found);
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initLockHeld();
  reply.setIno(lock.ino.value);
  reply.setSpace(static_cast<schema::LockSpace>(lock.owner.space));
  if (*found) {
    const FileLock& held = **found;
    reply.setType(static_cast<schema::LockType>(held.piece.type));
    reply.setStart(held.piece.start);
    reply.setEnd(held.piece.end);
    // A process id means something on its own machine.
    if (held.owner.session == lock.owner.session) reply.setPid(held.piece.pid);
  }
  co_return out;
}

Result<void> Server::reclaimLocks(Connection& connection, SessionId session,
                                  schema::Reclaim::Reader reclaim) {
  // Grants to those who waited may go beyond the limit.
  if (connection.locks.size() + reclaim.getLocks().size() > 2 * LockTable::kMaxPerSession)
    return fail(Errc::kInvalid, "a session has fewer locks");
  for (auto lock : reclaim.getLocks()) connection.locks.push_back(read(lock, session));
  if (!reclaim.getLast()) return {};
  if (!locks_.reclaimed(session, std::exchange(connection.locks, {}))) {
    env_.log.error("a session claims locks that others hold: it is expired",
                   {{"session", session.value}});
    scope_.spawn(expire(session));
  }
  return {};
}

Task<void> Server::expire(SessionId session) {
  if (sessions_.alive(session)) (void)co_await endSession(session, true);
}

void Server::pushGrant(const LockGrant& grant) {
  auto to = peerOf_.find(grant.session);
  if (to == peerOf_.end()) return;
  OutMessage push;
  auto body = push.body<schema::MdsPush>().initLockGranted();
  body.setId(grant.wait);
  body.setSerial(grant.serial);
  to->second->push(std::move(push));
}

// Dropped where the session is not connected: it is sent again once the session has reclaimed.
void Server::pushProbe(const LockProbe& probe) {
  auto to = peerOf_.find(probe.session);
  if (to == peerOf_.end()) return;
  OutMessage push;
  auto body = push.body<schema::MdsPush>().initLockProbe();
  body.setIno(probe.ino.value);
  body.setSerial(probe.serial);
  to->second->push(std::move(push));
}

}  // namespace cairn::mds
