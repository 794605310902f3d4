#include "test/sim/shared_locks.h"

#include <fcntl.h>

#include <algorithm>

namespace cairn::sim::test {

using client::LockRequest;
using client::LockWait;

bool SharedLocks::fail(const Agent& a, const std::string& what) {
  if (failure_.empty()) failure_ = "agent " + std::to_string(a.number) + ": " + what;
  return false;
}

Task<void> SharedLocks::prepare(client::Filesystem& fs) {
  auto made = co_await fs.create(kRootInode, "locked", 0644, {}, O_RDWR | O_CREAT | O_EXCL);
  if (!made) {
    failure_ = "create: " + made.error().text();
    co_return;
  }
  file_ = made->attr.ino;
  co_await fs.release(made->handle);
}

void SharedLocks::killed(size_t agent) {
  ++lives_[agent];
  --running_;
  runs_[agent] = false;
  has_[agent] = {};
}

bool SharedLocks::note(const Agent& a, const Bytes& has, const char* when) {
  for (size_t other = 0; other < kAgents; ++other)
    for (size_t b = 0; b <= kBytes && other != a.number; ++b)
      if (has[b] != LockType::kNone && has_[other][b] != LockType::kNone &&
          (has[b] == LockType::kWrite || has_[other][b] == LockType::kWrite))
        return fail(a, std::string(when) + " it has byte " + std::to_string(b) + ", and agent " +
                           std::to_string(other) + " has it too");
  has_[a.number] = has;
  return true;
}

Task<void> SharedLocks::interruptLater(Env& env, std::shared_ptr<LockWait> wait, Duration after) {
  co_await sleepFor(env.reactor, after);
  wait->interrupt();
}

Task<void> SharedLocks::run(size_t agent, Env& env, client::Filesystem& fs, uint64_t steps) {
  ++running_;
  runs_[agent] = true;
  TaskScope later(env.reactor);
  Agent a{agent, &env, &fs, &later, nullptr, lives_[agent]};
  auto opened = co_await fs.open(file_, O_RDWR);
  if (!opened) {
    if (!dead(a)) fail(a, "open: " + opened.error().text());
  } else {
    a.handle = opened->handle;
    for (uint64_t i = 0; i < steps && failure_.empty() && !dead(a); ++i) {
      if (!co_await step(a)) break;
      if (random_.chance(1, 2)) co_await sleepFor(env.reactor, 1ms * random_.below(60));
    }
    if (!dead(a)) {
      has_[agent] = {};
      co_await fs.unlockRanges(a.handle, agent + 1);
      co_await fs.release(a.handle);
    }
  }
  co_await later.join();
  if (dead(a)) co_return;
  --running_;
  runs_[agent] = false;
}

Task<bool> SharedLocks::step(Agent& a) {
  LockRequest what;
  what.owner = a.number + 1;
  what.space = random_.chance(1, 4) ? LockSpace::kFlock : LockSpace::kRange;
  what.piece.type = static_cast<LockType>(random_.below(3));
  what.piece.pid = static_cast<uint32_t>(a.number);
  size_t first = kBytes, last = kBytes;
  if (what.space == LockSpace::kRange) {
    first = random_.below(kBytes);
    last = first + random_.below(kBytes - first);
    what.piece.start = first;
    what.piece.end = last;
  }
  // Nobody finds a circle of waits that goes through both spaces: none is made.
  const bool flock = what.space == LockSpace::kFlock;
  const auto& mine = has_[a.number];
  const bool elsewhere =
      flock ? std::any_of(mine.begin(), mine.end() - 1, [](auto t) { return t != LockType::kNone; })
            : mine[kBytes] != LockType::kNone;
  const bool wait = what.piece.type != LockType::kNone && !elsewhere && random_.chance(1, 2);
  auto waits = wait ? std::make_shared<LockWait>(a.env->reactor) : nullptr;
  if (wait && random_.chance(1, 3))
    a.later->spawn(interruptLater(*a.env, waits, 1ms * random_.below(200)));

  const Bytes before = has_[a.number];
  // What may be given up by the request is not counted on while it runs. An flock is converted by
  // giving the old one up.
  Bytes meanwhile = before, after = before;
  for (size_t b = first; b <= last; ++b) {
    const bool converts = b == kBytes && before[b] != what.piece.type;
    meanwhile[b] = converts ? LockType::kNone : std::min(before[b], what.piece.type);
    after[b] = what.piece.type;
  }
  has_[a.number] = meanwhile;
  const TimePoint asked = a.env->reactor.now();
  auto locked = co_await a.fs->lock(a.handle, what, waits);
  if (dead(a)) co_return false;
  if (locked) {
    ++seen_.granted;
    if (wait && a.env->reactor.now() - asked > 50ms) ++seen_.waited;
    co_return note(a, after, "granted,");
  }
  switch (locked.error().code) {
    case Errc::kWouldBlock:
      if (wait) co_return fail(a, "a request that waits is refused");
      ++seen_.refused;
      break;
    case Errc::kInterrupted:
      ++seen_.interrupted;
      break;
    case Errc::kDeadlock: {
      ++seen_.deadlocks;
      if (flock) co_return fail(a, "flock finds a deadlock");
      // The way out of it.
      has_[a.number] = {};
      has_[a.number][kBytes] = before[kBytes];
      co_await a.fs->unlockRanges(a.handle, a.number + 1);
      co_return true;
    }
    case Errc::kIo: {
      // Locks were lost: not with the session, but in a request that failed across a restart.
      has_[a.number] = {};
      co_await a.fs->unlockRanges(a.handle, a.number + 1);
      co_await a.fs->release(a.handle);
      auto again = co_await a.fs->open(file_, O_RDWR);
      if (!again) co_return dead(a) ? false : fail(a, "open: " + again.error().text());
      a.handle = again->handle;
      co_return true;
    }
    default:
      co_return fail(a, "lock: " + locked.error().text());
  }
  // Of ranges all is had as before; a flock may be lost.
  Bytes still = before;
  if (flock) still = meanwhile;
  co_return note(a, still, "refused,");
}

}  // namespace cairn::sim::test
