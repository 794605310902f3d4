// Keeps what a removal was told about its victim true until it is applied. One reactor thread.
//
// A remove or rename carries the sessions that have its victim open, as known when it is proposed;
// it is applied a little later. Two things must not change in between: which inode the name stands
// for (NameLocks: commands that bind or unbind one name go one after the other), and who may hold
// that inode (RemovalGate: opening it waits). Names and inodes that nobody removes wait for
// nothing.
//
// Names are held while others give back leases, so waiting for one ends with its caller. Inside the
// gate nothing is waited for but the log: it is passed soon.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "common/base/ids.h"
#include "common/reactor/sync.h"
#include "mds/server/caller.h"

namespace cairn::mds {

class NameLocks {
 public:
  explicit NameLocks(Reactor& reactor) : reactor_(reactor) {}
  ~NameLocks();
  NameLocks(const NameLocks&) = delete;
  NameLocks& operator=(const NameLocks&) = delete;

  class Guard {
   public:
    Guard() = default;
    Guard(NameLocks* locks, std::string key) : locks_(locks), key_(std::move(key)) {}
    Guard(Guard&& o) noexcept : locks_(std::exchange(o.locks_, nullptr)), key_(std::move(o.key_)) {}
    Guard& operator=(Guard&& o) noexcept {
      unlock();
      locks_ = std::exchange(o.locks_, nullptr);
      key_ = std::move(o.key_);
      return *this;
    }
    ~Guard() { unlock(); }
    void unlock() {
      if (auto* l = std::exchange(locks_, nullptr)) l->release(key_);
    }

   private:
    NameLocks* locks_ = nullptr;
    std::string key_;
  };

  // Names in a row, in order of arrival. Whoever locks two does so in the order of their keys.
  // kUnavailable, kBusyTryLater: see Caller.
  static std::string key(InodeId parent, std::string_view name);
  Task<Result<Guard>> lock(std::string key, Caller& caller);
  [[nodiscard]] size_t held() const { return held_.size(); }

 private:
  struct Waiter {
    Wait wait;
    bool holds = false;  // the name was handed to it
  };
  void release(const std::string& key);
  Reactor& reactor_;
  std::unordered_map<std::string, std::deque<Waiter*>> held_;  // with who waits
};

class RemovalGate {
 public:
  explicit RemovalGate(Reactor& reactor) : done_(reactor) {}

  // While it lives, the inode is not opened.
  class Guard {
   public:
    Guard() = default;
    Guard(RemovalGate* gate, InodeId ino) : gate_(gate), ino_(ino) {}
    Guard(Guard&& o) noexcept : gate_(std::exchange(o.gate_, nullptr)), ino_(o.ino_) {}
    Guard& operator=(Guard&& o) noexcept {
      leave();
      gate_ = std::exchange(o.gate_, nullptr);
      ino_ = o.ino_;
      return *this;
    }
    ~Guard() { leave(); }

   private:
    void leave() {
      if (auto* g = std::exchange(gate_, nullptr)) g->leave(ino_);
    }
    RemovalGate* gate_ = nullptr;
    InodeId ino_;
  };
  Guard enter(InodeId ino);
  // Returns when no removal of the inode is under way.
  Task<void> passed(InodeId ino);

 private:
  void leave(InodeId ino);
  std::unordered_map<InodeId, size_t> removing_;
  Event done_;
};

}  // namespace cairn::mds
