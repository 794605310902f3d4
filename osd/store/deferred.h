// Blocks that are durable in the write-ahead log but not yet in their place. Readers take them from
// here; flush() writes them to their places in order of address, neighbours together. One reactor
// thread.
//
// Invariants
//   - A place that has an entry here is read from here, never from the file.
//   - At most one write per place is in flight: one flush at a time, and each visits a place once.
//   - An entry goes only when the write of just that entry has completed, or its place was freed.
#pragma once

#include <map>
#include <optional>

#include "common/base/env.h"
#include "common/disk/disk.h"
#include "common/reactor/sync.h"
#include "common/wal/ring_log.h"
#include "osd/store/block_guard.h"
#include "osd/store/superblock.h"

namespace cairn::osd {

class DeferredWrites {
 public:
  struct Entry {
    Buffer data;  // one block
    Lsn lsn = 0;  // of its record
  };
  using Map = std::map<PhysBlock, Entry>;

  DeferredWrites(Env& env, File& file, const Superblock& superblock, BlockGuard& guard)
      : env_(env), file_(file), superblock_(superblock), guard_(guard), lock_(env.reactor) {}

  void put(PhysBlock place, Entry entry) { entries_.insert_or_assign(place, std::move(entry)); }
  // The places were freed: nobody names them any more.
  void drop(PhysRun run) {
    entries_.erase(entries_.lower_bound(run.start), entries_.lower_bound(run.start + run.count));
  }
  [[nodiscard]] Map& entries() { return entries_; }
  [[nodiscard]] uint64_t bytes() const { return entries_.size() * kBlockSize; }

  // Everything put before the call is in its place when it completes; durable after the file's next
  // sync. The first error ends it; the entries that were not written stay.
  Task<Result<void>> flush();

 private:
  struct Run;
  Task<void> writeRun(Run run, Semaphore& slots, std::optional<Error>& error);

  Env& env_;
  File& file_;
  const Superblock& superblock_;
  BlockGuard& guard_;
  AsyncMutex lock_;
  Map entries_;
};

}  // namespace cairn::osd
