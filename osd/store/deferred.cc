#include "osd/store/deferred.h"

namespace cairn::osd {

namespace {
constexpr uint64_t kConcurrentWrites = 16;
constexpr size_t kMaxRunBlocks = kMiB / kBlockSize;
}  // namespace

struct DeferredWrites::Run {
  PhysBlock start = 0;
  std::vector<Buffer> data;
  std::vector<Lsn> lsns;
  BlockGuard::Ticket ticket;  // taken with the entries: a place freed later waits for this write
};

Task<Result<void>> DeferredWrites::flush() {
  auto lock = co_await lock_.lock();
  Semaphore slots(env_.reactor, kConcurrentWrites);
  std::optional<Error> error;
  TaskScope writes(env_.reactor);
  PhysBlock next = 0;
  while (!error) {
    co_await slots.acquire();
    // The map may have changed while we waited: go on from the address, not from an iterator.
    auto it = entries_.lower_bound(next);
    if (it == entries_.end() || error) {
      slots.release();
      break;
    }
    Run run;
    run.start = it->first;
    for (; it != entries_.end() && it->first == run.start + run.data.size() &&
           run.data.size() < kMaxRunBlocks;
         ++it) {
      run.data.push_back(it->second.data);
      run.lsns.push_back(it->second.lsn);
    }
    next = run.start + run.data.size();
    run.ticket = guard_.enter();
    writes.spawn(writeRun(std::move(run), slots, error));
  }
  co_await writes.join();
  if (error) co_return fail(std::move(*error));
  co_return Result<void>();
}

Task<void> DeferredWrites::writeRun(Run run, Semaphore& slots, std::optional<Error>& error) {
  auto written = co_await file_.write(std::move(run.data), superblock_.offsetOf(run.start), false);
  if (!written) {
    if (!error) error = std::move(written).error();
  } else {
    for (size_t i = 0; i < run.lsns.size(); ++i) {
      auto it = entries_.find(run.start + i);
      if (it != entries_.end() && it->second.lsn == run.lsns[i]) entries_.erase(it);
    }
  }
  slots.release();
}

}  // namespace cairn::osd
