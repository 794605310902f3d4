// This mount's file locks (common/schema/LOCKS.md). The MDS decides each of them; kept here is what
// it has granted, for the reclaim, and what was asked and is not settled. One reactor thread.
//
// Invariant, at every reclaim: the table holds no more than the MDS may still count as ours. What
// is asked changes the table when it is answered, in the order of the serials; a reclaim in between
// first takes out of the table what an unanswered request may have set free (`weaken`).
#pragma once

#include <compare>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client/core/file.h"
#include "client/core/held_lock.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class FileLocks {
 public:
  // All outlive it. Nothing runs here when it is destroyed.
  FileLocks(Env& env, MdsOps& mds, Event& stop)
      : env_(env), mds_(mds), stop_(stop), settled_(env.reactor), closed_(env.reactor) {}
  FileLocks(const FileLocks&) = delete;
  FileLocks& operator=(const FileLocks&) = delete;

  // See Filesystem.
  Task<Result<void>> lock(std::shared_ptr<Handle> h, LockRequest what,
                          std::shared_ptr<LockWait> wait);
  Task<void> unlockRanges(InodeId ino, uint64_t owner);
  // Nobody has the handle any more: what was locked through it goes. Range locks that are left by
  // now are of open file descriptions: those of processes went when they closed it.
  Task<void> released(std::shared_ptr<Handle> h);
  // Until the MDS knows of those two what was begun of them on this inode.
  Task<void> closesTold(InodeId ino);
  // Whether the same owner has locked through another handle. The kernel gives the number of an
  // open file that has ended to the next one: unless it is a process with several descriptors,
  // the release of that handle is still to come, and must come first.
  [[nodiscard]] bool tookThroughAnother(const Handle& h, const LockRequest& what) const;

  // ---- Hooks of the session ----
  // A new connection begins: what is held; whoever waits will ask again.
  std::vector<HeldLock> reclaim();
  void granted(uint64_t id, uint64_t serial);
  // The locks are gone; the handles through which they were taken are broken.
  void sessionLost();
  // `stop` is set.
  void wake();

 private:
  struct Key {
    InodeId ino;
    LockSpace space = LockSpace::kRange;
    uint64_t owner = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Owner {
    LockRanges ranges;
    std::vector<std::weak_ptr<Handle>> through;
  };
  // A request, until it is settled.
  struct Ask {
    Ask(const Key& k, const LockPiece& p, std::shared_ptr<Handle> h = {},
        std::shared_ptr<LockWait> w = {})
        : key(k), piece(p), handle(std::move(h)), wait(std::move(w)) {}
    const Key key;
    const LockPiece piece;
    const std::shared_ptr<Handle> handle;  // none: an unlock on somebody's behalf
    const std::shared_ptr<LockWait> wait;
    uint64_t id = 0;                // under which the MDS knows the wait
    bool waiting = false;           // the MDS has said so
    bool again = false;             // the wait ended with its connection
    bool taken = false;             // it is in the table
    bool over = false;              // answered; what follows from that is under way
    bool ownerGone = false;         // an unlock: what the owner asked for before is not to be done
    bool orphaned = false;          // interrupted, and its owner is gone: nobody may have it
    std::optional<uint64_t> grant;  // the serial of the push
    std::vector<LockPiece> weakened;  // what it took out of the table at a reclaim
  };
  using Asks = std::list<Ask*>;

  // One of closesTold()'s, while it lives.
  class Closing {
   public:
    Closing(FileLocks& locks, InodeId ino) : locks_(locks), at_(ino, ++locks.lastClosing_) {
      locks_.closings_.insert(at_);
    }
    ~Closing() {
      locks_.closings_.erase(at_);
      locks_.closed_.fire();
    }
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;

   private:
    FileLocks& locks_;
    const std::pair<InodeId, uint64_t> at_;
  };

  Task<Result<void>> settle(Ask& ask);
  // nullopt: it is to be asked again.
  Task<std::optional<Result<void>>> awaitGrant(Ask& ask);
  Task<Result<void>> run(Ask& ask);
  Task<Result<void>> runNow(Ask& ask);
  Task<void> restore(const Ask& ask);
  Task<void> unlockAll(Key key, bool ownerGone);
  uint64_t begin(Ask& ask);
  void take(Ask& ask);
  void takeEarlier(const Key& key, uint64_t serial);
  void dropOther(const Ask& ask);
  void weaken(Ask& ask);
  void lose(const Key& key);
  [[nodiscard]] bool weakens(const Ask& ask) const;
  [[nodiscard]] bool persists(const Ask& ask) const;
  [[nodiscard]] bool nothingThere(const Key& key, const LockPiece& piece) const;
  // Nobody waits for it.
  [[nodiscard]] static bool abandoned(const Ask& ask) { return ask.wait && ask.wait->interrupted_; }
  // And it needs not be done.
  [[nodiscard]] static bool interrupted(const Ask& ask) {
    return abandoned(ask) && ask.piece.type != LockType::kNone;
  }

  Env& env_;
  MdsOps& mds_;
  Event& stop_;
  std::map<Key, Owner> held_;
  Asks asks_;                                 // in order of arrival
  Pulse settled_;                             // one of them
  std::unordered_map<uint64_t, Ask*> waits_;  // of asks_, by id
  uint64_t lastId_ = 0;
  std::set<std::pair<InodeId, uint64_t>> closings_;  // by inode, in the order in which they began
  uint64_t lastClosing_ = 0;
  Pulse closed_;
};

}  // namespace cairn::client
