// A read or write of the cache above that keeps pages locked until it is answered, from its start
// to its end. Whoever drops the file's pages goes around it while it waits for a lease, and also
// when the leases have lapsed since it began: then it may be a long time until a server answers,
// and what it leaves in its pages is not true any more. A read looks again before it fills its
// pages; what a write leaves there is dropped when it has ended.
//
// What a write brings can be read in its pages from the start, on this machine. It is not to be
// while the write waits for its lease: another mount may still read, and say, what was there before
// (File::writesAdmitted). And what it has put there may be dropped meanwhile, and read anew as it
// was before: hence the pages of a write that had to wait are dropped when it has ended.
#pragma once

#include "client/core/file.h"

namespace cairn::client {

class File::PageRequest {
 public:
  // Without pages it is none.
  PageRequest(File& file, Filesystem::PageWait pages)
      : file_(file), pages_(pages), lapses_(file.core_.leases.lapses()) {
    if (any()) at_ = file.pageRequests_.insert(file.pageRequests_.end(), this);
  }
  ~PageRequest() {
    if (!any()) return;
    file_.pageRequests_.erase(at_);
    Core& core = file_.core_;
    if (!pages_.write || core.stop.isSet()) return;
    if (lapsed())
      core.scope.spawn(core.dropPages(file_));
    else if (waited_ && core.onLateWrite)
      core.onLateWrite(file_.ino_, pages_);
  }
  PageRequest(const PageRequest&) = delete;
  PageRequest& operator=(const PageRequest&) = delete;

  [[nodiscard]] const Filesystem::PageWait& pages() const { return pages_; }
  [[nodiscard]] bool inTheWay() const { return waits_ || lapsed(); }
  [[nodiscard]] bool isWaitingWrite() const { return waits_ && pages_.write; }
  // Since it began, or began anew.
  [[nodiscard]] bool lapsed() const { return any() && lapses_ != file_.core_.leases.lapses(); }
  void beginAnew() { lapses_ = file_.core_.leases.lapses(); }

  // It waits for a lease. `request` may be null.
  class Waiting {
   public:
    explicit Waiting(PageRequest* request)
        : request_(request != nullptr && request->any() ? request : nullptr) {
      if (request_ == nullptr) return;
      request_->waits_ = request_->waited_ = true;
      request_->file_.pageWaitBegan(request_->pages_.write);
    }
    ~Waiting() {
      if (request_ == nullptr) return;
      request_->waits_ = false;
      request_->file_.admitted_.fire();
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    PageRequest* const request_;
  };

 private:
  [[nodiscard]] bool any() const { return pages_.from != pages_.to; }

  File& file_;
  const Filesystem::PageWait pages_;
  uint64_t lapses_;  // LeaseTable::lapses() when it began
  bool waits_ = false, waited_ = false;
  std::list<PageRequest*>::iterator at_;
};

}  // namespace cairn::client
