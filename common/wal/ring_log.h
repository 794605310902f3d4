// A write-ahead log in a fixed region of a File: group commit, torn-tail detection, trimming. The
// OSD store keeps its WAL in one, the MDS its command log. Format: common/wal/FORMAT.md.
//
// Invariants
//   - append() completes only when the record, and every record with a smaller Lsn, is durable.
//   - After a crash, open() replays exactly the records from the trim point to the last durable
//     one, in order; an unfinished batch at the end is dropped. A damaged batch *before* a valid
//     one is corruption, never the end: open() refuses.
//   - A record is never overwritten before trim() passed it and that trim is itself durable.
//
// One reactor thread. The Env, the File and whatever `replay` uses are the caller's and outlive the
// log.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "common/base/env.h"
#include "common/base/uuid.h"
#include "common/disk/disk.h"
#include "common/reactor/sync.h"

namespace cairn {

using Lsn = uint64_t;  // from 1, without gaps

class RingLog {
 public:
  struct Region {
    uint64_t offset = 0;  // multiples of kBlockSize
    // At least 1 MiB. Best written with zeros before (OpenOptions::zeroBytes): then no append
    // changes extents of the host's file system. What it holds does not matter.
    uint64_t length = 0;
  };
  using Replay = std::function<Result<void>(Lsn, Bytes)>;

  // Writes an empty log; durable when it completes. `identity` keeps records of another log in the
  // same place from being read.
  static Task<Result<void>> format(Env& env, File& file, Region region, Uuid identity);
  // Replays, then the log is ready for append(). kCorrupt with the offset and the way out on
  // damage; `replay`'s error ends it.
  static Task<Result<std::unique_ptr<RingLog>>> open(Env& env, File& file, Region region,
                                                     Uuid identity, Replay replay);
  // close() was called.
  virtual ~RingLog() = default;

  // Queues the record (the parts in a row, at most a quarter of the region in all), gives its Lsn
  // at once through `assigned` if that is not null, and completes when it is durable. Waits while
  // the log is full: someone must trim. An I/O error fails this and every later append: the log's
  // owner stops.
  virtual Task<Result<Lsn>> append(std::vector<Buffer> parts, Lsn* assigned = nullptr) = 0;
  // Records up to and including `lsn` are not needed any more. Becomes durable with the next batch
  // or checkpoint().
  virtual void trim(Lsn lsn) = 0;
  // Makes the latest trim durable now.
  virtual Task<Result<void>> checkpoint() = 0;
  [[nodiscard]] virtual Lsn lastAppended() const = 0;  // 0 if none ever was
  [[nodiscard]] virtual uint64_t usedBytes() const = 0;
  [[nodiscard]] virtual uint64_t capacityBytes() const = 0;
  // Waits for what is queued, but cancels what waits for room; later appends fail with kCanceled.
  virtual Task<void> close() = 0;
};

}  // namespace cairn
