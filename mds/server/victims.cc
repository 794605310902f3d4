#include "mds/server/victims.h"

namespace cairn::mds {

NameLocks::~NameLocks() {
  CAIRN_ASSERT(held_.empty(), "name locks outlive their holders");
}

std::string NameLocks::key(InodeId parent, std::string_view name) {
  std::string k(sizeof(parent.value), '\0');
  for (size_t i = 0; i < sizeof(parent.value); ++i)
    k[i] = static_cast<char>(parent.value >> (8 * i));
  k += name;
  return k;
}

Task<Result<NameLocks::Guard>> NameLocks::lock(std::string key, Caller& caller) {
  auto [it, free] = held_.try_emplace(key);
  if (!free) {
    CO_TRY(caller.mayWait());
    // References into an unordered_map stay; the entry lives while anyone holds or waits.
    std::deque<Waiter*>& waiters = it->second;
    Waiter self{{reactor_, caller}};
    waiters.push_back(&self);
    while (!self.holds && !caller.gone()) co_await self.wait;
    if (!self.holds) {
      std::erase(waiters, &self);
      co_return fail(caller.mayWait().error());
    }
  }
  co_return Guard(this, std::move(key));
}

void NameLocks::release(const std::string& key) {
  auto it = held_.find(key);
  CAIRN_ASSERT(it != held_.end(), "a name is unlocked by its holder");
  if (it->second.empty()) {
    held_.erase(it);
    return;
  }
  Waiter* next = it->second.front();  // it holds the name from now on
  it->second.pop_front();
  next->holds = true;
  next->wait.wake();
}

RemovalGate::Guard RemovalGate::enter(InodeId ino) {
  ++removing_[ino];
  return {this, ino};
}

Task<void> RemovalGate::passed(InodeId ino) {
  while (removing_.contains(ino)) {
    done_.reset();
    co_await done_.wait();
  }
}

void RemovalGate::leave(InodeId ino) {
  auto it = removing_.find(ino);
  CAIRN_ASSERT(it != removing_.end(), "a gate is left once");
  if (--it->second == 0) removing_.erase(it);
  done_.set();
}

}  // namespace cairn::mds
