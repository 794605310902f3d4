#include "mds/server/caller.h"

#include <string>

namespace cairn::mds {

void Caller::leave() {
  gone_ = true;
  for (Wait* wait : waits_) wait->wake();
}

Result<void> Caller::mayWait() const {
  if (gone_) return fail(Errc::kUnavailable, "the connection is gone");
  if (waits_.size() < kMaxWaits) return {};
  return fail(Errc::kBusyTryLater, std::to_string(kMaxWaits) +
                                       " requests of this client already wait for what others do");
}

void Wait::wake() {
  if (!handle_ || posted_) return;
  posted_ = true;
  reactor_.post(handle_);
}

void Wait::await_suspend(std::coroutine_handle<> h) {
  CAIRN_ASSERT(!handle_, "one coroutine waits");
  handle_ = h;
  position_ = caller_.waits_.insert(caller_.waits_.end(), this);
}

void Wait::await_resume() {
  if (!handle_) return;  // it was not suspended
  caller_.waits_.erase(position_);
  handle_ = {};
  posted_ = false;
}

}  // namespace cairn::mds
