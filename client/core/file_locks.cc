#include "client/core/file_locks.h"

#include <algorithm>

namespace cairn::client {

namespace {
// Answers that say that nothing was changed.
bool refused(Errc code) {
  switch (code) {
    case Errc::kNotFound:
    case Errc::kStale:
    case Errc::kInvalid:
    case Errc::kNotSupported:
    case Errc::kNoLocks:
      return true;
    default:
      return false;
  }
}
}  // namespace

// ---- The table ----

bool FileLocks::nothingThere(const Key& key, const LockPiece& piece) const {
  if (std::ranges::any_of(asks_, [&](const Ask* a) { return a->key == key; })) return false;
  auto it = held_.find(key);
  return it == held_.end() || it->second.ranges.within(piece.start, piece.end).empty();
}

void FileLocks::take(Ask& ask) {
  ask.taken = true;
  Owner& owner = held_[ask.key];
  owner.ranges.set(ask.piece);
  if (owner.ranges.empty()) {
    held_.erase(ask.key);
    return;
  }
  if (!ask.handle || ask.piece.type == LockType::kNone) return;
  std::erase_if(owner.through, [](auto& h) { return h.expired(); });
  if (std::ranges::none_of(owner.through, [&](auto& h) { return h.lock() == ask.handle; }))
    owner.through.push_back(ask.handle);
}

// Grants of this owner that were made before an answer which is read now, and whose askers have not
// run yet.
void FileLocks::takeEarlier(const Key& key, uint64_t serial) {
  std::vector<Ask*> earlier;
  for (Ask* a : asks_)
    if (a->key == key && a->grant && !a->taken && *a->grant <= serial) earlier.push_back(a);
  std::ranges::sort(earlier, {}, [](const Ask* a) { return *a->grant; });
  for (Ask* a : earlier) take(*a);
}

// An flock that is converted is given up before the new one is had, or not.
void FileLocks::dropOther(const Ask& ask) {
  if (ask.key.space != LockSpace::kFlock) return;
  auto it = held_.find(ask.key);
  if (it != held_.end() && it->second.ranges.all().front().type != ask.piece.type) held_.erase(it);
}

bool FileLocks::weakens(const Ask& ask) const {
  if (ask.key.space == LockSpace::kFlock) return false;
  auto it = held_.find(ask.key);
  return it != held_.end() && it->second.ranges.lessened(ask.piece);
}

// It is asked for until it is answered: an unlock, and what may set something free that would have
// to be got back.
bool FileLocks::persists(const Ask& ask) const {
  return ask.piece.type == LockType::kNone || weakens(ask);
}

void FileLocks::weaken(Ask& ask) {
  dropOther(ask);
  if (!weakens(ask)) return;
  auto it = held_.find(ask.key);
  LockRanges& ranges = it->second.ranges;
  for (LockPiece piece : ranges.within(ask.piece.start, ask.piece.end)) {
    if (piece.type <= ask.piece.type) continue;
    ask.weakened.push_back(piece);
    piece.type = ask.piece.type;
    ranges.set(piece);
  }
  if (ranges.empty()) held_.erase(it);
}

void FileLocks::lose(const Key& key) {
  auto it = held_.find(key);
  if (it == held_.end()) return;
  for (auto& weak : it->second.through)
    if (auto h = weak.lock()) h->broken = true;
}

// ---- Asking ----

Task<Result<void>> FileLocks::lock(std::shared_ptr<Handle> h, LockRequest what,
                                   std::shared_ptr<LockWait> wait) {
  CO_TRY(h->usable());
  const Key key{h->file->ino(), what.space, what.owner};
  if (what.piece.type == LockType::kNone && nothingThere(key, what.piece)) co_return Result<void>{};
  Ask ask(key, what.piece, h, std::move(wait));
  auto result = co_await run(ask);
  // What was granted to a broken handle stays until it is released: its owner cannot use it.
  CO_TRY(h->usable());
  co_return result;
}

// The owner's next request comes behind those that nobody waits for: they are repeated on their
// own, and what they come to late must not undo it.
Task<Result<void>> FileLocks::run(Ask& ask) {
  auto at = asks_.insert(asks_.end(), &ask);
  auto earlier = [&] {
    return std::any_of(asks_.begin(), at, [&](const Ask* a) {
      return a->key == ask.key && (!a->handle || abandoned(*a));
    });
  };
  while (earlier()) co_await settled_.wait();
  auto result = co_await settle(ask);
  waits_.erase(ask.id);
  ask.over = true;
  if (ask.orphaned) {
    Closing closing(*this, ask.key.ino);
    co_await unlockAll(ask.key, true);
  } else if (!result && !ask.weakened.empty()) {
    co_await restore(ask);
  }
  asks_.erase(at);
  settled_.fire();
  co_return result;
}

Task<Result<void>> FileLocks::runNow(Ask& ask) {
  auto at = asks_.insert(asks_.end(), &ask);
  auto result = co_await settle(ask);
  asks_.erase(at);
  settled_.fire();
  co_return result;
}

// A request has failed of which the MDS was told less than what was held: that much is asked for
// again. Others may have it by now.
Task<void> FileLocks::restore(const Ask& failed) {
  for (const LockPiece& piece : failed.weakened) {
    Ask ask(failed.key, piece, failed.handle);
    if (co_await runNow(ask)) continue;
    lose(failed.key);
    if (failed.handle) failed.handle->broken = true;
  }
}

// Called for each attempt: the answer to an earlier one will not come any more.
uint64_t FileLocks::begin(Ask& ask) {
  waits_.erase(ask.id);
  ask.waiting = ask.again = false;
  ask.grant.reset();
  if (!ask.wait || !ask.wait->patient_) return 0;
  ask.id = ++lastId_;
  waits_[ask.id] = &ask;
  return ask.id;
}

Task<Result<void>> FileLocks::settle(Ask& ask) {
  while (!stop_.isSet()) {
    if (interrupted(ask)) co_return fail(Errc::kInterrupted);
    if (ask.handle) CO_TRY(ask.handle->usable());
    if (ask.wait) ask.wait->changed_.reset();
    // When a broken connection leaves it open whether it was done, the next one says that it was
    // not.
    auto answer = co_await mds_.lock(
        {ask.key.ino, ask.key.space, ask.key.owner, ask.piece}, ask.ownerGone,
        [&] { return begin(ask); }, [&] { return interrupted(ask) && !persists(ask); },
        ask.wait && !persists(ask) ? &ask.wait->changed_ : nullptr);
    if (!answer) {
      if (refused(answer.error().code)) {
        dropOther(ask);
        co_return fail(answer.error());
      }
      weaken(ask);
      co_return interrupted(ask) ? fail(Errc::kInterrupted) : fail(answer.error());
    }
    takeEarlier(ask.key, answer->serial);
    switch (answer->outcome) {
      case LockAnswer::Outcome::kGranted:
        take(ask);
        co_return Result<void>{};
      case LockAnswer::Outcome::kConflict:
        dropOther(ask);
        co_return fail(Errc::kWouldBlock);
      case LockAnswer::Outcome::kDeadlock:
        co_return fail(Errc::kDeadlock);
      case LockAnswer::Outcome::kWaiting:
        break;
    }
    if (ask.id == 0) co_return fail(Errc::kBadMessage, "the MDS waits unasked");
    dropOther(ask);
    ask.waiting = true;
    if (auto over = co_await awaitGrant(ask)) co_return std::move(*over);
  }
  co_return fail(Errc::kCanceled, "unmounting");
}

Task<std::optional<Result<void>>> FileLocks::awaitGrant(Ask& ask) {
  LockWait& wait = *ask.wait;
  const uint64_t id = ask.id;
  auto gotIt = [&] {
    if (!ask.grant) return false;
    if (!ask.taken) take(ask);
    return true;
  };
  while (true) {
    co_await wait.changed_.wait();
    co_await yield(env_.reactor);  // behind answers that were read before the grant
    if (gotIt()) co_return Result<void>{};
    if (ask.again || stop_.isSet()) co_return std::nullopt;
    if (wait.interrupted_) break;
    wait.changed_.reset();
  }
  const bool once = !weakens(ask);
  auto told = co_await mds_.cancelLock(id, once);
  // The grant, if it came first, was read before this answer.
  if (gotIt()) co_return Result<void>{};
  ask.waiting = false;
  if (!told && !ask.again) weaken(ask);
  co_return fail(Errc::kInterrupted);
}

Task<void> FileLocks::unlockRanges(InodeId ino, uint64_t owner) {
  const Key key{ino, LockSpace::kRange, owner};
  if (nothingThere(key, {})) co_return;
  Closing closing(*this, ino);
  bool orphans = false;
  for (Ask* a : asks_)
    if (a->key == key && interrupted(*a)) orphans = a->orphaned = true;
  co_await unlockAll(key, orphans);
}

Task<void> FileLocks::released(std::shared_ptr<Handle> h) {
  const InodeId ino = h->file->ino();
  Closing closing(*this, ino);
  std::map<Key, bool> keys;  // with whether something was asked that nobody is to have
  for (Ask* a : asks_)
    if (a->handle == h && interrupted(*a)) keys[a->key] = a->orphaned = true;
  for (auto it = held_.lower_bound({ino, LockSpace::kFlock, 0});
       it != held_.end() && it->first.ino == ino; ++it)
    if (std::ranges::any_of(it->second.through, [&](auto& weak) { return weak.lock() == h; }))
      keys.try_emplace(it->first, false);
  for (auto [key, orphans] : keys) co_await unlockAll(key, orphans);
}

// Waits for no request for a lock: probes wait for this. The MDS refuses, with this, what the owner
// asked for and was not answered: it must not be had by nobody once the probes are answered.
Task<void> FileLocks::unlockAll(Key key, bool ownerGone) {
  Ask ask(key, {});
  ask.ownerGone = ownerGone;
  if (!co_await runNow(ask)) held_.erase(key);
}

Task<void> FileLocks::closesTold(InodeId ino) {
  const uint64_t last = lastClosing_;
  auto some = [&] {
    auto first = closings_.lower_bound({ino, 0});
    return first != closings_.end() && first->first == ino && first->second <= last;
  };
  while (some()) co_await closed_.wait();
}

bool FileLocks::tookThroughAnother(const Handle& h, const LockRequest& what) const {
  if (what.piece.type == LockType::kNone) return false;
  auto it = held_.find({h.file->ino(), what.space, what.owner});
  return it != held_.end() && std::ranges::any_of(it->second.through, [&](auto& weak) {
           const auto other = weak.lock();
           return other && other.get() != &h;
         });
}

// ---- Hooks ----

std::vector<HeldLock> FileLocks::reclaim() {
  for (Ask* ask : asks_) {
    if (ask->taken || ask->over) continue;
    if (ask->waiting) {
      ask->again = true;
      ask->grant.reset();
      waits_.erase(ask->id);
      ask->wait->changed_.set();
    }
    weaken(*ask);
  }
  std::vector<HeldLock> out;
  for (const auto& [key, owner] : held_)
    for (const LockPiece& piece : owner.ranges.all())
      out.push_back({key.ino, key.space, key.owner, piece});
  return out;
}

void FileLocks::granted(uint64_t id, uint64_t serial) {
  auto it = waits_.find(id);
  if (it == waits_.end()) return;  // of a wait that is over
  it->second->grant = serial;
  it->second->wait->changed_.set();
}

void FileLocks::sessionLost() {
  for (const auto& [key, owner] : held_) lose(key);
  held_.clear();
  for (Ask* ask : asks_) {
    if (!ask->weakened.empty() && ask->handle) ask->handle->broken = true;
    if (!ask->waiting || ask->taken) continue;
    ask->again = true;
    ask->grant.reset();
    waits_.erase(ask->id);
    ask->wait->changed_.set();
  }
}

void FileLocks::wake() {
  for (Ask* ask : asks_)
    if (ask->wait) ask->wait->changed_.set();
}

}  // namespace cairn::client
