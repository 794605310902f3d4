// The leases that this mount holds, and how it gives them up. The contract with the MDS is
// common/schema/LEASES.md. One reactor thread; everything it is given outlives it; `stop` is set
// and the scope joined before destruction.
//
// Operations that rely on a lease run inside a Use. A recalled lease is given up when the last Use
// has ended, what the write lease allowed to be buffered has been written back, and the kernel has
// forgotten what it cached; meanwhile no Use begins, but those that the kernel's forgetting waits
// for (Urgency). Giving up waits for OSDs and for requests that only a lease's holder sends, never
// for another operation's request to the MDS: so it always ends, whoever else is waiting there.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

enum class LeaseMode : uint8_t { kNone, kRead, kWrite };  // a larger one includes the smaller

// What may still begin under a write lease that is being given up, while mapped pages are dropped.
enum class Urgency : uint8_t {
  kCanWait,
  kLocksPages,  // it writes pages which the kernel keeps locked until it is done: the first time
                // that they are dropped
  kHoldsPages,  // as long as it is not done, what was written into mapped pages does not get out: a
                // truncation
  kFromMapping,  // it is just that; also while nothing is heard of the MDS, see Hooks::lapsed
};

struct LeaseReturn {
  InodeId ino;
  uint64_t serial = 0;
  bool keepRead = false;
};

class LeaseTable {
 public:
  struct Hooks {
    // Makes durable what is buffered under the write lease of the inode, and commits it.
    std::function<Task<void>(InodeId)> writeBack;
    // Makes the kernel forget what it knows of the inode; may take a while, but does not wait for
    // operations that wait here. May be empty.
    std::function<Task<void>(InodeId, bool directory)> forget;
    // Whether pages of it may be changed through mappings, of which nobody is told: until they are
    // forgotten, and what was changed is written.
    std::function<bool(InodeId)> mapped;
    // Sends returns until the MDS has them.
    std::function<Task<void>(std::vector<LeaseReturn>)> send;
    // Whether the lease is to be kept, used or not: the inode is open, or something is buffered.
    std::function<bool(InodeId)> keep;
    // Whether what lapsed() begins takes so long that it is to be called at half of its time too.
    std::function<bool()> lapsesEarly;
    // Nothing was heard of the MDS for the time that leases stand without a word. They are still
    // ours when it is heard again, unless the session is not; until then nothing that is cached may
    // be shown. The kernel does not show attributes and names for longer; pages that are mapped it
    // does, until they are dropped. What was written into them comes as Urgency::kFromMapping
    // meanwhile, and is kept with the rest that is buffered. Must not wait.
    std::function<void()> lapsed;
  };
  LeaseTable(Env& env, Event& stop, TaskScope& scope, Hooks hooks);
  LeaseTable(const LeaseTable&) = delete;
  LeaseTable& operator=(const LeaseTable&) = delete;

  class Use {
   public:
    Use() = default;
    Use(LeaseTable* table, InodeId ino) : table_(table), ino_(ino) {}
    Use(Use&& o) noexcept : table_(std::exchange(o.table_, nullptr)), ino_(o.ino_) {}
    Use& operator=(Use&& o) noexcept {
      end();
      table_ = std::exchange(o.table_, nullptr);
      ino_ = o.ino_;
      return *this;
    }
    ~Use() { end(); }
    explicit operator bool() const { return table_ != nullptr; }

   private:
    void end() {
      if (auto* t = std::exchange(table_, nullptr)) t->leave(ino_);
    }
    LeaseTable* table_ = nullptr;
    InodeId ino_;
  };

  // ---- What the MDS says ----
  // In the order of its messages: called by whoever reads a reply, before anything else runs.
  void granted(InodeId ino, LeaseMode mode, uint64_t serial, bool directory);
  void learnBare(InodeId ino, bool bare);
  void recalled(InodeId ino, uint64_t serial, bool toRead);
  // A request that was sent at `sentAt` was answered; what we hold stands for `lease` from then.
  void renewed(TimePoint sentAt, Duration lease);
  // The session has ended: nothing is held any more.
  void sessionLost();

