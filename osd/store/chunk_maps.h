// The chunk maps: cached in memory (least recently used go first), loaded from the metadata group
// by group, changed here and written behind; with each change that of its placement group's
// history. One reactor thread; nothing here suspends.
//
// Errors: kIo from the database; kCorrupt, naming the chunk, when an entry does not match its
// checksum.
#pragma once

#include <bitset>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "osd/store/extent_group.h"
#include "osd/store/history.h"
#include "osd/store/metadata.h"
#include "osd/store/record.h"

namespace cairn::osd {

// One chunk's header and those of its groups that were needed so far.
class ChunkMap {
 public:
  explicit ChunkMap(ChunkId id) : id_(id) {}
  [[nodiscard]] ChunkId id() const { return id_; }
  [[nodiscard]] bool exists() const { return state_ == State::kExists; }
  // Of a chunk that does not exist, zeros; or, if its removal is remembered, group and version.
  [[nodiscard]] const ChunkHeader& header() const { return header_; }
  [[nodiscard]] std::optional<Changed> lastChange() const {
    if (state_ == State::kUnknown) return std::nullopt;
    return Changed{header_.version, id_, state_ == State::kRemoved};
  }
  // May a mutation name this group? Always, if nothing is known of the chunk.
  [[nodiscard]] bool mayBeOf(GroupId group) const {
    return state_ == State::kUnknown || header_.group == group;
  }
  // Null: all holes. The group must be loaded.
  [[nodiscard]] const ExtentGroup* group(uint32_t index) const;
  [[nodiscard]] bool loaded(uint32_t index) const { return loaded_[index]; }

  // What block `block` is, if its group is loaded.
  struct Place {
    PhysBlock phys = 0;
    uint32_t crc = 0;
    bool mapped = false;   // it has a place
    bool written = false;  // and data
  };
  // Calls visit(Run, block of the chunk at its start) for what is mapped in [first, first+count),
  // clipped to it.
  template <class F>
  void forRuns(uint32_t first, uint32_t count, F&& visit) const {
    const uint32_t end = first + count;
    if (count == 0) return;
    for (uint32_t g = first / kGroupBlocks; g * kGroupBlocks < end; ++g) {
      const ExtentGroup* grp = group(g);
      if (!grp) continue;
      for (ExtentGroup::Run run : grp->runs()) {
        uint32_t from = std::max(first, g * kGroupBlocks + run.first);
        uint32_t to = std::min(end, g * kGroupBlocks + run.first + run.count);
        if (from >= to) continue;
        uint32_t skip = from - (g * kGroupBlocks + run.first);
        visit(ExtentGroup::Run{run.phys + skip, static_cast<uint8_t>(run.first + skip),
                               static_cast<uint8_t>(to - from), run.written, run.shared},
              from, *grp);
      }
    }
  }
  [[nodiscard]] Place place(uint32_t block) const;

 private:
  friend class ChunkMaps;
  enum class State : uint8_t { kUnknown, kExists, kRemoved };
  struct Slot {
    uint32_t index;
    std::unique_ptr<ExtentGroup> group;
  };
  ExtentGroup& make(uint32_t index);
  void drop(uint32_t index);
  [[nodiscard]] size_t memoryBytes() const;

  ChunkId id_;
  State state_ = State::kUnknown;
  ChunkHeader header_;
  std::vector<Slot> groups_;  // by index; only non-empty ones
  std::bitset<kChunkGroups> loaded_;
};

using ChunkRef = std::shared_ptr<ChunkMap>;

class ChunkMaps {
 public:
  ChunkMaps(Metadata& metadata, History& history, uint64_t dataBlocks, uint64_t cacheBytes)
      : metadata_(metadata), history_(history), dataBlocks_(dataBlocks), cacheBytes_(cacheBytes) {}

  // The chunk, which may not exist, with the groups of [first, first+count) loaded. It stays cached
  // for as long as the reference is held: apply() then cannot fail.
  Result<ChunkRef> open(ChunkId chunk, uint32_t first, uint32_t count);
  Result<ChunkRef> openHeader(ChunkId chunk) { return open(chunk, 0, 0); }
  Result<ChunkRef> openAll(ChunkId chunk) { return open(chunk, 0, kChunkBlocks); }

  // What a change did to the places' names. A place may have several: see clone().
  struct Renamed {
    std::vector<PhysRun> lost;    // a name
    std::vector<PhysRun> gained;  // one more
  };
  // Makes the change of `record` here and in the metadata's buffer, and appends to `renamed`.
  // Idempotent. kCorrupt also when a clone's source is not what its record says.
  Result<void> apply(const Record& record, Renamed& renamed);
  // Forgets removals of the group up to `upTo`, or a part of them, the oldest: what one step may
  // cost is bounded. The state's `trimmed` says how far it came.
  Result<void> trimRemovals(GroupId group, ChunkVersion upTo);
  // Hands the metadata's buffer, with all changes so far, to the database: see Metadata::flush.
  Result<void> flush(Lsn applied);

  [[nodiscard]] uint64_t chunks() const { return chunks_; }
  void setChunks(uint64_t chunks) { chunks_ = chunks; }
  [[nodiscard]] uint64_t cachedBytes() const { return cachedBytes_; }

 private:
  struct Entry {
    ChunkRef chunk;
    size_t bytes = 0;
  };
  Result<void> loadGroups(ChunkMap& chunk, uint32_t from, uint32_t to);
  Result<void> adopt(ChunkMap& chunk, uint32_t index, std::string_view key, std::string_view value);
  Result<void> applyPieces(const Record& record, Renamed& renamed);
  Result<void> applyRemove(ChunkId id, const Stamp& stamp, std::vector<PhysRun>& lost);
  Result<void> applyDrop(ChunkId id, std::vector<PhysRun>& lost);
  Result<void> applyClone(const Record& record, Renamed& renamed);
  void clearBlocks(ChunkMap& chunk, uint32_t first, uint32_t end, std::vector<PhysRun>& lost);
  void clearAll(ChunkMap& chunk, std::vector<PhysRun>& lost);
  void storeGroup(ChunkMap& chunk, uint32_t index);
  void recordChange(ChunkMap& chunk, const Stamp& stamp, ChunkMap::State to);
  void forget(ChunkMap& chunk);
  void account(std::list<Entry>::iterator entry);
  void evict();

  Metadata& metadata_;
  History& history_;
  const uint64_t dataBlocks_;
  const uint64_t cacheBytes_;
  std::list<Entry> lru_;  // most recently used first
  std::unordered_map<ChunkId, std::list<Entry>::iterator> index_;
  uint64_t cachedBytes_ = 0;
  uint64_t chunks_ = 0;
};

}  // namespace cairn::osd
