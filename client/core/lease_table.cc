#include "client/core/lease_table.h"

#include <algorithm>

#include "common/base/assert.h"

namespace cairn::client {

namespace {
// From the answer to a page fault to the instruction that it interrupted: a process is woken, which
// takes some tens of microseconds on a machine that has a processor to spare.
constexpr Duration kTouchTime = 1ms;
constexpr int kDropsWithWrites = 4;
// The kernel may forget a hundred thousand inodes at once. In one message: 100 KiB, a millisecond
// of the MDS's time.
constexpr size_t kMaxReturns = 4096;
}  // namespace

LeaseTable::LeaseTable(Env& env, Event& stop, TaskScope& scope, Hooks hooks)
    : env_(env), stop_(stop), scope_(scope), hooks_(std::move(hooks)), changed_(env.reactor) {}

void LeaseTable::touch(Entry& entry) {
  entry.lastUsed = env_.reactor.now();
  order_.splice(order_.end(), order_, entry.at);
}

void LeaseTable::drop(InodeId ino) {
  auto it = entries_.find(ino);
  order_.erase(it->second.at);
  entries_.erase(it);
}

// ---- What the MDS says ----

void LeaseTable::granted(InodeId ino, LeaseMode mode, uint64_t serial, bool directory) {
  if (mode == LeaseMode::kNone) return;
  auto [it, isNew] = entries_.try_emplace(ino);
  Entry& e = it->second;
  if (isNew) e.at = order_.insert(order_.end(), ino);
  e.directory = directory;
  e.serial = std::max(e.serial, serial);
  // What comes by the way while the lease is being given up goes with it.
  if (!e.givingUp) {
    if (e.mode == LeaseMode::kNone) e.since = e.stamp = ++lastSince_;
    e.mode = std::max(e.mode, mode);
  }
  touch(e);
}

void LeaseTable::learnBare(InodeId ino, bool bare) {
  if (auto it = entries_.find(ino); it != entries_.end()) it->second.bare = bare;
}

void LeaseTable::recalled(InodeId ino, uint64_t serial, bool toRead) {
  auto it = entries_.find(ino);
  if (it == entries_.end()) {
    give({ino, serial, false});
    return;
  }
  Entry& e = it->second;
  e.serial = std::max(e.serial, serial);
  if (e.givingUp) {
    e.toRead = e.toRead && toRead;
    return;
  }
  if (toRead && e.mode == LeaseMode::kRead) {
    give({ino, e.serial, true});
    return;
  }
  e.givingUp = true;
  e.toRead = toRead;
  scope_.spawn(giveUp(ino));
}

void LeaseTable::renewed(TimePoint sentAt, Duration lease) {
  lease_ = lease;
  validUntil_ = std::max(validUntil_, sentAt + lease);
  if (!lapsed_ || !valid()) return;
  lapsed_ = false;
  changed_.fire();
}

Task<void> LeaseTable::watchTime() {
  bool early = false;
  while (!stop_.isSet()) {
    const TimePoint now = env_.reactor.now(), half = validUntil_ - lease_ / 2;
    if (lapsed_) {
      co_await changed_.wait();
    } else if (now < half) {
      early = false;
      co_await stop_.waitFor(half - now);
    } else if (now < validUntil_) {
      if (!std::exchange(early, true) && hooks_.lapsesEarly && hooks_.lapsesEarly()) lapse();
      co_await stop_.waitFor(validUntil_ - now);
    } else {
      early = false;
      lapsed_ = true;
      lapse();
    }
  }
}

void LeaseTable::lapse() {
  ++lapses_;
  changed_.fire();  // what comes from mappings may begin
  if (hooks_.lapsed) hooks_.lapsed();
}

void LeaseTable::sessionLost() {
  ++session_;
  ++lapses_;
  lapsed_ = true;
  validUntil_ = {};
  returns_.clear();
  std::vector<InodeId> lost(order_.begin(), order_.end());
  for (InodeId ino : lost) {
    Entry& e = entries_.at(ino);
    e.mode = LeaseMode::kNone;
    if (hooks_.forget) scope_.spawn(hooks_.forget(ino, e.directory));
    if (!e.givingUp && e.users == 0) drop(ino);
  }
  changed_.fire();
}

// ---- For operations ----

LeaseMode LeaseTable::held(InodeId ino) const {
  auto it = entries_.find(ino);
  return it == entries_.end() || !valid() ? LeaseMode::kNone : it->second.mode;
}

uint64_t LeaseTable::since(InodeId ino) const {
  auto it = entries_.find(ino);
  return it == entries_.end() || it->second.mode == LeaseMode::kNone ? 0 : it->second.since;
}

uint64_t LeaseTable::stamp(InodeId ino) const {
  auto it = entries_.find(ino);
  return it == entries_.end() || it->second.mode == LeaseMode::kNone ? 0 : it->second.stamp;
}

void LeaseTable::changed(InodeId ino) {
  auto it = entries_.find(ino);
  if (it == entries_.end()) return;
  it->second.stamp = ++lastSince_;
}

bool LeaseTable::bare(InodeId ino) const {
  auto it = entries_.find(ino);
  return it != entries_.end() && it->second.bare;
}

LeaseTable::Use LeaseTable::tryUse(InodeId ino, LeaseMode mode, Urgency urgency) {
  auto it = entries_.find(ino);
  if (it == entries_.end()) return {};
  Entry& e = it->second;
  if (e.givingUp) {
    if (!admits(e, mode, urgency)) return {};
    if (urgency == Urgency::kLocksPages) e.locked = true;
  } else if (!(e.mode >= mode && valid()) && !admits(e, mode, urgency)) {
    return {};
  }
  ++e.users;
  touch(e);
  return {this, ino};
}

// Whether the session was renewed does not count: the lease is ours until it is given back, and
// what is written back under it is not judged by that either. When it was not, the pages are
// dropped whether the lease is being given up or not, and before giving up has come to what is
// buffered.
bool LeaseTable::admits(const Entry& entry, LeaseMode mode, Urgency urgency) const {
  if (entry.mode < mode) return false;
  if (urgency == Urgency::kFromMapping && !valid()) return true;
  return entry.dropping && urgency >= entry.admits;
}

void LeaseTable::pageShown(InodeId ino) {
  if (auto it = entries_.find(ino); it != entries_.end())
    it->second.keptUntil = env_.reactor.now() + kTouchTime;
}

void LeaseTable::leave(InodeId ino) {
  auto it = entries_.find(ino);
  CAIRN_ASSERT(it != entries_.end() && it->second.users > 0, "a lease in use stays in the table");
  Entry& e = it->second;
  if (--e.users != 0) return;
  if (e.givingUp) {
    changed_.fire();
  } else if (e.mode == LeaseMode::kNone) {
    drop(ino);
  }
}

bool LeaseTable::givingUp(InodeId ino) const {
  auto it = entries_.find(ino);
  return it != entries_.end() && it->second.givingUp;
}

Task<void> LeaseTable::settled(InodeId ino, Urgency urgency) {
  while (!stop_.isSet()) {
    auto it = entries_.find(ino);
    if (it == entries_.end() || !it->second.givingUp) co_return;
    if (admits(it->second, LeaseMode::kWrite, urgency)) co_return;
    co_await changed_.wait();
  }
}

Duration LeaseTable::handOut(InodeId ino) {
  auto it = entries_.find(ino);
  if (it == entries_.end() || it->second.givingUp || it->second.mode == LeaseMode::kNone) return {};
  const TimePoint now = env_.reactor.now();
  if (now >= validUntil_) return {};
  touch(it->second);
  return validUntil_ - now;
}

std::vector<InodeId> LeaseTable::all(LeaseMode mode) const {
  std::vector<InodeId> out;
  for (const auto& [ino, e] : entries_)
    if (e.mode == mode) out.push_back(ino);
  std::ranges::sort(out);
  return out;
}

// ---- Giving up ----

Task<void> LeaseTable::forgetThenTell(InodeId ino, bool directory, std::shared_ptr<bool> done) {
  co_await hooks_.forget(ino, directory);
  *done = true;
  changed_.fire();
}

Task<void> LeaseTable::forget(InodeId ino, bool directory) {
  if (!hooks_.forget || stop_.isSet()) co_return;
  const uint64_t session = session_;
  auto done = std::make_shared<bool>(false);
  scope_.spawn(forgetThenTell(ino, directory, done));
  while (!*done && session == session_ && !stop_.isSet()) co_await changed_.wait();
}

Task<void> LeaseTable::unused(const Entry& entry) {
  while (entry.users != 0 && !stop_.isSet()) co_await changed_.wait();
}

// What was written into mapped pages is written under the lease while they are dropped. So is what
// locks pages and comes meanwhile, but it may leave some behind what was dropped already: hence
// again, until none has come. Who does not stop is made to wait the last time.
Task<void> LeaseTable::dropMapped(InodeId ino, Entry& entry) {
  while (env_.reactor.now() < entry.keptUntil && !stop_.isSet())
    co_await stop_.waitFor(entry.keptUntil - env_.reactor.now());
  entry.dropping = true;
  entry.admits = Urgency::kLocksPages;
  int left = kDropsWithWrites;
  do {
    entry.locked = false;
    changed_.fire();
    co_await forget(ino, false);
    if (--left == 0) entry.admits = Urgency::kHoldsPages;
  } while (entry.locked && left >= 0 && !stop_.isSet());
  entry.dropping = false;
  co_await unused(entry);
}

Task<void> LeaseTable::giveUp(InodeId ino) {
  // The entry stays while it is being given up.
  Entry& e = entries_.at(ino);
  const uint64_t session = session_;
  co_await unused(e);
  const bool mapped = e.mode == LeaseMode::kWrite && hooks_.mapped(ino);
  if (mapped) co_await dropMapped(ino, e);
  if (e.mode == LeaseMode::kWrite && !stop_.isSet()) co_await hooks_.writeBack(ino);
  LeaseReturn back{ino, 0, e.toRead && e.mode == LeaseMode::kWrite};
  // It is ours until the kernel has forgotten: a reclaim that comes meanwhile names it.
  if (!back.keepRead && !mapped) co_await forget(ino, e.directory);
  e.mode = back.keepRead ? LeaseMode::kRead : LeaseMode::kNone;
  back.serial = e.serial;
  e.givingUp = false;
  if (e.mode == LeaseMode::kNone) drop(ino);
  if (session == session_) give(back);
  changed_.fire();
}

void LeaseTable::give(LeaseReturn back) {
  returns_.push_back(back);
  if (sending_ || stop_.isSet()) return;
  sending_ = true;
  scope_.spawn(sendReturns());
}

Task<void> LeaseTable::sendReturns() {
  while (!returns_.empty() && !stop_.isSet()) {
    const auto end =
        returns_.begin() + static_cast<ptrdiff_t>(std::min(returns_.size(), kMaxReturns));
    std::vector<LeaseReturn> batch(returns_.begin(), end);
    returns_.erase(returns_.begin(), end);
    co_await hooks_.send(std::move(batch));
  }
  sending_ = false;
}

// What the kernel was told has run out with the lease's validity at that time, so it need not be
// told when a lease that was not used since goes.
Task<void> LeaseTable::returnUnused() {
  while (!co_await stop_.waitFor(std::max<Duration>(lease_, 1s))) {
    const TimePoint old = env_.reactor.now() - 2 * lease_;
    std::vector<InodeId> open;
    for (auto it = order_.begin(); it != order_.end();) {
      const InodeId ino = *it++;
      Entry& e = entries_.at(ino);
      if (e.lastUsed > old) break;
      if (e.users != 0 || e.givingUp) continue;
      if (hooks_.keep(ino)) {
        open.push_back(ino);
        continue;
      }
      give({ino, e.serial, false});
      drop(ino);
    }
    for (InodeId ino : open) touch(entries_.at(ino));
  }
}

}  // namespace cairn::client
