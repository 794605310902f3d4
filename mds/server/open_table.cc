#include "mds/server/open_table.h"

#include <algorithm>

namespace cairn::mds {

void OpenTable::add(SessionId session, InodeId ino) {
  if (bySession_[session].insert(ino).second) byInode_[ino].push_back(session);
}

void OpenTable::remove(SessionId session, InodeId ino) {
  auto s = bySession_.find(session);
  if (s == bySession_.end() || s->second.erase(ino) == 0) return;
  if (s->second.empty()) bySession_.erase(s);
  auto i = byInode_.find(ino);
  std::erase(i->second, session);
  if (i->second.empty()) byInode_.erase(i);
}

void OpenTable::drop(SessionId session) {
  auto s = bySession_.find(session);
  if (s == bySession_.end()) return;
  const std::vector<InodeId> inodes(s->second.begin(), s->second.end());
  for (InodeId ino : inodes) remove(session, ino);
}

bool OpenTable::holds(SessionId session, InodeId ino) const {
  auto s = bySession_.find(session);
  return s != bySession_.end() && s->second.contains(ino);
}

std::vector<SessionId> OpenTable::holders(InodeId ino) const {
  auto i = byInode_.find(ino);
  return i == byInode_.end() ? std::vector<SessionId>{} : i->second;
}

size_t OpenTable::opensOf(SessionId session) const {
  auto s = bySession_.find(session);
  return s == bySession_.end() ? 0 : s->second.size();
}

size_t OpenTable::size() const {
  size_t n = 0;
  for (const auto& [session, inodes] : bySession_) n += inodes.size();
  return n;
}

}  // namespace cairn::mds
