#include "mds/server/sessions.h"

#include <algorithm>

namespace cairn::mds {

void Sessions::remove(SessionId id) {
  sessions_.erase(id);
  unreclaimed_.erase(id);
  opens_.drop(id);
}

Result<void> Sessions::touch(SessionId id, TimePoint now) {
  auto it = sessions_.find(id);
  if (it == sessions_.end())
    return fail(Errc::kSessionExpired, "session " + std::to_string(id.value) + " was ended");
  it->second.heard = now;
  return {};
}

const Sessions::State* Sessions::find(SessionId id) const {
  auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : &it->second;
}

std::vector<SessionId> Sessions::silent(TimePoint now, Duration longerThan) const {
  std::vector<SessionId> out;
  for (const auto& [id, s] : sessions_)
    if (now - s.heard > longerThan) out.push_back(id);
  return out;
}

void Sessions::forgive(Duration gap) {
  for (auto& [id, s] : sessions_) s.heard += gap;
}

void Sessions::reclaim(SessionId id, const std::vector<InodeId>& inodes, bool leases, bool last) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  it->second.leases = it->second.leases || leases;
  for (InodeId ino : inodes) opens_.add(id, ino);
  if (last) unreclaimed_.erase(id);
}

Result<void> Sessions::mayOpen(SessionId id) const {
  if (opens_.opensOf(id) < kMaxOpensPerSession) return {};
  return fail(Errc::kBusyTryLater, "session " + std::to_string(id.value) + " has " +
                                       std::to_string(kMaxOpensPerSession) +
                                       " files open: close some");
}

void Sessions::noteOpen(SessionId id, InodeId ino) {
  if (alive(id)) opens_.add(id, ino);
}

std::vector<SessionId> Sessions::mayHold(InodeId ino) const {
  std::vector<SessionId> out = opens_.holders(ino);
  for (SessionId id : unreclaimed_)
    if (!opens_.holds(id, ino)) out.push_back(id);
  std::sort(out.begin(), out.end());  // commands do not depend on the history of a hash table
  return out;
}

bool Sessions::surelyNotHolding(SessionId id, InodeId ino) const {
  return !unreclaimed_.contains(id) && !opens_.holds(id, ino);
}

}  // namespace cairn::mds
