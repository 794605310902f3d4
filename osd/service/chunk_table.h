// The chunks that something is going on with, and their range locks. A chunk that nobody uses has
// no entry.
//
// Lock order: a coroutine holds one lock of one chunk, or (remove, clone) one of each of several
// chunks, in ascending id.
// One reactor thread.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "common/base/ids.h"
#include "common/reactor/sync.h"

namespace cairn::osd {

class ChunkTable {
 public:
  // Removed ids that are remembered, so that a write which comes late does not make the chunk anew.
  static constexpr size_t kTombstones = 65536;

  struct Entry {
    explicit Entry(Reactor& reactor) : lock(reactor) {}
    RangeLock lock;  // in blocks; shared for reads, exclusive for mutations
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

  void bury(ChunkId chunk);
  [[nodiscard]] bool buried(ChunkId chunk) const { return buried_.contains(chunk); }

  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  void release(ChunkId chunk, Entry& entry);

  Reactor& reactor_;
  std::unordered_map<ChunkId, std::unique_ptr<Entry>> entries_;
  std::unordered_set<ChunkId> buried_;
  std::deque<ChunkId> burials_;  // oldest first
};

}  // namespace cairn::osd
