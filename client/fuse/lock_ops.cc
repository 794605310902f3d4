// getlk, setlk, flock. That an operation of this file is in the table makes libfuse ask the kernel
// to send it locks. FUSE does not tell POSIX locks from those of open file descriptions.
#include <sys/file.h>

#include "client/fuse/edge.h"

namespace cairn::client {

namespace {

LockType typeOf(short type) {
  return type == F_WRLCK ? LockType::kWrite : type == F_RDLCK ? LockType::kRead : LockType::kNone;
}

LockRequest rangeOf(const fuse_file_info* info, const struct flock& lock) {
  LockRequest out{.space = LockSpace::kRange, .owner = info->lock_owner, .piece = {}};
  out.piece.start = static_cast<uint64_t>(lock.l_start);
  if (lock.l_len != 0) out.piece.end = static_cast<uint64_t>(lock.l_start + lock.l_len - 1);
  out.piece.type = typeOf(lock.l_type);
  out.piece.pid = static_cast<uint32_t>(lock.l_pid);
  return out;
}

Task<Result<void>> replyHeld(fuse_req_t request, Task<Result<LockPiece>> task) {
  auto held = co_await std::move(task);
  CO_TRY(held);
  struct flock out{};
  out.l_whence = SEEK_SET;
  out.l_type = held->type == LockType::kNone    ? F_UNLCK
               : held->type == LockType::kWrite ? F_WRLCK
                                                : F_RDLCK;
  out.l_start = static_cast<off_t>(held->start);
  if (held->end != kLastLockByte) out.l_len = static_cast<off_t>(held->end - held->start + 1);
  out.l_pid = static_cast<pid_t>(held->pid);
  fuse_reply_lock(request, &out);
  co_return Result<void>{};
}

void interrupted(fuse_req_t, void* wait) {
  static_cast<LockWait*>(wait)->interrupt();
}

// The kernel asks to interrupt a request that it has handed over, and waits for its answer all the
// same. Only one that waits is interrupted by any signal; see Callers for those who are killed.
Task<Result<void>> lockAndReply(FuseEdge& edge, fuse_req_t request, uint64_t unique,
                                std::shared_ptr<Handle> handle, LockRequest what, bool waits) {
  auto wait = std::make_shared<LockWait>(edge.reactor, waits);
  edge.onGivenUp[unique] = [wait] { wait->interrupt(); };
  if (waits) fuse_req_interrupt_func(request, interrupted, wait.get());
  auto locked = co_await edge.fs.lock(std::move(handle), what, wait);
  edge.onGivenUp.erase(unique);
  if (waits) fuse_req_interrupt_func(request, nullptr, nullptr);
  CO_TRY(locked);
  fuse_reply_err(request, 0);
  co_return Result<void>{};
}

void getLock(fuse_req_t r, fuse_ino_t, fuse_file_info* info, struct flock* lock) {
  auto& e = FuseEdge::of(r);
  e.run(r, "getlk", replyHeld(r, e.fs.testLock(handleOf(info), rangeOf(info, *lock))));
}

void setLock(fuse_req_t r, fuse_ino_t, fuse_file_info* info, struct flock* lock, int sleep) {
  auto& e = FuseEdge::of(r);
  const LockRequest what = rangeOf(info, *lock);
  const bool waits = sleep != 0 && what.piece.type != LockType::kNone;
  e.run(r, "setlk", lockAndReply(e, r, e.taking(), handleOf(info), what, waits));
}

void lockWhole(fuse_req_t r, fuse_ino_t, fuse_file_info* info, int op) {
  auto& e = FuseEdge::of(r);
  LockRequest what{.space = LockSpace::kFlock, .owner = info->lock_owner, .piece = {}};
  if ((op & LOCK_SH) != 0) what.piece.type = LockType::kRead;
  if ((op & LOCK_EX) != 0) what.piece.type = LockType::kWrite;
  const bool waits = (op & LOCK_NB) == 0 && what.piece.type != LockType::kNone;
  e.run(r, "flock", lockAndReply(e, r, e.taking(), handleOf(info), what, waits));
}

}  // namespace

void addLockOps(fuse_lowlevel_ops& ops) {
  ops.getlk = getLock;
  ops.setlk = setLock;
  ops.flock = lockWhole;
}

}  // namespace cairn::client
