// Many writers, one flush: a caller of sync() gets a flush of the file that began after its call,
// shared with all who asked meanwhile. One reactor thread.
#pragma once

#include "common/disk/disk.h"
#include "common/reactor/sync.h"

namespace cairn::osd {

class GroupSync {
 public:
  GroupSync(Reactor& reactor, File& file) : file_(file), done_(reactor) {}

  // Everything that completed before the call is durable when it completes. One failure fails every
  // later call: after a failed fsync the kernel may have dropped the pages.
  Task<Result<void>> sync() {
    const uint64_t mine = started_ + 1;
    while (finished_ < mine && !failed_) {
      if (running_) {
        done_.reset();
        co_await done_.wait();
        continue;
      }
      running_ = true;
      uint64_t round = ++started_;
      auto synced = co_await file_.sync();
      running_ = false;
      if (!synced) failed_ = std::move(synced).error();
      finished_ = round;
      done_.set();
    }
    if (failed_) co_return fail(*failed_);
    co_return Result<void>();
  }

 private:
  File& file_;
  Event done_;
  uint64_t started_ = 0, finished_ = 0;  // rounds
  bool running_ = false;
  std::optional<Error> failed_;
};

}  // namespace cairn::osd
