#include "osd/service/chunk_table.h"

#include <algorithm>

namespace cairn::osd {

ChunkTable::Ref ChunkTable::use(ChunkId chunk) {
  auto& entry = entries_[chunk];
  if (!entry) entry = std::make_unique<Entry>(reactor_);
  return {*this, chunk, *entry};
}

void ChunkTable::release(ChunkId chunk, Entry& entry) {
  if (--entry.users == 0 && entry.owed.empty()) entries_.erase(chunk);
}

void ChunkTable::owe(const Ref& chunk, PoolId pool, PgIndex pg, OsdId member, BlockRange range) {
  chunk->pool = pool;
  chunk->pg = pg;
  chunk->owed[member].add(range);
  owing_[chunk.id()] = &*chunk;
}

void ChunkTable::settle(const Ref& chunk, OsdId member, BlockRange range) {
  auto it = chunk->owed.find(member);
  if (it == chunk->owed.end()) return;
  it->second.remove(range);
  tidyOwed(chunk.id(), *chunk);
}

void ChunkTable::settleAll(const Ref& chunk, BlockRange range) {
  if (chunk->owed.empty()) return;
  for (auto& [member, ranges] : chunk->owed) ranges.remove(range);
  tidyOwed(chunk.id(), *chunk);
}

void ChunkTable::forgive(const Ref& chunk, OsdId member) {
  chunk->owed.erase(member);
  tidyOwed(chunk.id(), *chunk);
}

void ChunkTable::tidyOwed(ChunkId chunk, Entry& entry) {
  std::erase_if(entry.owed, [](const auto& item) { return item.second.empty(); });
  if (entry.owed.empty()) owing_.erase(chunk);
}

bool ChunkTable::uncertain(const Entry& entry, BlockRange range) {
  return std::any_of(entry.owed.begin(), entry.owed.end(),
                     [&](const auto& item) { return item.second.overlaps(range); });
}

std::vector<ChunkId> ChunkTable::owing() const {
  std::vector<ChunkId> chunks;
  chunks.reserve(owing_.size());
  for (const auto& item : owing_) chunks.push_back(item.first);
  return chunks;
}

uint64_t ChunkTable::owedBlocks() const {
  uint64_t n = 0;
  for (const auto& item : owing_)
    for (const auto& ranges : item.second->owed) n += ranges.second.blocks();
  return n;
}

void ChunkTable::bury(ChunkId chunk) {
  if (!buried_.insert(chunk).second) return;
  burials_.push_back(chunk);
  if (burials_.size() > kTombstones) {
    buried_.erase(burials_.front());
    burials_.pop_front();
  }
}

}  // namespace cairn::osd
