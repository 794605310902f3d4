// The chunks that something is going on with: their range locks, the next version, and what the
// replicas are owed. A chunk that nobody uses and that owes nothing has no entry.
//
// Lock order: a coroutine holds one lock of one chunk, or (remove, clone) one of each of several
// chunks, in ascending id.
// One reactor thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/ids.h"
#include "common/reactor/sync.h"
#include "osd/service/block_ranges.h"

namespace cairn::osd {

class ChunkTable {
 public:
  // Removed ids that are remembered, so that a write which comes late does not make the chunk anew.
  static constexpr size_t kTombstones = 65536;

  struct Entry {
    explicit Entry(Reactor& reactor) : lock(reactor) {}
    RangeLock lock;  // in blocks; shared for reads, exclusive for mutations
    // The greatest version given or seen while this entry lives; from the store when it was made.
    ChunkVersion last;
    bool lastKnown = false;
    // Blocks that a member may hold differently from us, after a mutation that did not succeed
    // everywhere and so was not acknowledged. Reads refuse them; repair settles them.
    PoolId pool;
    PgIndex pg;
    std::map<OsdId, BlockRanges> owed;
    size_t users = 0;
  };

  // Keeps an entry alive.
  class Ref {
   public:
    Ref() = default;
    Ref(ChunkTable& table, ChunkId id, Entry& entry) : table_(&table), id_(id), entry_(&entry) {
      ++entry_->users;
    }
    Ref(Ref&& o) noexcept
        : table_(std::exchange(o.table_, nullptr)), id_(o.id_), entry_(o.entry_) {}
    Ref& operator=(Ref&&) = delete;
    ~Ref() {
      if (table_ != nullptr) table_->release(id_, *entry_);
    }
    Entry* operator->() const { return entry_; }
    Entry& operator*() const { return *entry_; }
    [[nodiscard]] ChunkId id() const { return id_; }

   private:
    ChunkTable* table_ = nullptr;
    ChunkId id_;
    Entry* entry_ = nullptr;
  };

  explicit ChunkTable(Reactor& reactor) : reactor_(reactor) {}

  [[nodiscard]] Ref use(ChunkId chunk);

  void owe(const Ref& chunk, PoolId pool, PgIndex pg, OsdId member, BlockRange range);
  // `member` holds the range as we do.
  void settle(const Ref& chunk, OsdId member, BlockRange range);
  // Everybody does, or it no longer matters.
  void settleAll(const Ref& chunk, BlockRange range);
  void forgive(const Ref& chunk, OsdId member);
  [[nodiscard]] static bool uncertain(const Entry& entry, BlockRange range);
  // Chunks that owe something to someone, ascending.
  [[nodiscard]] std::vector<ChunkId> owing() const;
  [[nodiscard]] bool owesAnything() const { return !owing_.empty(); }
  [[nodiscard]] uint64_t owedBlocks() const;

  void bury(ChunkId chunk);
  [[nodiscard]] bool buried(ChunkId chunk) const { return buried_.contains(chunk); }

  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  void release(ChunkId chunk, Entry& entry);
  void tidyOwed(ChunkId chunk, Entry& entry);

  Reactor& reactor_;
  std::unordered_map<ChunkId, std::unique_ptr<Entry>> entries_;
  std::map<ChunkId, Entry*> owing_;
  std::unordered_set<ChunkId> buried_;
  std::deque<ChunkId> burials_;  // oldest first
};

}  // namespace cairn::osd
