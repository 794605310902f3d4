#include "mds/server/lock_probes.h"

#include <algorithm>

namespace cairn::mds {

void LockProbes::send(const Key& key, State& state, uint64_t serial) {
  state.serial = serial;
  state.next = 0;
  state.sentAt = reactor_.now();
  state.late = false;
  push_({key.first, key.second, serial});
}

LockProbe LockProbes::ask(SessionId session, InodeId ino) {
  const Key key{session, ino};
  auto [at, none] = unanswered_.try_emplace(key);
  State& state = at->second;
  if (none) {
    send(key, state, ++lastSerial_);
    return {session, ino, state.serial};
  }
  if (state.late) return {session, ino, 0};
  if (state.next == 0) state.next = ++lastSerial_;
  return {session, ino, state.next};
}

bool LockProbes::settled(const LockProbe& probe) const {
  auto at = unanswered_.find({probe.session, probe.ino});
  return at == unanswered_.end() || at->second.late || probe.serial < at->second.serial;
}

void LockProbes::answered(const LockProbe& probe) {
  auto at = unanswered_.find({probe.session, probe.ino});
  if (at == unanswered_.end() || at->second.serial != probe.serial) return;  // sent twice
  if (at->second.next != 0)
    send(at->first, at->second, at->second.next);
  else
    unanswered_.erase(at);
  wake();
}

void LockProbes::resend(SessionId session) {
  for (auto at = unanswered_.lower_bound({session, InodeId{}});
       at != unanswered_.end() && at->first.first == session; ++at)
    push_({session, at->first.second, at->second.serial});
}

void LockProbes::drop(SessionId session) {
  auto at = unanswered_.lower_bound({session, InodeId{}});
  while (at != unanswered_.end() && at->first.first == session) at = unanswered_.erase(at);
  wake();
}

bool LockProbes::awaits(SessionId session) const {
  for (auto at = unanswered_.lower_bound({session, InodeId{}});
       at != unanswered_.end() && at->first.first == session; ++at)
    if (!at->second.late) return true;
  return false;
}

void LockProbes::giveUp(TimePoint sentBefore, const std::vector<SessionId>& ending) {
  for (auto& [key, state] : unanswered_) {
    if (state.sentAt >= sentBefore || std::ranges::count(ending, key.first) != 0) continue;
    state.late = true;
    state.next = 0;
  }
  wake();
}

void LockProbes::forgive(Duration gap) {
  for (auto& [key, state] : unanswered_) state.sentAt += gap;
}

void LockProbes::wake() {
  for (Wait* wait : waiters_) wait->wake();
}

}  // namespace cairn::mds
