// Asks sessions whether what they hold on an inode still stands, before anybody is refused for it
// (common/schema/LOCKS.md): a close may have been heard by the kernel and not yet by us. One
// reactor thread.
//
// Of a session and an inode one probe is under way at a time, whatever the number of requests that
// need one. The answer to a probe serves those that came before it was sent; the others need the
// next one, which is sent as soon as this one is answered.
//
// A session that does not answer in time is not waited for until it does.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/units.h"
#include "mds/server/caller.h"

namespace cairn::mds {

struct LockProbe {
  SessionId session;
  InodeId ino;
  uint64_t serial = 0;
};

class LockProbes {
 public:
  // Tells the session, if it is connected.
  using Push = std::function<void(const LockProbe&)>;
  LockProbes(Reactor& reactor, Push push) : reactor_(reactor), push_(std::move(push)) {}

  // The probe that is to be awaited: one that is sent after this call.
  LockProbe ask(SessionId session, InodeId ino);
  // It was answered, will not be in time, or the session is gone.
  [[nodiscard]] bool settled(const LockProbe& probe) const;
  // Woken whenever some probe may have been settled.
  class Waiter {
   public:
    Waiter(LockProbes& probes, Wait& wait) : probes_(probes) {
      at_ = probes_.waiters_.insert(probes_.waiters_.end(), &wait);
    }
    ~Waiter() { probes_.waiters_.erase(at_); }
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

   private:
    LockProbes& probes_;
    std::list<Wait*>::iterator at_;
  };

  // All who wait look again.
  void wake();
  void answered(const LockProbe& probe);
  // Over a new connection: what was not answered is sent again.
  void resend(SessionId session);
  void drop(SessionId session);
  // Whether an answer of the session is waited for.
  [[nodiscard]] bool awaits(SessionId session) const;
  // Those sent before this are not waited for any longer, but for sessions that end now.
  void giveUp(TimePoint sentBefore, const std::vector<SessionId>& ending);
  // We were not running for so long.
  void forgive(Duration gap);

 private:
  using Key = std::pair<SessionId, InodeId>;
  struct State {
    uint64_t serial = 0;  // of the one under way
    uint64_t next = 0;    // to be sent when that is answered; 0: none
    TimePoint sentAt;
    bool late = false;
  };
  void send(const Key& key, State& state, uint64_t serial);

  Reactor& reactor_;
  const Push push_;
  std::map<Key, State> unanswered_;
  std::list<Wait*> waiters_;
  uint64_t lastSerial_ = 0;
};

}  // namespace cairn::mds
