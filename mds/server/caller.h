// On whose behalf a request waits, and how that wait ends. One reactor thread.
//
// A request may wait for what other clients do: for a name, for a lease that they hold. When its
// connection is gone, nobody gets its answer, and it must not wait any longer: the client's next
// connection is welcomed only after the requests of this one have ended (common/wire/PROTOCOL.md),
// and what others wait for may be what this very client gives back over its next connection.
#pragma once

#include <coroutine>
#include <list>

#include "common/base/assert.h"
#include "common/base/result.h"
#include "common/reactor/reactor.h"

namespace cairn::mds {

class Wait;

// One connection. Outlives what waits on its behalf.
class Caller {
 public:
  Caller() = default;
  ~Caller() { CAIRN_ASSERT(waits_.empty(), "a caller outlives what waits for it"); }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  // The connection is gone: whatever waits is woken, and nothing waits any more.
  void leave();
  // kUnavailable: it is gone. kBusyTryLater: it waits for too much already.
  [[nodiscard]] Result<void> mayWait() const;
  [[nodiscard]] bool gone() const { return gone_; }

  // Far fewer than a connection may have requests under way (RpcLimits::maxInFlight): there is
  // always room for those that others wait for, and they wait for nobody.
  static constexpr size_t kMaxWaits = 1024;

 private:
  friend class Wait;
  std::list<Wait*> waits_;
  bool gone_ = false;
};

// `co_await wait` until wake() or until the caller is gone, whichever comes first. Wakes may be
// spurious: whoever waits looks again. May be awaited again and again, by one coroutine.
class Wait {
 public:
  Wait(Reactor& reactor, Caller& caller) : reactor_(reactor), caller_(caller) {}
  ~Wait() { CAIRN_ASSERT(!handle_, "a wait outlives its waiter"); }
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

  // Resumes the waiter, if there is one, from the loop.
  void wake();

  [[nodiscard]] bool await_ready() const { return caller_.gone_; }
  void await_suspend(std::coroutine_handle<> h);
  void await_resume();

 private:
  Reactor& reactor_;
  Caller& caller_;
  std::coroutine_handle<> handle_;
  std::list<Wait*>::iterator position_;
  bool posted_ = false;
};

}  // namespace cairn::mds
