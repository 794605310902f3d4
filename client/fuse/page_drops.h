// Drops what the kernel has of files in its pages. The kernel does so page by page, and waits for
// each that a request has locked. A request that waits for a lease may wait for just this drop, so
// nothing here waits for it:
//   - A page that such a request fills has no content yet, and gets none before its lease: it is
//     left out.
//   - What is being written may lie in a page that has content, and the kernel may lock more than
//     it writes. While a write waits, drops go on, but nobody waits for them. Who must know that
//     all is dropped lets writes pass (see LeaseTable).
// One reactor thread; `scope` is joined before destruction.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "client/core/filesystem.h"
#include "client/core/pulse.h"

namespace cairn::client {

class PageDrops {
 public:
  using Waits = std::function<std::vector<Filesystem::PageWait>(InodeId)>;
  // Completes when the kernel has dropped the pages of [from, to); UINT64_MAX: to the end.
  using Invalidate = std::function<Task<void>(InodeId, uint64_t from, uint64_t to)>;
  PageDrops(Reactor& reactor, TaskScope& scope, Waits waits, Invalidate invalidate)
      : scope_(scope),
        waits_(std::move(waits)),
        invalidate_(std::move(invalidate)),
        changed_(reactor) {}

  // Drops all pages that the file has now. See above for what it does not wait for.
  Task<void> drop(InodeId ino);
  // Drops of the file are under way, waited for or not; from the moment that drop() is called, not
  // only started.
  [[nodiscard]] bool underWay(InodeId ino) const { return underWay_.contains(ino); }
  // Until none is.
  Task<void> ended(InodeId ino);
  // A request has begun to wait.
  void pageWait() { changed_.fire(); }

 private:
  struct Piece {
    uint64_t from = 0, to = 0;
    bool dropped = false;
  };
  using Pieces = std::vector<std::shared_ptr<Piece>>;
  static constexpr uint64_t kEnd = UINT64_MAX;

  Task<void> dropAround(InodeId ino);
  // Starts to drop [from, to) but for `waits`.
  void start(InodeId ino, uint64_t from, uint64_t to,
             const std::vector<Filesystem::PageWait>& waits, Pieces& pieces);
  Task<void> dropPiece(InodeId ino, std::shared_ptr<Piece> piece);
  void begin(InodeId ino) { ++underWay_[ino]; }
  void end(InodeId ino);

  TaskScope& scope_;
  const Waits waits_;
  const Invalidate invalidate_;
  std::unordered_map<InodeId, size_t> underWay_;
  Pulse changed_;  // a piece was dropped, a request waits
};

}  // namespace cairn::client
