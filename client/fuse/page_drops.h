// Drops what the kernel has of files in its pages. The kernel does so page by page, and waits for
// each that a request has locked. A request that waits for a lease may wait for just this drop, so
// nothing here waits for it:
//   - A page that such a request fills has no content yet, and gets none before its lease: it is
//     left out.
//   - What is being written is left out too. The kernel may lock more than that, so a drop that
//   does
//     not end while writes wait is not waited for. Who must know that all is dropped lets writes
//     pass (see LeaseTable).
// The walk of a drop through the pages blocks a thread. When it may be stuck, at a page that was
// locked after it had begun, another one begins, around that page; the old one goes no further. So
// there are as many threads as there were such moments, whatever the number of requests.
// One reactor thread; `scope` is joined before destruction.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "client/core/filesystem.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class PageDrops {
 public:
  struct Span {
    uint64_t from = 0, to = 0;  // UINT64_MAX: to the end
  };
  struct Walk {
    std::vector<Span> spans;
    std::atomic<bool> superseded = false;  // it need not begin with another span
    bool ended = false;
  };
  using Waits = std::function<std::vector<Filesystem::PageWait>(InodeId)>;
  // Completes when the kernel has dropped the pages of all spans, or the walk is superseded.
  using Drop = std::function<Task<void>(InodeId, std::shared_ptr<Walk>)>;
  PageDrops(Reactor& reactor, TaskScope& scope, Waits waits, Drop drop)
      : reactor_(reactor),
        scope_(scope),
        waits_(std::move(waits)),
        drop_(std::move(drop)),
        changed_(reactor) {}

  // Drops all pages that the file has now, in that span. See above for what it does not wait for.
  Task<void> drop(InodeId ino, Span span = {0, UINT64_MAX});
  // Drops of the file are under way, waited for or not; from the moment that drop() is called, not
  // only started.
  [[nodiscard]] bool underWay(InodeId ino) const { return underWay_.contains(ino); }
  // Until none is.
  Task<void> ended(InodeId ino);
  // A request has begun to wait.
  void pageWait() { changed_.fire(); }

 private:
  Task<void> dropAround(InodeId ino, Span span);
  std::shared_ptr<Walk> start(InodeId ino, Span span, std::vector<Filesystem::PageWait> waits);
  Task<void> run(InodeId ino, std::shared_ptr<Walk> walk);
  void begin(InodeId ino) { ++underWay_[ino]; }
  void end(InodeId ino);

  Reactor& reactor_;
  TaskScope& scope_;
  const Waits waits_;
  const Drop drop_;
  std::unordered_map<InodeId, size_t> underWay_;
  Pulse changed_;  // a walk has ended, a request waits
};

}  // namespace cairn::client
