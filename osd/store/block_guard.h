// Keeps freed blocks from being used again while an operation that was in flight when they were
// freed may still touch them: a reader that would see another chunk's bytes, a deferred write that
// would overwrite them. One reactor thread.
#pragma once

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "common/reactor/sync.h"
#include "osd/store/allocator.h"

namespace cairn::osd {

class BlockGuard {
 public:
  BlockGuard(Reactor& reactor, Allocator& allocator) : allocator_(allocator), released_(reactor) {}

  // Held by whoever has I/O on data blocks in flight.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& o) noexcept : guard_(std::exchange(o.guard_, nullptr)), epoch_(o.epoch_) {}
    Ticket& operator=(Ticket&& o) noexcept {
      Ticket old(std::move(*this));
      guard_ = std::exchange(o.guard_, nullptr);
      epoch_ = o.epoch_;
      return *this;
    }
    ~Ticket() {
      if (guard_) guard_->leave(epoch_);
    }

   private:
    friend class BlockGuard;
    Ticket(BlockGuard* guard, uint64_t epoch) : guard_(guard), epoch_(epoch) {}
    BlockGuard* guard_ = nullptr;
    uint64_t epoch_ = 0;
  };

  [[nodiscard]] Ticket enter() {
    ++active_[epoch_];
    return {this, epoch_};
  }

  // Gives the runs to the allocator once every ticket that is out now has come back.
  void retire(const std::vector<PhysRun>& runs) {
    if (runs.empty()) return;
    for (const PhysRun& run : runs) retiredBlocks_ += run.count;
    retired_.emplace_back(epoch_++, runs);
    release();
  }

  [[nodiscard]] uint64_t retiredBlocks() const { return retiredBlocks_; }
  // Until some retired blocks are free; only while there are some.
  Task<void> someReleased() {
    released_.reset();
    co_await released_.wait();
  }

 private:
  void leave(uint64_t epoch) {
    auto it = active_.find(epoch);
    if (--it->second > 0) return;
    active_.erase(it);
    release();
  }
  void release() {
    while (!retired_.empty() &&
           (active_.empty() || retired_.front().first < active_.begin()->first)) {
      for (const PhysRun& run : retired_.front().second) {
        allocator_.add(run);
        retiredBlocks_ -= run.count;
      }
      retired_.pop_front();
      released_.set();
    }
  }

  Allocator& allocator_;
  Event released_;
  uint64_t epoch_ = 0;
  std::map<uint64_t, uint32_t> active_;  // tickets out, by the epoch they were given in
  std::deque<std::pair<uint64_t, std::vector<PhysRun>>> retired_;
  uint64_t retiredBlocks_ = 0;
};

}  // namespace cairn::osd
