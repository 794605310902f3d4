#include "mds/server/lock_table.h"

#include <algorithm>

namespace cairn::mds {

const LockTable::File* LockTable::find(const Key& key) const {
  auto it = files_.find(key);
  return it == files_.end() ? nullptr : &it->second;
}

template <class F>
bool LockTable::forEachInTheWay(const File& file, const FileLock& lock, F f) const {
  const LockPiece& p = lock.piece;
  if (p.type == LockType::kNone || (p.type == LockType::kRead && file.writing == 0)) return false;
  for (const auto& [owner, ranges] : file.held) {
    if (owner == lock.owner) continue;
    if (auto piece = ranges.excluding(p.start, p.end, p.type); piece && f(owner, *piece))
      return true;
  }
  return false;
}

bool LockTable::blocked(const File& file, const FileLock& lock) const {
  return forEachInTheWay(file, lock, [](auto&, auto&) { return true; });
}

// Whoever waits, waits for everybody who is in its way: a path of waits from one of those back to
// the owner would never end. Owners with several threads may wait for several things at once; such
// a path is taken for a deadlock although another thread could break it, as Linux does.
bool LockTable::wouldDeadlock(const File& file, const FileLock& lock) const {
  if (lock.owner.space != LockSpace::kRange) return false;
  std::set<LockOwner> seen;
  std::vector<LockOwner> next;
  auto visit = [&](const LockOwner& owner, const LockPiece&) {
    if (owner == lock.owner) return true;
    if (seen.insert(owner).second) next.push_back(owner);
    return false;
  };
  forEachInTheWay(file, lock, visit);
  while (!next.empty()) {
    auto waits = waitsOf_.find(next.back());
    next.pop_back();
    if (waits == waitsOf_.end()) continue;
    for (const Wait* wait : waits->second)
      if (forEachInTheWay(*find(keyOf(wait->lock)), wait->lock, visit)) return true;
  }
  return false;
}

bool LockTable::tooMany(const File& file, const FileLock& lock) const {
  if (lock.piece.type == LockType::kNone) {
    // Only cutting a piece in two makes more of them.
    auto own = file.held.find(lock.owner);
    if (own == file.held.end()) return false;
    const LockPiece& p = lock.piece;
    const bool splits = p.start > 0 && p.end < kLastLockByte &&
                        !own->second.within(p.start - 1, p.start - 1).empty() &&
                        !own->second.within(p.end + 1, p.end + 1).empty();
    if (!splits) return false;
  }
  return file.pieces + 2 > kMaxPerFile || heldBy(lock.owner.session) + 2 > kMaxPerSession;
}

bool LockTable::apply(File& file, const FileLock& lock) {
  ++serial_;
  auto own = file.held.find(lock.owner);
  if (own == file.held.end()) {
    if (lock.piece.type == LockType::kNone) return false;
    own = file.held.try_emplace(lock.owner).first;
  }
  LockRanges& ranges = own->second;
  Session& session = sessions_[lock.owner.session];
  const bool lessened = ranges.lessened(lock.piece);
  const size_t pieces = ranges.size(), writing = ranges.writing();
  ranges.set(lock.piece);
  file.pieces += ranges.size() - pieces;
  file.writing += ranges.writing() - writing;
  session.pieces += ranges.size() - pieces;
  size_ += ranges.size() - pieces;
  const std::pair at{keyOf(lock), lock.owner};
  if (ranges.empty()) {
    file.held.erase(own);
    session.holds.erase(at);
  } else {
    session.holds.insert(at);
  }
  return lessened;
}

LockOutcome LockTable::set(const FileLock& lock, std::optional<uint64_t> wait) {
  const Key key = keyOf(lock);
  File& file = files_[key];
  bool lessened = false;
  const LockOutcome outcome = [&] {
    if (lock.owner.space == LockSpace::kFlock) {
      auto own = file.held.find(lock.owner);
      if (own != file.held.end()) {
        if (own->second.all().front().type == lock.piece.type) return LockOutcome::kGranted;
        FileLock old = lock;
        old.piece.type = LockType::kNone;
        lessened = apply(file, old);
      }
    }
    if (blocked(file, lock)) {
      if (!wait) return LockOutcome::kConflict;
      if (wouldDeadlock(file, lock)) return LockOutcome::kDeadlock;
      auto session = sessions_.find(lock.owner.session);
      if (file.waits.size() >= kMaxWaitsPerFile ||
          (session != sessions_.end() && session->second.waits.size() >= kMaxWaitsPerSession))
        return LockOutcome::kTooMany;
      enqueue(file, lock, *wait);
      return LockOutcome::kWaiting;
    }
    if (tooMany(file, lock)) return LockOutcome::kTooMany;
    lessened = apply(file, lock) || lessened;
    return LockOutcome::kGranted;
  }();
  if (lessened) wake(key);
  tidy(key);
  tidy(lock.owner.session);
  return outcome;
}

std::optional<FileLock> LockTable::test(const FileLock& lock) const {
  std::optional<FileLock> first;
  const File* file = find(keyOf(lock));
  if (file == nullptr) return first;
  forEachInTheWay(*file, lock, [&](const LockOwner& owner, const LockPiece& piece) {
    if (!first || piece.start < first->piece.start) first = FileLock{lock.ino, owner, piece};
    return false;
  });
  return first;
}

std::set<SessionId> LockTable::inTheWay(const FileLock& lock) const {
  std::set<SessionId> out;
  const File* file = find(keyOf(lock));
  if (file == nullptr) return out;
  forEachInTheWay(*file, lock, [&](const LockOwner& owner, const LockPiece&) {
    out.insert(owner.session);
    return false;
  });
  return out;
}

// ---- Waiting ----

void LockTable::enqueue(File& file, const FileLock& lock, uint64_t id) {
  auto at = file.waits.insert(file.waits.end(), Wait{lock, id});
  sessions_[lock.owner.session].waits[id] = at;
  if (lock.owner.space == LockSpace::kRange) waitsOf_[lock.owner].insert(&*at);
  ++waiting_;
}

void LockTable::dequeue(File& file, Waits::iterator wait) {
  const LockOwner owner = wait->lock.owner;
  sessions_.at(owner.session).waits.erase(wait->id);
  if (auto of = waitsOf_.find(owner); of != waitsOf_.end()) {
    of->second.erase(&*wait);
    if (of->second.empty()) waitsOf_.erase(of);
  }
  file.waits.erase(wait);
  --waiting_;
}

bool LockTable::waits(SessionId session, uint64_t wait) const {
  auto it = sessions_.find(session);
  return it != sessions_.end() && it->second.waits.contains(wait);
}

bool LockTable::cancel(SessionId session, uint64_t wait) {
  if (!waits(session, wait)) return false;
  auto at = sessions_.at(session).waits.at(wait);
  const Key key = keyOf(at->lock);
  dequeue(files_.at(key), at);
  tidy(key);
  tidy(session);
  return true;
}

void LockTable::wake(const Key& key) {
  auto it = files_.find(key);
  if (it == files_.end()) return;
  File& file = it->second;
  // A grant may take away something from what its owner had, too.
  for (bool lessened = true; lessened;) {
    lessened = false;
    for (auto next = file.waits.begin(); next != file.waits.end();) {
      auto wait = next++;
      if (blocked(file, wait->lock)) continue;
      const Wait granted = *wait;
      dequeue(file, wait);
      lessened = apply(file, granted.lock) || lessened;
      grants_.push_back({granted.lock.owner.session, granted.id, serial_});
    }
  }
}

// ---- Whole sessions and inodes ----

bool LockTable::replace(SessionId session, const std::vector<FileLock>& locks) {
  std::set<Key> touched;
  if (auto it = sessions_.find(session); it != sessions_.end()) {
    while (!it->second.waits.empty()) {
      auto wait = it->second.waits.begin()->second;
      const Key key = keyOf(wait->lock);
      dequeue(files_.at(key), wait);
      touched.insert(key);
    }
    while (!it->second.holds.empty()) {
      const auto [key, owner] = *it->second.holds.begin();
      apply(files_.at(key), {key.first, owner, {}});
      touched.insert(key);
    }
  }
  bool all = true;
  for (const FileLock& lock : locks) {
    const Key key = keyOf(lock);
    File& file = files_[key];
    touched.insert(key);
    if (blocked(file, lock))
      all = false;
    else
      apply(file, lock);
  }
  for (const Key& key : touched) {
    wake(key);
    tidy(key);
  }
  tidy(session);
  return all;
}

void LockTable::dropInode(InodeId ino) {
  for (LockSpace space : {LockSpace::kFlock, LockSpace::kRange}) {
    const Key key{ino, space};
    auto it = files_.find(key);
    // Every round grants something, until nobody waits and nothing is held.
    while (it != files_.end()) {
      File& file = it->second;
      std::set<SessionId> sessions;
      while (!file.held.empty()) {
        const LockOwner owner = file.held.begin()->first;
        sessions.insert(owner.session);
        apply(file, {ino, owner, {}});
      }
      wake(key);
      for (SessionId session : sessions) tidy(session);
      tidy(key);
      it = files_.find(key);
    }
  }
}

void LockTable::tidy(const Key& key) {
  auto it = files_.find(key);
  if (it != files_.end() && it->second.held.empty() && it->second.waits.empty()) files_.erase(it);
}

void LockTable::tidy(SessionId session) {
  auto it = sessions_.find(session);
  if (it != sessions_.end() && it->second.holds.empty() && it->second.waits.empty())
    sessions_.erase(it);
}

bool LockTable::blocksOthers(SessionId session) const {
  auto it = sessions_.find(session);
  if (it == sessions_.end()) return false;
  return std::ranges::any_of(it->second.holds, [&](const auto& at) {
    const auto& [key, owner] = at;
    const File& file = files_.at(key);
    const LockRanges& ranges = file.held.at(owner);
    return std::ranges::any_of(file.waits, [&](const Wait& w) {
      const LockPiece& p = w.lock.piece;
      return w.lock.owner.session != session && ranges.excluding(p.start, p.end, p.type);
    });
  });
}

bool LockTable::anyOn(InodeId ino) const {
  return files_.contains({ino, LockSpace::kFlock}) || files_.contains({ino, LockSpace::kRange});
}

size_t LockTable::heldBy(SessionId session) const {
  auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.pieces;
}

}  // namespace cairn::mds
