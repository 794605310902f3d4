#include "mds/server/leases.h"

#include <algorithm>

namespace cairn::mds {
namespace {

schema::Lease wireMode(LeaseMode mode) {
  switch (mode) {
    case LeaseMode::kNone:
      return schema::Lease::NONE;
    case LeaseMode::kRead:
      return schema::Lease::READ;
    case LeaseMode::kWrite:
      return schema::Lease::WRITE;
  }
  return schema::Lease::NONE;
}

// What others may keep while a session holds `mode`.
LeaseMode besides(LeaseMode mode) {
  return mode == LeaseMode::kWrite ? LeaseMode::kNone : LeaseMode::kRead;
}

}  // namespace

Leases::Leases(Env& env, const Sessions& sessions, Push push)
    : reactor_(env.reactor),
      sessions_(sessions),
      push_(std::move(push)),
      recalls_(env.metrics.counter("mds_recalls", "Leases that clients were asked to give back")) {}

void Leases::start(TimePoint now, uint64_t serial) {
  started_ = now;
  nextSerial_ = std::max(nextSerial_, serial);
}

// ---- Claim ----

Leases::Claim::Claim(Leases& leases, Caller& caller, SessionId session, ClaimKind kind,
                     std::initializer_list<InodeId> inodes)
    : leases_(leases),
      caller_(caller),
      session_(session),
      kind_(kind),
      wait_(leases.reactor_, caller) {
  CAIRN_ASSERT(inodes.size() <= kMaxInodes, "a request claims few inodes");
  for (InodeId ino : inodes) {
    const auto end = entries_.begin() + static_cast<ptrdiff_t>(count_);
    if (!ino || std::any_of(entries_.begin(), end, [&](auto& e) { return e.ino == ino; })) continue;
    Claims::Entry& entry = entries_[count_++];
    entry.ino = ino;
    entry.session = session;
    entry.kind = kind;
    entry.owner = this;
    leases_.claims_.add(entry);
  }
}

Leases::Claim::~Claim() {
  for (size_t i = 0; i < count_; ++i)
    leases_.claims_.remove(entries_[i], [](Claims::Entry& e) { claimOf(e).wait_.wake(); });
}

bool Leases::Claim::ready() {
  if (leases_.sessions_.awaitsOthers(session_)) return false;
  bool free = true;
  for (size_t i = 0; i < count_; ++i) {
    const Claims::Entry& entry = entries_[i];
    if (!entry.admitted) {
      free = false;
    } else if (leases_.table_.othersHoldMore(entry.ino, session_, othersKeep())) {
      free = false;
      leases_.push(
          leases_.table_.recall(entry.ino, session_, othersKeep(), leases_.reactor_.now()));
    }
  }
  return free;
}

Task<Result<void>> Leases::Claim::wait() {
  while (!ready()) {
    CO_TRY(caller_.mayWait());
    const bool unsettled = leases_.sessions_.awaitsOthers(session_);
    std::list<Claim*>::iterator at;
    if (unsettled) at = leases_.unsettled_.insert(leases_.unsettled_.end(), this);
    co_await wait_;
    if (unsettled) leases_.unsettled_.erase(at);
  }
  co_return Result<void>{};
}

bool Leases::Claim::acquired(InodeId ino) const {
  if (kind_ == ClaimKind::kChange || count_ != 1 || entries_[0].ino != ino) return false;
  return entries_[0].admitted && !leases_.table_.othersHoldMore(ino, session_, othersKeep()) &&
         !leases_.sessions_.awaitsOthers(session_);
}

bool Leases::behind(SessionId session, const Inode& inode) const {
  if (!inode.isRegular()) return false;
  return table_.othersHoldMore(inode.ino, session, LeaseMode::kRead) ||
         sessions_.awaitsOthers(session);
}

// Those whom nobody's lease on this inode keeps waiting any longer: a return of one of many holders
// wakes nobody.
void Leases::wake(InodeId ino) {
  claims_.forEachAdmitted(ino, [this, ino](Claims::Entry& e) {
    Claim& claim = claimOf(e);
    if (!table_.othersHoldMore(ino, claim.session_, claim.othersKeep())) claim.wait_.wake();
  });
}

void Leases::push(const std::vector<Recall>& recalls) {
  for (const Recall& recall : recalls) {
    ++recalls_;
    push_(recall);
  }
}

// ---- Grants ----

LeaseMode Leases::Grants::grant(InodeId ino, LeaseMode wanted, const Claim* claim) {
  Leases& l = leases_;
  // While a session has not said what it holds, nobody knows what would be in its way.
  if (!l.sessions_.takesLeases(session_) || l.sessions_.unreclaimed() != 0) return LeaseMode::kNone;
  const LeaseMode holds = l.table_.held(session_, ino);
  LeaseMode mode = std::max(holds, wanted);
  if (claim == nullptr || !claim->acquired(ino)) {
    if (l.claims_.foreign(ino, session_)) return LeaseMode::kNone;
    if (holds == LeaseMode::kNone && l.table_.heldBy(session_) >= kMaxLeasesPerSession)
      return LeaseMode::kNone;
    while (mode > holds && l.table_.othersHoldMore(ino, session_, besides(mode)))
      mode = static_cast<LeaseMode>(static_cast<uint8_t>(mode) - 1);
    if (mode == LeaseMode::kNone) return mode;
  }
  if (serial_ == 0) serial_ = l.nextSerial_++;
  l.table_.grant(session_, ino, mode, serial_);
  return mode;
}

void Leases::Grants::attr(const Inode& inode, schema::Attr::Builder attr, LeaseMode wanted,
                          const Claim* claim) {
  if (!inode.isRegular()) wanted = std::min(wanted, LeaseMode::kRead);
  inode.write(attr);
  if (!leases_.sessions_.takesLeases(session_)) return;
  attr.setLease(wireMode(grant(inode.ino, wanted, claim)));
  if (leases_.table_.held(session_, inode.ino) == LeaseMode::kWrite)
    attr.setTailUnclean(inode.tailUncleanFor(session_));
}

bool Leases::Grants::directory(InodeId dir) {
  return grant(dir, LeaseMode::kRead, nullptr) != LeaseMode::kNone;
}

// ---- What sessions say ----

void Leases::giveBack(SessionId session, schema::LeaseReturn::Reader back, TimePoint now) {
  const InodeId ino{back.getIno()};
  const auto given = table_.giveBack(session, ino, back.getSerial(),
                                     back.getKeepRead() ? LeaseMode::kRead : LeaseMode::kNone, now);
  if (given.recalledAt) answers_.record(now - *given.recalledAt);
  if (given.less) wake(ino);
}

uint64_t Leases::reclaim(SessionId session, schema::Reclaim::Reader reclaim, uint64_t serial) {
  if (serial == 0) serial = nextSerial_++;
  if (!sessions_.takesLeases(session)) return serial;
  const bool isNew = sessions_.isUnreclaimed(session);
  auto take = [&](uint64_t id, LeaseMode mode) {
    const InodeId ino{id};
    if (!ino) return;
    if (table_.held(session, ino) != LeaseMode::kNone) {
      // It may have given something back over a connection that broke. It never has more than we
      // know of.
      if (table_.renew(session, ino, mode, serial, reactor_.now())) wake(ino);
      return;
    }
    const bool free = !table_.othersHoldMore(ino, session, besides(mode)) &&
                      (isNew || !claims_.foreign(ino, session));
    if (free)
      table_.grant(session, ino, mode, serial);
    else
      push_({session, ino, serial, LeaseMode::kNone});
  };
  for (uint64_t ino : reclaim.getWrite()) take(ino, LeaseMode::kWrite);
  for (uint64_t ino : reclaim.getRead()) take(ino, LeaseMode::kRead);
  return serial;
}

std::vector<Recall> Leases::reclaimed(SessionId session, uint64_t serial) {
  wake(table_.dropOlder(session, serial));
  for (Claim* claim : unsettled_) claim->wait_.wake();
  return table_.owedBy(session);
}

void Leases::drop(SessionId session) {
  wake(table_.dropSession(session));
  for (Claim* claim : unsettled_) claim->wait_.wake();
}

void Leases::dropInode(InodeId ino) {
  if (table_.dropInode(ino)) wake(ino);
}

std::vector<SessionId> Leases::overdue(TimePoint now, Duration silence, Duration patience,
                                       TimePoint ableSince) const {
  std::vector<SessionId> out;
  auto judge = [&](SessionId id, TimePoint since) {
    const auto* session = sessions_.find(id);
    if (session != nullptr &&
        (now - session->heard > silence || now - std::max(since, ableSince) > patience))
      out.push_back(id);
  };
  for (const auto& debtor : table_.debtors()) judge(debtor.session, debtor.since);
  for (SessionId id : sessions_.unreclaimedSessions())
    if (std::any_of(unsettled_.begin(), unsettled_.end(),
                    [&](const Claim* claim) { return claim->session_ != id; }))
      judge(id, started_);
  return out;
}

void Leases::forgive(Duration gap) {
  started_ += gap;
  table_.forgive(gap);
}

}  // namespace cairn::mds
