#include "mds/server/lease_table.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace cairn::mds {

const LeaseTable::Lease* LeaseTable::find(SessionId session, InodeId ino) const {
  auto s = sessions_.find(session);
  if (s == sessions_.end()) return nullptr;
  auto lease = s->second.leases.find(ino);
  return lease == s->second.leases.end() ? nullptr : &lease->second;
}

LeaseMode LeaseTable::held(SessionId session, InodeId ino) const {
  const Lease* lease = find(session, ino);
  return lease == nullptr ? LeaseMode::kNone : lease->mode;
}

bool LeaseTable::othersHoldMore(InodeId ino, SessionId session, LeaseMode keep) const {
  auto it = byInode_.find(ino);
  if (it == byInode_.end()) return false;
  // Who writes is alone, and two of those who read are enough: one of them is another.
  const Lease* lease = it->second;
  if (lease->session->id == session) lease = lease->next;
  return lease != nullptr && lease->mode > keep;
}

std::vector<SessionId> LeaseTable::holders(InodeId ino) const {
  std::vector<SessionId> out;
  auto it = byInode_.find(ino);
  for (const Lease* l = it == byInode_.end() ? nullptr : it->second; l != nullptr; l = l->next)
    out.push_back(l->session->id);
  return out;
}

size_t LeaseTable::heldBy(SessionId session) const {
  auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.leases.size();
}

void LeaseTable::grant(SessionId id, InodeId ino, LeaseMode mode, uint64_t serial) {
  CAIRN_ASSERT(mode != LeaseMode::kNone, "what is granted is something");
  const bool conflict =
      othersHoldMore(ino, id, mode == LeaseMode::kWrite ? LeaseMode::kNone : LeaseMode::kRead);
  CAIRN_ASSERT(!conflict, "one writer, or readers");
  Session& session = sessions_[id];
  session.id = id;
  auto [it, isNew] = session.leases.try_emplace(ino);
  Lease& lease = it->second;
  if (isNew) {
    Lease*& newest = byInode_[ino];
    lease.session = &session;
    lease.next = newest;
    if (newest != nullptr) newest->previous = &lease;
    newest = &lease;
    ++size_;
  } else if (lease.keep < lease.mode) {
    answered(session, ino);
  }
  lease.mode = lease.keep = mode;
  lease.serial = serial;
}

std::vector<Recall> LeaseTable::recall(InodeId ino, SessionId except, LeaseMode keep,
                                       TimePoint now) {
  std::vector<Recall> out;
  auto it = byInode_.find(ino);
  if (it == byInode_.end()) return out;
  for (Lease* lease = it->second; lease != nullptr; lease = lease->next) {
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
      answered(*lease->session, ino);
      lease->keep = lease->mode;
    } else if (out.less) {
      owed->second = now;  // the answer to the first of two recalls; the second has its own time
    }
  }
  if (!out.less) return out;
  if (keep == LeaseMode::kNone) {
    remove(*lease->session, ino);
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
  for (const auto& [ino, lease] : it->second.leases)
    if (lease.serial < serial) out.push_back(ino);
  for (InodeId ino : out) remove(it->second, ino);
  return out;
}

std::vector<InodeId> LeaseTable::dropSession(SessionId session) {
  auto out = dropOlder(session, UINT64_MAX);
  sessions_.erase(session);
  return out;
}

bool LeaseTable::dropInode(InodeId ino) {
  bool any = false;
  for (auto it = byInode_.find(ino); it != byInode_.end(); it = byInode_.find(ino)) {
    remove(*it->second->session, ino);
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
void LeaseTable::answered(Session& session, InodeId ino) {
  session.owed.erase(ino);
  if (session.owed.empty()) debtors_.erase(session.id);
}

void LeaseTable::remove(Session& session, InodeId ino) {
  auto it = session.leases.find(ino);
  Lease& lease = it->second;
  if (lease.keep < lease.mode) answered(session, ino);
  if (lease.next != nullptr) lease.next->previous = lease.previous;
  if (lease.previous != nullptr) {
    lease.previous->next = lease.next;
  } else if (lease.next != nullptr) {
    byInode_[ino] = lease.next;
  } else {
    byInode_.erase(ino);
  }
  session.leases.erase(it);
  --size_;
}

}  // namespace cairn::mds
