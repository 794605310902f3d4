// What waits to be done to inodes, in the order in which it came: who may go ahead, who waits for
// whom. A plain data structure, used by leases.h. One reactor thread.
//
// Changes go side by side. Whoever acquires (a lease, or the true attributes of a file that another
// session writes) excludes the claims of other sessions. Nobody overtakes: a claim is admitted when
// everything before it on its inode goes with it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "common/base/ids.h"

namespace cairn::mds {

enum class ClaimKind : uint8_t { kChange, kAcquireRead, kAcquireWrite };

class Claims {
 public:
  // One claim on one inode; owned by who claims, and in no queue when it dies.
  struct Entry {
    InodeId ino;
    SessionId session;
    ClaimKind kind = ClaimKind::kChange;
    bool admitted = false;  // once set, it stays
    Entry *previous = nullptr, *next = nullptr;
    void* owner = nullptr;  // the caller's
  };

  Claims() = default;
  ~Claims();
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  // At the end of its inode's queue; says in `admitted` whether it has to wait.
  void add(Entry& entry);
  // Calls `admit` for each claim that is admitted by this.
  void remove(Entry& entry, const std::function<void(Entry&)>& admit);
  void forEachAdmitted(InodeId ino, const std::function<void(Entry&)>& f) const;
  // Whether another session has a claim on the inode, admitted or not.
  [[nodiscard]] bool foreign(InodeId ino, SessionId session) const;
  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Queue {
    Entry *first = nullptr, *last = nullptr;
  };
  std::unordered_map<InodeId, Queue> queues_;
  size_t size_ = 0;
};

}  // namespace cairn::mds