  // ---- For operations ----
  // The mode that stands now, kNone once the session was not renewed in time.
  [[nodiscard]] LeaseMode held(InodeId ino) const;
  // A number that changes whenever the inode comes under a lease again; 0 when it is under none.
  // What was learned under the same number is still true.
  [[nodiscard]] uint64_t since(InodeId ino) const;
  // Changes with since(), and when this client changes the inode (changed()). 0 without a lease.
  [[nodiscard]] uint64_t stamp(InodeId ino) const;
  void changed(InodeId ino);
  // Whether it is known that the inode has no extended attributes, and no access control list.
  // Inside a Use. Changes of other things leave it: the kernel asks before each write(2).
  [[nodiscard]] bool bare(InodeId ino) const;
  // Grows when a session is lost with all its leases.
  [[nodiscard]] uint64_t session() const { return session_; }
  // Grows with it, and before each call of Hooks::lapsed: what an operation found under a lease
  // before is not to be shown without looking again.
  [[nodiscard]] uint64_t lapses() const { return lapses_; }
  // Whether leases stand: the session lives, and the MDS was heard in time.
  [[nodiscard]] bool standing() const { return valid(); }
  // Begins a Use if a lease of at least `mode` stands and is not being given up.
  [[nodiscard]] Use tryUse(InodeId ino, LeaseMode mode, Urgency urgency = Urgency::kCanWait);
  [[nodiscard]] bool givingUp(InodeId ino) const;
  // Until the inode's lease is not being given up any more, or something so urgent may begin.
  Task<void> settled(InodeId ino, Urgency urgency = Urgency::kCanWait);
  // A page was handed out, which a process is about to touch through a mapping. A write lease is
  // kept for a moment then: or two mounts could take the page from each other for ever, before
  // either process has been woken.
  void pageShown(InodeId ino);
  // For how long the kernel may keep what it is told of the inode now. Zero without a lease.
  [[nodiscard]] Duration handOut(InodeId ino);

  // For the reclaim: what is held, by mode.
  [[nodiscard]] std::vector<InodeId> all(LeaseMode mode) const;
  [[nodiscard]] size_t size() const { return entries_.size(); }

  // Returns leases that nobody has used for a while. Runs until `stop`.
  Task<void> returnUnused();
  // Tells when the leases have lapsed, or are about to. Runs until `stop`.
  Task<void> watchTime();
  // `stop` is set.
  void wake() { changed_.fire(); }

 private:
  struct Entry {
    LeaseMode mode = LeaseMode::kNone;
    bool directory = false;
    bool givingUp = false;
    bool toRead = false;              // of the recall that is being answered
    bool dropping = false;            // mapped pages, while the lease is being given up
    Urgency admits{};                 // meanwhile, and what is more urgent
    bool locked = false;              // something that locks pages was admitted
    uint32_t users = 0;               // Uses
    uint64_t serial = 0;              // the largest seen
    uint64_t since = 0;               // see since()
    uint64_t stamp = 0;               // see stamp()
    bool bare = false;                // see bare()
    TimePoint lastUsed{};             // granted, used or handed out
    TimePoint keptUntil{};            // see pageShown()
    std::list<InodeId>::iterator at;  // in order_
  };
  void leave(InodeId ino);
  void touch(Entry& entry);
  void drop(InodeId ino);
  [[nodiscard]] bool admits(const Entry& entry, LeaseMode mode, Urgency urgency) const;
  Task<void> giveUp(InodeId ino);
  Task<void> unused(const Entry& entry);
  Task<void> dropMapped(InodeId ino, Entry& entry);
  // Ends early when the session is lost: then there is nobody to be exact for.
  Task<void> forget(InodeId ino, bool directory);
  Task<void> forgetThenTell(InodeId ino, bool directory, std::shared_ptr<bool> done);
  void lapse();
  void give(LeaseReturn back);
  Task<void> sendReturns();
  [[nodiscard]] bool valid() const { return env_.reactor.now() < validUntil_; }

  Env& env_;
  Event& stop_;
  TaskScope& scope_;
  const Hooks hooks_;
  std::unordered_map<InodeId, Entry> entries_;
  std::list<InodeId> order_;  // of entries, least recently used first
  std::vector<LeaseReturn> returns_;
  bool sending_ = false;
  TimePoint validUntil_{};
  Duration lease_{};
  bool lapsed_ = true;  // and told, or there is nothing to tell
  uint64_t session_ = 0, lapses_ = 0;
  uint64_t lastSince_ = 0;
  Pulse changed_;  // Uses have ended, leases were given up
};

}  // namespace cairn::client
