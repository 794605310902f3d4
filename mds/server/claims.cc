#include "mds/server/claims.h"

#include "common/base/assert.h"

namespace cairn::mds {
namespace {

// Of some sessions: none, one, or several.
class Who {
 public:
  void add(SessionId session) {
    several_ = several_ || (any_ && one_ != session);
    one_ = session;
    any_ = true;
  }
  [[nodiscard]] bool nobodyBut(SessionId session) const {
    return !any_ || (!several_ && one_ == session);
  }
  [[nodiscard]] bool several() const { return several_; }

 private:
  SessionId one_;
  bool any_ = false, several_ = false;
};

// What stands before a place in a queue.
class Before {
 public:
  [[nodiscard]] bool admits(const Claims::Entry& e) const {
    const bool change = e.kind == ClaimKind::kChange;
    return (change ? acquirers_ : all_).nobodyBut(e.session);
  }
  // Whether nothing at all can be admitted from here on.
  [[nodiscard]] bool closed() const { return acquirers_.several(); }
  void add(const Claims::Entry& e) {
    all_.add(e.session);
    if (e.kind != ClaimKind::kChange) acquirers_.add(e.session);
  }

 private:
  Who all_, acquirers_;
};

}  // namespace

Claims::~Claims() {
  CAIRN_ASSERT(queues_.empty(), "claims outlive their inodes' queues");
}

void Claims::add(Entry& entry) {
  Queue& queue = queues_[entry.ino];
  Before before;
  for (const Entry* e = queue.first; e != nullptr && !before.closed(); e = e->next) before.add(*e);
  entry.admitted = before.admits(entry);
  entry.previous = queue.last;
  entry.next = nullptr;
  (queue.last != nullptr ? queue.last->next : queue.first) = &entry;
  queue.last = &entry;
  ++size_;
}

void Claims::remove(Entry& entry, const std::function<void(Entry&)>& admit) {
  auto it = queues_.find(entry.ino);
  CAIRN_ASSERT(it != queues_.end(), "a claim is removed once");
  Queue& queue = it->second;
  (entry.previous != nullptr ? entry.previous->next : queue.first) = entry.next;
  (entry.next != nullptr ? entry.next->previous : queue.last) = entry.previous;
  --size_;
  if (queue.first == nullptr) {
    queues_.erase(it);
    return;
  }
  Before before;
  for (Entry* e = queue.first; e != nullptr && !before.closed(); e = e->next) {
    if (!e->admitted && before.admits(*e)) {
      e->admitted = true;
      admit(*e);
    }
    before.add(*e);
  }
}

void Claims::forEachAdmitted(InodeId ino, const std::function<void(Entry&)>& f) const {
  auto it = queues_.find(ino);
  if (it == queues_.end()) return;
  for (Entry* e = it->second.first; e != nullptr; e = e->next)
    if (e->admitted) f(*e);
}

bool Claims::foreign(InodeId ino, SessionId session) const {
  auto it = queues_.find(ino);
  if (it == queues_.end()) return false;
  for (const Entry* e = it->second.first; e != nullptr; e = e->next)
    if (e->session != session) return true;
  return false;
}

}  // namespace cairn::mds
