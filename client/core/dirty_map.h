// Written bytes of one file that are not on the OSDs yet.
//
// The file is cut into windows of 1 MiB. Inside a window, bytes that adjoin or overlap are kept as
// one extent in one buffer, aligned like the file, so that a sequential writer's bytes are copied
// once and leave as whole windows, as many at once as have piled up. An extent that is being
// flushed does not change any more: bytes written over it begin another extent, which is flushed
// after it.
//
// Invariants
//   - Idle and queued extents do not overlap each other; nor do those that are being flushed.
//   - An extent lies inside one window, so inside one chunk.
//   - What overlay() shows are the newest bytes that were written.
// Pure data: nothing waits here. One reactor thread; `budget` outlives it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "client/core/dirty_budget.h"
#include "common/base/buffer.h"

namespace cairn::client {

struct DirtyExtent {
  enum class State : uint8_t { kIdle, kQueued, kFlushing, kGone };
  uint64_t from = 0, to = 0;  // bytes of the file
  uint64_t base = 0;          // where `buffer` begins, a multiple of 4 KiB
  Buffer buffer;              // its size is its capacity
  uint64_t cut = 0;           // of its oldest byte, see DirtyMap::cut()
  State state = State::kIdle;
  std::vector<std::shared_ptr<DirtyExtent>> behind;  // queued, and overlap this one's flush

  [[nodiscard]] Buffer bytes() const { return buffer.slice(from - base, to - from); }
};

class DirtyMap {
 public:
  using ExtentPtr = std::shared_ptr<DirtyExtent>;
  struct Piece {
    uint64_t offset = 0;  // in the file
    Buffer bytes;
  };

  DirtyMap(BufferPool& buffers, DirtyBudget& budget) : buffers_(buffers), budget_(budget) {}
  ~DirtyMap();
  DirtyMap(const DirtyMap&) = delete;
  DirtyMap& operator=(const DirtyMap&) = delete;

  // Copies `data`. Extents that fill their window are queued for flushing.
  void write(uint64_t offset, Bytes data);

  // Draws a line: what was written before it is "below" the returned number.
  uint64_t cut() { return ++cut_; }
  // Queues what is below `cut` and touches [from, to).
  void want(uint64_t from, uint64_t to, uint64_t cut);
  // Whether bytes below `cut` in [from, to) are not flushed yet.
  [[nodiscard]] bool pending(uint64_t from, uint64_t to, uint64_t cut) const;

  // What to flush next, or nothing: queued extents of one chunk, each of which begins where the one
  // before it fills its window to the end; of `most` bytes at most, unless it is a single one, and
  // `least` at least, where a sequential writer will make more of it. They stay visible until
  // done().
  using Run = std::vector<ExtentPtr>;
  Run next(uint64_t most, uint64_t least = 0);
  // Its bytes are on the OSDs, or given up.
  void done(const ExtentPtr& extent);
  // Forgets all that is not being flushed. True if there was any.
  bool dropUnflushed();

  // The dirty bytes of [from, to), later pieces over earlier ones. The buffers may still change
  // when the same bytes are written again.
  [[nodiscard]] std::vector<Piece> overlay(uint64_t from, uint64_t to) const;
  [[nodiscard]] bool touches(uint64_t from, uint64_t to) const;
  [[nodiscard]] bool empty() const { return unflushed_.empty() && flushing_.empty(); }
  // The end of the last dirty byte; 0 when empty.
  [[nodiscard]] uint64_t end() const;
  // Memory of extents that nobody has asked to flush.
  [[nodiscard]] uint64_t idleBytes() const { return idleBytes_; }

 private:
  using Map = std::map<uint64_t, ExtentPtr>;  // by `from`
  static Map::const_iterator firstTouching(const Map& map, uint64_t from);
  void writeWindow(uint64_t window, uint64_t from, Bytes data);
  std::vector<ExtentPtr> takeNeighbours(uint64_t window, uint64_t from, uint64_t to);
  ExtentPtr make(uint64_t window, uint64_t from, uint64_t to);
  void queue(const ExtentPtr& extent);
  [[nodiscard]] Map::const_iterator flushingOver(const ExtentPtr& extent) const;
  [[nodiscard]] Run runFrom(ExtentPtr first, uint64_t most) const;
  [[nodiscard]] bool grows(const Run& run, uint64_t most) const;
  void take(const ExtentPtr& extent);
  void count(const ExtentPtr& extent);
  void uncount(const ExtentPtr& extent);

  BufferPool& buffers_;
  DirtyBudget& budget_;
  Map unflushed_;  // idle and queued
  Map flushing_;
  std::deque<ExtentPtr> queue_;      // may hold extents that are gone
  std::map<uint64_t, size_t> cuts_;  // extents for each cut
  uint64_t cut_ = 0;
  uint64_t idleBytes_ = 0;
  uint64_t lastEnd_ = 0;  // of the last write: tells sequential writers
};

}  // namespace cairn::client
