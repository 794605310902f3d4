// Reads a ring log without changing it: finds the tail, walks the batches to the head, tells a torn
// tail from corruption, and hands the records out. Used by RingLog::open() and by offline checkers.
// One reactor thread.
#pragma once

#include <deque>

#include "common/wal/ring_format.h"

namespace cairn::wal {

struct BatchPlace {
  uint64_t position = 0;
  uint64_t blocks = 0;
  Lsn firstLsn = 0;
  Lsn lastLsn = 0;
};

// Everything a writer needs to go on.
struct RingState {
  RingId id;
  uint64_t slotSequence = 0;       // of the slot that counts
  uint64_t slotTailPosition = 0;   // nothing from here to the head may be overwritten
  std::deque<BatchPlace> batches;  // from the slot's tail to the head
  uint64_t head = 0;               // position of the next batch
  Lsn lastLsn = 0;
  Lsn trimmedLsn = 0;
};

// `replay` is called for each record after the latest durable trim, in order; its error ends the
// reading. kCorrupt: damage before a valid batch, or fewer records than the log once promised.
// kWrongCluster: the region holds a log of another identity. kVersion: a newer format.
Task<Result<RingState>> readRing(Env& env, File& file, RingLog::Region region, Uuid identity,
                                 RingLog::Replay replay);

}  // namespace cairn::wal
