#include "test/unit/osd/service/fake_store.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/crc/crc32c.h"

namespace cairn::osd::test {

uint64_t FakeDisk::blocks() const {
  uint64_t n = 0;
  for (const auto& [id, c] : chunks) n += c.blocks.size() + c.reserved.size();
  return n;
}

std::vector<uint8_t> FakeDisk::content(ChunkId chunk, uint32_t offset, uint32_t length) const {
  std::vector<uint8_t> out(length);
  auto it = chunks.find(chunk);
  if (it == chunks.end()) return out;
  for (uint32_t i = 0; i < length; ++i) {
    auto b = it->second.blocks.find(static_cast<uint32_t>((offset + i) / kBlockSize));
    if (b != it->second.blocks.end()) out[i] = b->second.bytes[(offset + i) % kBlockSize];
  }
  return out;
}

// Notes every pair of operations that the store's contract forbids to run at once.
struct FakeStore::Busy {
  Busy(FakeStore& s, ChunkId c, uint64_t f, uint64_t t, bool x)
      : store(s), chunk(c), from(f), to(t), exclusive(x) {
    for (Busy* o : store.busy_)
      if (o->chunk == chunk && o->from < to && from < o->to && (exclusive || o->exclusive))
        ++store.disk_->violations;
    store.busy_.push_back(this);
  }
  ~Busy() { store.busy_.remove(this); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  FakeStore& store;
  ChunkId chunk;
  uint64_t from, to;
  bool exclusive;
};

Task<void> FakeStore::pause() {
  co_await never_.waitFor(disk_->delay);
}

Result<void> FakeStore::checkGroup(ChunkId chunk, GroupId group) const {
  auto c = disk_->chunks.find(chunk);
  auto r = disk_->removals.find(chunk);
  if ((c == disk_->chunks.end() || c->second.group == group) &&
      (r == disk_->removals.end() || r->second.group == group))
    return {};
  return fail(Errc::kInvalid, "a chunk of another group");
}

void FakeStore::note(GroupId group, const Stamp& stamp) {
  GroupState& state = disk_->groups[group];
  state.last = std::max(state.last, stamp.version);
  state.committed = std::max(state.committed, stamp.committed);
}

FakeDisk::Chunk& FakeStore::change(ChunkId chunk, const Stamp& stamp) {
  auto [it, made] = disk_->chunks.try_emplace(chunk);
  FakeDisk::Chunk& c = it->second;
  if (made) {
    c.group = stamp.group;
    if (auto r = disk_->removals.find(chunk); r != disk_->removals.end()) {
      c.version = r->second.version;
      disk_->removals.erase(r);
    }
  }
  c.version = std::max(c.version, stamp.version);
  note(c.group, stamp);
  return c;
}

Task<Result<void>> FakeStore::recordOsdId(OsdId id) {
  co_await pause();
  disk_->id = id;
  co_return Result<void>{};
}

Task<Result<void>> FakeStore::write(ChunkId chunk, uint32_t offset, Buffer data,
                                    std::vector<uint32_t> crcs, Stamp stamp, InParts) {
  CAIRN_ASSERT(offset % kBlockSize == 0 && data.size() % kBlockSize == 0 && !data.empty() &&
                   crcs.size() == data.size() / kBlockSize,
               "writes are whole blocks with one checksum each");
  CAIRN_ASSERT(reinterpret_cast<uintptr_t>(data.data()) % kBlockSize == 0,
               "data is aligned for O_DIRECT");
  Busy busy(*this, chunk, offset, offset + data.size(), true);
  co_await pause();
  if (disk_->failMutations) co_return fail(*disk_->failMutations);
  CO_TRY(checkGroup(chunk, stamp.group));
  const uint32_t first = static_cast<uint32_t>(offset / kBlockSize);
  auto known = disk_->chunks.find(chunk);
  uint64_t fresh = 0;
  for (uint32_t i = 0; i < crcs.size(); ++i)
    if (known == disk_->chunks.end() ||
        (!known->second.blocks.contains(first + i) && !known->second.reserved.contains(first + i)))
      ++fresh;
  if (disk_->blocks() + fresh > disk_->capacityBlocks) co_return fail(Errc::kNoSpace, "full");
  auto& c = change(chunk, stamp);
  for (uint32_t i = 0; i < crcs.size(); ++i) {
    auto& b = c.blocks[first + i];
    std::memcpy(b.bytes.data(), data.data() + i * kBlockSize, kBlockSize);
    b.crc = crcs[i];
    c.reserved.erase(first + i);
  }
  ++disk_->mutations;
  co_return Result<void>{};
}

Task<Result<void>> FakeStore::zero(ChunkId chunk, uint32_t offset, uint32_t length, Stamp stamp) {
  Busy busy(*this, chunk, offset, uint64_t{offset} + length, true);
  co_await pause();
  if (disk_->failMutations && disk_->failMutations->code != Errc::kNoSpace)
    co_return fail(*disk_->failMutations);
  CO_TRY(checkGroup(chunk, stamp.group));
  if (!disk_->chunks.contains(chunk)) co_return Result<void>{};
  auto& c = change(chunk, stamp);
  for (uint64_t b = offset / kBlockSize; b < (uint64_t{offset} + length) / kBlockSize; ++b) {
    c.blocks.erase(static_cast<uint32_t>(b));
    c.reserved.erase(static_cast<uint32_t>(b));
  }
  ++disk_->mutations;
  co_return Result<void>{};
}

Task<Result<void>> FakeStore::allocate(ChunkId chunk, uint32_t offset, uint32_t length,
                                       Stamp stamp) {
  Busy busy(*this, chunk, offset, uint64_t{offset} + length, true);
  co_await pause();
  if (disk_->failMutations) co_return fail(*disk_->failMutations);
  CO_TRY(checkGroup(chunk, stamp.group));
  if (disk_->blocks() + length / kBlockSize > disk_->capacityBlocks)
    co_return fail(Errc::kNoSpace, "full");
  auto& c = change(chunk, stamp);
  for (uint64_t b = offset / kBlockSize; b < (uint64_t{offset} + length) / kBlockSize; ++b)
    if (!c.blocks.contains(static_cast<uint32_t>(b))) c.reserved.insert(static_cast<uint32_t>(b));
  ++disk_->mutations;
  co_return Result<void>{};
}

Task<Result<void>> FakeStore::remove(std::vector<ChunkId> chunks, Stamp stamp) {
  std::list<Busy> busy;
  for (ChunkId id : chunks) busy.emplace_back(*this, id, 0, kChunkSize, true);
  co_await pause();
  for (ChunkId id : chunks) CO_TRY(checkGroup(id, stamp.group));
  for (ChunkId id : chunks) {
    ChunkVersion version = stamp.version;
    if (auto c = disk_->chunks.find(id); c != disk_->chunks.end())
      version = std::max(version, c->second.version);
    if (auto r = disk_->removals.find(id); r != disk_->removals.end())
      version = std::max(version, r->second.version);
    note(stamp.group, stamp);
    disk_->chunks.erase(id);
    disk_->removals.erase(id);
    if (version > disk_->groups[stamp.group].trimmed)
      disk_->removals.emplace(id, FakeDisk::Removal{stamp.group, version});
    ++stamp.version.value;
  }
  ++disk_->mutations;
  co_return Result<void>{};
}

Task<Result<void>> FakeStore::clone(ChunkId source, uint32_t sourceOffset, ChunkId target,
                                    uint32_t targetOffset, uint32_t length, Stamp stamp) {
  Busy reading(*this, source, sourceOffset, uint64_t{sourceOffset} + length, false);
  Busy changing(*this, target, targetOffset, uint64_t{targetOffset} + length, true);
  co_await pause();
  if (disk_->failMutations && disk_->failMutations->code != Errc::kNoSpace)
    co_return fail(*disk_->failMutations);
  CO_TRY(checkGroup(target, stamp.group));
  if (!disk_->chunks.contains(source)) co_return fail(Errc::kNotFound, "no such chunk");
  auto& to = change(target, stamp);
  const auto& from = disk_->chunks[source];
  for (uint32_t i = 0; i < length / kBlockSize; ++i) {
    const auto at = static_cast<uint32_t>(targetOffset / kBlockSize + i);
    to.blocks.erase(at);
    to.reserved.erase(at);
    auto b = from.blocks.find(static_cast<uint32_t>(sourceOffset / kBlockSize + i));
    if (b != from.blocks.end()) to.blocks[at] = b->second;
  }
  ++disk_->mutations;
  ++disk_->clones;
  co_return Result<void>{};
}

Task<Result<ReadData>> FakeStore::read(ChunkId chunk, uint32_t offset, uint32_t length) {
  CAIRN_ASSERT(offset % kBlockSize == 0 && length % kBlockSize == 0 && length != 0,
               "reads are whole blocks");
  Busy busy(*this, chunk, offset, uint64_t{offset} + length, false);
  co_await pause();
  ++disk_->reads;
  ReadData out;
  auto it = disk_->chunks.find(chunk);
  if (it != disk_->chunks.end()) out.version = it->second.version;
  const uint32_t first = static_cast<uint32_t>(offset / kBlockSize);
  const uint32_t count = static_cast<uint32_t>(length / kBlockSize);
  out.hole = true;
  if (it != disk_->chunks.end()) {
    auto b = it->second.blocks.lower_bound(first);
    out.hole = b == it->second.blocks.end() || b->first >= first + count;
  }
  if (out.hole) co_return out;
  out.data = env_.buffers.zeroed(length);
  out.crcs.assign(count, crc32cZeroBlock());
  for (uint32_t i = 0; i < count; ++i) {
    auto b = it->second.blocks.find(first + i);
    if (b == it->second.blocks.end()) continue;
    if (crc32c(b->second.bytes) != b->second.crc) co_return fail(Errc::kCorrupt, "a bad block");
    std::memcpy(out.data.data() + i * kBlockSize, b->second.bytes.data(), kBlockSize);
    out.crcs[i] = b->second.crc;
  }
  co_return out;
}

Result<std::vector<std::pair<uint32_t, uint32_t>>> FakeStore::extents(ChunkId chunk,
                                                                      uint32_t offset,
                                                                      size_t limit) {
  std::vector<std::pair<uint32_t, uint32_t>> out;
  auto it = disk_->chunks.find(chunk);
  if (it == disk_->chunks.end()) return out;
  for (const auto& [number, block] : it->second.blocks) {
    const uint32_t at = static_cast<uint32_t>(number * kBlockSize);
    if (at + kBlockSize <= offset) continue;
    if (!out.empty() && out.back().first + out.back().second == at) {
      out.back().second += kBlockSize;
    } else {
      if (out.size() == limit) break;
      out.emplace_back(at, kBlockSize);
    }
  }
  if (!out.empty() && out.front().first < offset) {
    out.front().second -= offset - out.front().first;
    out.front().first = offset;
  }
  return out;
}

Result<bool> FakeStore::isHole(ChunkId chunk, uint32_t offset, uint32_t length) {
  auto it = disk_->chunks.find(chunk);
  if (it == disk_->chunks.end()) return true;
  auto b = it->second.blocks.lower_bound(static_cast<uint32_t>(offset / kBlockSize));
  return b == it->second.blocks.end() || b->first >= (uint64_t{offset} + length) / kBlockSize;
}

Result<std::optional<ChunkInfo>> FakeStore::stat(ChunkId chunk) {
  auto it = disk_->chunks.find(chunk);
  if (it == disk_->chunks.end()) return std::optional<ChunkInfo>{};
  return std::optional<ChunkInfo>(ChunkInfo{it->second.group, it->second.version,
                                            static_cast<uint32_t>(it->second.blocks.size())});
}

Result<std::vector<ListedChunk>> FakeStore::list(ChunkId after, size_t limit) {
  std::vector<ListedChunk> out;
  for (auto it = disk_->chunks.upper_bound(after); it != disk_->chunks.end() && out.size() < limit;
       ++it)
    out.push_back(
        {it->first,
         {it->second.group, it->second.version, static_cast<uint32_t>(it->second.blocks.size())}});
  return out;
}

Result<GroupState> FakeStore::groupState(GroupId group) {
  auto it = disk_->groups.find(group);
  return it == disk_->groups.end() ? GroupState{} : it->second;
}

Result<std::vector<Changed>> FakeStore::changes(GroupId group, Changed after, size_t limit) {
  std::vector<Changed> all;
  auto take = [&](const Changed& c) {
    if (std::pair(c.version, c.chunk) > std::pair(after.version, after.chunk)) all.push_back(c);
  };
  for (const auto& [id, c] : disk_->chunks)
    if (c.group == group) take({c.version, id, false});
  for (const auto& [id, r] : disk_->removals)
    if (r.group == group) take({r.version, id, true});
  std::ranges::sort(all);
  all.resize(std::min(all.size(), limit));
  return all;
}

Result<std::vector<GroupId>> FakeStore::groups() {
  std::vector<GroupId> ids;
  for (const auto& [id, state] : disk_->groups) ids.push_back(id);
  return ids;
}

Result<void> FakeStore::trimRemovals(GroupId group, ChunkVersion upTo) {
  auto it = disk_->groups.find(group);
  if (it == disk_->groups.end()) return {};
  GroupState& state = it->second;
  state.trimmed = std::max(state.trimmed, std::min(upTo, state.last));
  std::erase_if(disk_->removals, [&](const auto& r) {
    return r.second.group == group && r.second.version <= state.trimmed;
  });
  return {};
}

Task<Result<void>> FakeStore::dropGroup(GroupId group) {
  std::list<Busy> busy;
  for (const auto& [id, c] : disk_->chunks)
    if (c.group == group) busy.emplace_back(*this, id, 0, kChunkSize, true);
  co_await pause();
  if (disk_->failMutations) co_return fail(*disk_->failMutations);
  std::erase_if(disk_->chunks, [&](const auto& c) { return c.second.group == group; });
  std::erase_if(disk_->removals, [&](const auto& r) { return r.second.group == group; });
  disk_->groups.erase(group);
  ++disk_->mutations;
  co_return Result<void>{};
}

Space FakeStore::space() const {
  return {1 * kGiB, disk_->blocks() * kBlockSize, disk_->chunks.size(), disk_->nearlyFull};
}

}  // namespace cairn::osd::test
