#include "osd/store/chunk_maps.h"

#include <algorithm>

namespace cairn::osd {

namespace {
// From so many missing groups on, one scan is cheaper than a get for each.
constexpr uint32_t kScanGroups = 8;

std::unexpected<Error> damaged(ChunkId chunk, const std::string& what) {
  return fail(Errc::kCorrupt,
              "chunk " + std::to_string(chunk.value) + ": its " + what +
                  " in the store's metadata is damaged: rebuild this store from its replicas");
}

// Calls visit(group, its first block that is meant, how many are) for each group that
// [first, end) touches.
template <class F>
void forGroups(uint32_t first, uint32_t end, F&& visit) {
  while (first < end) {
    const uint32_t at = first % kGroupBlocks, n = std::min(end - first, kGroupBlocks - at);
    visit(first / kGroupBlocks, at, n);
    first += n;
  }
}
}  // namespace

// ---- ChunkMap ----

const ExtentGroup* ChunkMap::group(uint32_t index) const {
  CAIRN_ASSERT(loaded_[index], "a group is loaded before it is looked at");
  auto it = std::lower_bound(groups_.begin(), groups_.end(), index,
                             [](const Slot& s, uint32_t i) { return s.index < i; });
  return it != groups_.end() && it->index == index ? it->group.get() : nullptr;
}

ExtentGroup& ChunkMap::make(uint32_t index) {
  auto it = std::lower_bound(groups_.begin(), groups_.end(), index,
                             [](const Slot& s, uint32_t i) { return s.index < i; });
  if (it == groups_.end() || it->index != index)
    it = groups_.insert(it, Slot{index, std::make_unique<ExtentGroup>()});
  return *it->group;
}

void ChunkMap::drop(uint32_t index) {
  auto it = std::lower_bound(groups_.begin(), groups_.end(), index,
                             [](const Slot& s, uint32_t i) { return s.index < i; });
  if (it != groups_.end() && it->index == index) groups_.erase(it);
}

ChunkMap::Place ChunkMap::place(uint32_t block) const {
  Place place;
  forRuns(block, 1, [&](const ExtentGroup::Run& run, uint32_t, const ExtentGroup& group) {
    place = {run.phys, run.written ? group.crc(run.first) : 0, true, run.written};
  });
  return place;
}

size_t ChunkMap::memoryBytes() const {
  // The table's own entry, the vector, and a group with a few runs each.
  constexpr size_t kGroupCost = sizeof(ExtentGroup) + 4 * sizeof(ExtentGroup::Run) + 32;
  return sizeof(ChunkMap) + 160 + groups_.capacity() * sizeof(Slot) + groups_.size() * kGroupCost;
}

// ---- ChunkMaps: cache ----

Result<ChunkRef> ChunkMaps::open(ChunkId id, uint32_t first, uint32_t count) {
  CAIRN_ASSERT(first <= kChunkBlocks && count <= kChunkBlocks - first,
               "a range lies inside its chunk");
  auto found = index_.find(id);
  if (found == index_.end()) {
    auto chunk = std::make_shared<ChunkMap>(id);
    std::string key = keys::header(id);
    auto value = metadata_.get(key);
    TRY(value);
    if (*value) {
      auto header = ChunkHeader::decode(key, **value);
      if (!header) return damaged(id, "header");
      chunk->state_ = ChunkMap::State::kExists;
      chunk->header_ = *header;
    } else {
      chunk->loaded_.set();  // nothing to load
      key = keys::removed(id);
      value = metadata_.get(key);
      TRY(value);
      if (*value) {
        auto removed = ChunkHeader::decode(key, **value);
        if (!removed || removed->blocks != 0) return damaged(id, "removal");
        chunk->state_ = ChunkMap::State::kRemoved;
        chunk->header_ = *removed;
      }
    }
    lru_.push_front({chunk, 0});
    found = index_.emplace(id, lru_.begin()).first;
  } else if (found->second != lru_.begin()) {
    lru_.splice(lru_.begin(), lru_, found->second);
  }
  ChunkRef chunk = lru_.front().chunk;
  if (count > 0)
    TRY(loadGroups(*chunk, first / kGroupBlocks, (first + count - 1) / kGroupBlocks + 1));
  account(lru_.begin());
  evict();
  return chunk;
}

Result<void> ChunkMaps::adopt(ChunkMap& chunk, uint32_t index, std::string_view key,
                              std::string_view value) {
  auto group = ExtentGroup::decode(key, value, dataBlocks_);
  if (!group) return damaged(chunk.id(), "map at block " + std::to_string(index * kGroupBlocks));
  chunk.make(index) = std::move(*group);
  return {};
}

Result<void> ChunkMaps::loadGroups(ChunkMap& chunk, uint32_t from, uint32_t to) {
  while (from < to && chunk.loaded_[from]) ++from;
  while (from < to && chunk.loaded_[to - 1]) --to;
  if (to - from < kScanGroups) {
    for (uint32_t g = from; g < to; ++g) {
      if (chunk.loaded_[g]) continue;
      std::string key = keys::group(chunk.id(), g);
      auto value = metadata_.get(key);
      TRY(value);
      if (*value) TRY(adopt(chunk, g, key, **value));
      chunk.loaded_.set(g);
    }
    return {};
  }
  Result<void> adopted;
  TRY(metadata_.scan(keys::group(chunk.id(), from), [&](auto key, auto value) {
    auto k = keys::parse(key);
    if (!k || k->chunk != chunk.id() || !k->group || *k->group >= to) return false;
    if (!chunk.loaded_[*k->group]) adopted = adopt(chunk, *k->group, key, value);
    return adopted.has_value();
  }));
  TRY(adopted);
  for (uint32_t g = from; g < to; ++g) chunk.loaded_.set(g);
  return {};
}

void ChunkMaps::account(std::list<Entry>::iterator entry) {
  size_t bytes = entry->chunk->memoryBytes();
  cachedBytes_ += bytes - entry->bytes;
  entry->bytes = bytes;
}

void ChunkMaps::evict() {
  constexpr int kTries = 32;  // entries in use are passed over, but not all of them every time
  auto it = lru_.end();
  for (int i = 0; cachedBytes_ > cacheBytes_ && i < kTries && it != lru_.begin(); ++i) {
    --it;
    if (it == lru_.begin() || it->chunk.use_count() > 1) continue;
    cachedBytes_ -= it->bytes;
    index_.erase(it->chunk->id());
    it = lru_.erase(it);
  }
}

// ---- ChunkMaps: changes ----

void ChunkMaps::storeGroup(ChunkMap& chunk, uint32_t index) {
  std::string key = keys::group(chunk.id(), index);
  const ExtentGroup* group = chunk.group(index);
  if (group && group->empty()) {
    chunk.drop(index);
    group = nullptr;
  }
  if (!group) {
    metadata_.del(std::move(key));
    return;
  }
  std::string value = group->encode(key);
  metadata_.put(std::move(key), std::move(value));
}

// The last change of the chunk is the one that `stamp` describes: header and history follow. Its
// map is as it is after that.
void ChunkMaps::recordChange(ChunkMap& chunk, const Stamp& stamp, ChunkMap::State to) {
  using State = ChunkMap::State;
  const State from = chunk.state_;
  ChunkHeader& header = chunk.header_;
  const ChunkId id = chunk.id();
  const ChunkVersion before = header.version;
  if (from == State::kUnknown) header.group = stamp.group;
  const GroupId group = header.group;
  history_.note({group, stamp.version, stamp.committed});
  if (to == State::kRemoved && std::max(before, stamp.version) <= history_.state(group).trimmed) {
    forget(chunk);  // trimRemovals() does not come here again
    return;
  }
  header.version = std::max(before, stamp.version);
  const Changed now{header.version, id, to == State::kRemoved};
  if (from == State::kUnknown)
    history_.add(group, now);
  else
    history_.replace(group, {before, id, from == State::kRemoved}, now);
  if (from == State::kExists && to != from) {
    metadata_.del(keys::header(id));
    --chunks_;
  }
  if (from == State::kRemoved && to != from) metadata_.del(keys::removed(id));
  if (to == State::kExists && from != to) ++chunks_;
  chunk.state_ = to;
  std::string key = to == State::kExists ? keys::header(id) : keys::removed(id);
  std::string value = header.encode(key);
  metadata_.put(std::move(key), std::move(value));
}

// Of a chunk without blocks.
void ChunkMaps::forget(ChunkMap& chunk) {
  using State = ChunkMap::State;
  ChunkHeader& header = chunk.header_;
  const bool removed = chunk.state_ == State::kRemoved;
  if (chunk.state_ != State::kUnknown) {
    history_.erase(header.group, {header.version, chunk.id(), removed});
    metadata_.del(removed ? keys::removed(chunk.id()) : keys::header(chunk.id()));
    if (!removed) --chunks_;
  }
  chunk.state_ = State::kUnknown;
  header = {};
}

Result<void> ChunkMaps::apply(const Record& record, Renamed& renamed) {
  switch (record.kind) {
    case RecordKind::kRemove: {
      Stamp stamp = record.stamp;
      for (ChunkId id : record.chunks) {
        TRY(applyRemove(id, stamp, renamed.lost));
        ++stamp.version.value;
      }
      return {};
    }
    case RecordKind::kDrop:
      history_.dropping(record.stamp.group);
      for (ChunkId id : record.chunks) TRY(applyDrop(id, renamed.lost));
      return {};
    case RecordKind::kForget:
      history_.forget(record.stamp.group);
      return {};
    case RecordKind::kClone:
      return applyClone(record, renamed);
    default:
      return applyPieces(record, renamed);
  }
}

Result<void> ChunkMaps::applyPieces(const Record& record, Renamed& renamed) {
  uint32_t first = 0, end = 0;
  if (!record.pieces.empty()) {
    first = record.pieces.front().first;
    end = record.pieces.back().first + record.pieces.back().count;
  }
  auto opened = open(record.chunk, first, end - first);
  TRY(opened);
  ChunkMap& chunk = **opened;
  if (!chunk.exists() && record.kind == RecordKind::kZero) return {};  // it was all hole already
  const bool withData = record.kind == RecordKind::kDirect || record.kind == RecordKind::kInline;
  size_t crcAt = 0;
  std::bitset<kChunkGroups> touched;
  for (const Piece& piece : record.pieces) {
    for (uint32_t done = 0; done < piece.count;) {
      uint32_t block = piece.first + done;
      uint32_t index = block / kGroupBlocks, at = block % kGroupBlocks;
      uint32_t n = std::min(piece.count - done, kGroupBlocks - at);
      ExtentGroup& group = chunk.make(index);
      uint32_t before = group.blocks();
      if (record.kind == RecordKind::kZero)
        group.clear(at, n, renamed.lost);
      else
        group.assign(at, n, piece.phys + done, withData ? &record.crcs[crcAt] : nullptr,
                     renamed.lost);
      chunk.header_.blocks += group.blocks() - before;
      touched.set(index);
      if (withData) crcAt += n;
      done += n;
    }
  }
  for (uint32_t index = 0; index < kChunkGroups; ++index)
    if (touched[index]) storeGroup(chunk, index);
  recordChange(chunk, record.stamp, ChunkMap::State::kExists);
  account(index_.at(chunk.id()));
  return {};
}

void ChunkMaps::clearBlocks(ChunkMap& chunk, uint32_t first, uint32_t end,
                            std::vector<PhysRun>& lost) {
  forGroups(first, end, [&](uint32_t index, uint32_t at, uint32_t n) {
    if (!chunk.group(index)) return;
    ExtentGroup& group = chunk.make(index);
    const uint32_t before = group.blocks();
    group.clear(at, n, lost);
    if (group.blocks() == before) return;
    chunk.header_.blocks -= before - group.blocks();
    storeGroup(chunk, index);
  });
}

Result<void> ChunkMaps::applyClone(const Record& record, Renamed& renamed) {
  const CloneRange& range = record.clone;
  auto sourceRef = open(range.source, range.sourceFirst, range.count);
  TRY(sourceRef);
  auto targetRef = open(record.chunk, range.first, range.count);
  TRY(targetRef);
  ChunkMap &source = **sourceRef, &target = **targetRef;
  bool asRecorded = true;
  for (const Piece& piece : record.pieces) {
    const uint32_t first = piece.first - range.first + range.sourceFirst;
    PhysBlock phys = piece.phys;
    forGroups(first, first + piece.count, [&](uint32_t index, uint32_t at, uint32_t n) {
      asRecorded = asRecorded && source.make(index).markShared(at, n, phys);
      storeGroup(source, index);
      phys += n;
    });
  }
  if (!asRecorded) return damaged(range.source, "map, of which a part was cloned,");
  uint32_t next = range.first;
  const uint32_t* crcs = record.crcs.data();
  for (const Piece& piece : record.pieces) {
    clearBlocks(target, next, piece.first, renamed.lost);
    next = piece.first + piece.count;
    PhysBlock phys = piece.phys;
    forGroups(piece.first, next, [&](uint32_t index, uint32_t at, uint32_t n) {
      ExtentGroup& group = target.make(index);
      const uint32_t before = group.blocks();
      group.share(at, n, phys, crcs, renamed.lost, renamed.gained);
      target.header_.blocks += group.blocks() - before;
      storeGroup(target, index);
      phys += n;
      crcs += n;
    });
  }
  clearBlocks(target, next, range.first + range.count, renamed.lost);
  recordChange(target, record.stamp, ChunkMap::State::kExists);
  account(index_.at(target.id()));
  account(index_.at(source.id()));
  return {};
}

void ChunkMaps::clearAll(ChunkMap& chunk, std::vector<PhysRun>& lost) {
  for (auto& slot : chunk.groups_) {
    for (const auto& run : slot.group->runs()) appendRun(lost, run.phys, run.count);
    metadata_.del(keys::group(chunk.id(), slot.index));
  }
  chunk.groups_.clear();
  chunk.groups_.shrink_to_fit();
  chunk.loaded_.set();
  chunk.header_.blocks = 0;
}

Result<void> ChunkMaps::applyRemove(ChunkId id, const Stamp& stamp, std::vector<PhysRun>& lost) {
  auto opened = openAll(id);
  TRY(opened);
  clearAll(**opened, lost);
  recordChange(**opened, stamp, ChunkMap::State::kRemoved);
  account(index_.at(id));
  return {};
}

Result<void> ChunkMaps::applyDrop(ChunkId id, std::vector<PhysRun>& lost) {
  auto opened = openAll(id);
  TRY(opened);
  clearAll(**opened, lost);
  forget(**opened);
  account(index_.at(id));
  return {};
}

// ---- ChunkMaps: history ----

Result<void> ChunkMaps::trimRemovals(GroupId group, ChunkVersion upTo) {
  constexpr size_t kEntries = 1024;
  const GroupState state = history_.state(group);
  upTo = std::min(upTo, state.last);
  if (upTo <= state.trimmed) return {};
  // What lies before was looked at by those who trimmed up to there.
  const Changed from{state.trimmed, ChunkId(UINT64_MAX)};
  std::vector<Changed> removals;
  ChunkVersion seen = state.trimmed;
  size_t entries = 0;
  TRY(history_.scan(group, from, [&](const Changed& change) {
    if (change.version > upTo) return false;
    if (entries >= kEntries && change.version > seen) {
      upTo = seen;
      return false;
    }
    ++entries;
    seen = change.version;
    if (change.removed) removals.push_back(change);
    return true;
  }));
  history_.trimmed(group, upTo);  // first: it is never less than what is forgotten
  for (const Changed& change : removals) {
    auto opened = openHeader(change.chunk);
    TRY(opened);
    ChunkMap& chunk = **opened;
    if (chunk.state_ != ChunkMap::State::kRemoved || chunk.header_.version != change.version ||
        chunk.header_.group != group)
      return damaged(change.chunk, "last change");
    forget(chunk);
  }
  return {};
}

Result<void> ChunkMaps::flush(Lsn applied) {
  history_.store();
  return metadata_.flush(applied);
}

}  // namespace cairn::osd
