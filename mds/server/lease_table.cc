#include "mds/server/lease_table.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace cairn::mds {

LeaseTable::~LeaseTable() {
  for (auto& [id, session] : sessions_)
    for (Lease* lease = session.first; lease != nullptr;) delete std::exchange(lease, lease->next);
}

LeaseTable::Lease* LeaseTable::find(SessionId session, InodeId ino) const {
  auto it = byInode_.find(ino);
  if (it == byInode_.end()) return nullptr;
  for (Lease* lease = it->second; lease != nullptr; lease = lease->nextOfInode)
    if (lease->session->id == session) return lease;
  return nullptr;
}

LeaseMode LeaseTable::held(SessionId session, InodeId ino) const {
  const Lease* lease = find(session, ino);
  return lease == nullptr ? LeaseMode::kNone : lease->mode;
}

bool LeaseTable::othersHoldMore(InodeId ino, SessionId session, LeaseMode keep) const {
  auto it = byInode_.find(ino);
  if (it == byInode_.end()) return false;
  for (const Lease* lease = it->second; lease != nullptr; lease = lease->nextOfInode)
    if (lease->mode > keep && lease->session->id != session) return true;
  return false;
}

size_t LeaseTable::heldBy(SessionId session) const {
  auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.count;
}

void LeaseTable::grant(SessionId id, InodeId ino, LeaseMode mode, uint64_t serial) {
  CAIRN_ASSERT(mode != LeaseMode::kNone, "what is granted is something");
  const bool conflict =
      othersHoldMore(ino, id, mode == LeaseMode::kWrite ? LeaseMode::kNone : LeaseMode::kRead);
  CAIRN_ASSERT(!conflict, "one writer, or readers");
  Lease* lease = find(id, ino);
  if (lease == nullptr) {
    Session& session = sessions_[id];
    session.id = id;
    Lease*& newest = byInode_[ino];
    lease = new Lease{ino, &session, serial, newest, nullptr, session.first, mode, mode};
    newest = lease;
    if (session.first != nullptr) session.first->previous = lease;
    session.first = lease;
    ++session.count;
    ++size_;
    return;
  }
  if (lease->keep < lease->mode) answered(*lease);
  lease->mode = lease->keep = mode;
  lease->serial = serial;
}

std::vector<Recall> LeaseTable::recall(InodeId ino, SessionId except, LeaseMode keep,
                                       TimePoint now) {
  std::vector<Recall> out;
  auto it = byInode_.find(ino);
  if (it == byInode_.end()) return out;
  for (Lease* lease = it->second; lease != nullptr; lease = lease->nextOfInode) {
    if (lease->session->id == except || lease->keep <= keep) continue;
    lease->keep = keep;
    lease->session->owed.try_emplace(ino, now);
    debtors_.insert(lease->session->id);
    out.push_back({lease->session->id, ino, lease->serial, keep});
  }
  return out;
}

LeaseTable::GivenBack LeaseTable::giveBack(SessionId session, InodeId ino, uint64_t serial,
                                           LeaseMode keep, TimePoint now) {
  GivenBack out;
  Lease* lease = find(session, ino);
  if (lease == nullptr || serial < lease->serial) return out;
  out.less = keep < lease->mode;
  if (lease->keep < lease->mode) {
    auto owed = lease->session->owed.find(ino);
    if (keep <= lease->keep) {
      out.recalledAt = owed->second;
      answered(*lease);
      lease->keep = lease->mode;
    } else if (out.less) {
      owed->second = now;  // the answer to the first of two recalls; the second has its own time
    }
  }
  if (!out.less) return out;
  if (keep == LeaseMode::kNone) {
    remove(lease);
    return out;
  }
  lease->mode = keep;
  lease->keep = std::min(lease->keep, keep);
  return out;
}

bool LeaseTable::renew(SessionId session, InodeId ino, LeaseMode atMost, uint64_t serial,
                       TimePoint now) {
  Lease* lease = find(session, ino);
  if (lease == nullptr) return false;
  CAIRN_ASSERT(atMost != LeaseMode::kNone, "what is held again is something");
  const bool less = atMost < lease->mode && giveBack(session, ino, lease->serial, atMost, now).less;
  lease->serial = serial;
  return less;
}

std::vector<InodeId> LeaseTable::dropOlder(SessionId session, uint64_t serial) {
  std::vector<InodeId> out;
  auto it = sessions_.find(session);
  if (it == sessions_.end()) return out;
  for (Lease* lease = it->second.first; lease != nullptr;) {
    Lease* next = lease->next;
    if (lease->serial < serial) {
      out.push_back(lease->ino);
      remove(lease);
    }
    lease = next;
  }
  return out;
}

std::vector<InodeId> LeaseTable::dropSession(SessionId session) {
  std::vector<InodeId> out;
  auto it = sessions_.find(session);
  if (it == sessions_.end()) return out;
  out.reserve(it->second.count);
  while (Lease* lease = it->second.first) {
    out.push_back(lease->ino);
    remove(lease);
  }
  sessions_.erase(it);
  return out;
}

bool LeaseTable::dropInode(InodeId ino) {
  bool any = false;
  for (auto it = byInode_.find(ino); it != byInode_.end(); it = byInode_.find(ino)) {
    remove(it->second);
    any = true;
  }
  return any;
}

std::vector<Recall> LeaseTable::owedBy(SessionId session) const {
  std::vector<Recall> out;
  auto it = sessions_.find(session);
  if (it == sessions_.end()) return out;
  for (const auto& [ino, since] : it->second.owed) {
    const Lease* lease = find(session, ino);
    out.push_back({session, ino, lease->serial, lease->keep});
  }
  return out;
}

std::vector<LeaseTable::Debtor> LeaseTable::debtors() const {
  std::vector<Debtor> out;
  for (SessionId id : debtors_) {
    TimePoint since = TimePoint::max();
    for (const auto& [ino, at] : sessions_.at(id).owed) since = std::min(since, at);
    out.push_back({id, since});
  }
  return out;
}

void LeaseTable::forgive(Duration gap) {
  for (SessionId id : debtors_)
    for (auto& [ino, at] : sessions_.at(id).owed) at += gap;
}

// Its recall is unanswered no longer; the caller sets `keep`.
void LeaseTable::answered(Lease& lease) {
  Session& session = *lease.session;
  session.owed.erase(lease.ino);
  if (session.owed.empty()) debtors_.erase(session.id);
}

void LeaseTable::remove(Lease* lease) {
  if (lease->keep < lease->mode) answered(*lease);
  Session& session = *lease->session;
  (lease->previous != nullptr ? lease->previous->next : session.first) = lease->next;
  if (lease->next != nullptr) lease->next->previous = lease->previous;
  --session.count;
  --size_;
  auto it = byInode_.find(lease->ino);
  Lease** at = &it->second;
  while (*at != lease) at = &(*at)->nextOfInode;
  *at = lease->nextOfInode;
  if (it->second == nullptr) byInode_.erase(it);
  delete lease;
}

}  // namespace cairn::mds
