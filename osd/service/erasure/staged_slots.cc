#include "osd/service/erasure/staged_slots.h"

#include <array>

#include "common/base/assert.h"
#include "osd/service/block_range.h"

namespace cairn::osd {

namespace {

// `count` slots of `blocks` blocks each, from `first` on. A head alone, single rows, stripes, a
// client's message of 1 MiB over four shards, the largest change over two.
struct Size {
  uint32_t blocks, first, count;
};
constexpr std::array kSizes = {
    Size{1, 0, 512},     Size{2, 512, 512},   Size{4, 1536, 256}, Size{8, 2560, 128},
    Size{17, 3584, 128}, Size{33, 5760, 32},  Size{65, 6816, 48}, Size{129, 9936, 16},
    Size{257, 12000, 8}, Size{513, 14056, 4},
};
static_assert([] {
  uint32_t end = 0;
  for (const Size& s : kSizes) {
    if (s.first < end) return false;
    end = s.first + s.count * s.blocks;
  }
  return end <= kBlocksPerChunk;
}());

}  // namespace

std::optional<SlotPlace> slotPlaceAt(uint32_t block) {
  for (const Size& s : kSizes)
    if (block >= s.first && block < s.first + s.count * s.blocks)
      return (block - s.first) % s.blocks == 0 ? std::optional(SlotPlace{block, s.blocks})
                                               : std::nullopt;
  return std::nullopt;
}

StagedSlots::Chunk& StagedSlots::of(const GroupRef& group, ChunkId chunk) {
  Chunk& c = chunks_[chunk];
  if (c.group != group) {
    CAIRN_ASSERT(c.taken == 0, "a primaryship begins when the changes of the last one have ended");
    c = {};
    c.group = group;
  }
  return c;
}

std::optional<uint32_t> StagedSlots::take(const GroupRef& group, ChunkId chunk, uint32_t blocks,
                                          TimePoint now) {
  Chunk& c = of(group, chunk);
  c.used = now;
  if (c.closed) return std::nullopt;
  for (const Size& s : kSizes) {
    if (s.blocks < blocks) continue;
    for (uint32_t i = 0; i < s.count; ++i) {
      const uint32_t at = s.first + i * s.blocks;
      auto it = c.slots.find(at);
      if (it != c.slots.end() && (it->second.taken || it->second.number > group->committed()))
        continue;
      c.slots[at] = {true, {}};
      ++c.taken;
      return at;
    }
  }
  return std::nullopt;
}

void StagedSlots::free(ChunkId chunk, uint32_t slot) {
  auto it = chunks_.find(chunk);
  it->second.slots.erase(slot);
  --it->second.taken;
  if (it->second.slots.empty() && !it->second.closed) chunks_.erase(it);
}

void StagedSlots::leave(ChunkId chunk, uint32_t slot, ChunkVersion number) {
  Chunk& c = chunks_.at(chunk);
  c.slots.at(slot) = {false, number};
  --c.taken;
}

std::vector<ChunkId> StagedSlots::left(const GroupRef& group) const {
  std::vector<ChunkId> all;
  for (const auto& [id, c] : chunks_)
    if (c.group == group && c.slots.size() > c.taken) all.push_back(id);
  return all;
}

std::vector<StagedSlots::Idle> StagedSlots::idleSince(TimePoint before) const {
  std::map<GroupId, Idle> all;
  for (const auto& [id, c] : chunks_) {
    if (c.closed || c.taken != 0 || c.used >= before) continue;
    Idle& idle = all[c.group->id];
    idle.group = c.group;
    idle.chunks.push_back(id);
  }
  std::vector<Idle> list;
  for (auto& [id, idle] : all) list.push_back(std::move(idle));
  return list;
}

void StagedSlots::forgetOthers() {
  std::erase_if(chunks_, [](const auto& item) {
    return item.second.group->over && item.second.taken == 0 && !item.second.closed;
  });
}

bool StagedSlots::closed(ChunkId chunk) const {
  auto it = chunks_.find(chunk);
  return it != chunks_.end() && it->second.closed;
}

std::optional<ChunkVersion> StagedSlots::settled(ChunkId chunk) const {
  const Chunk& c = chunks_.at(chunk);
  if (c.taken != 0) return std::nullopt;
  ChunkVersion last;
  for (const auto& [at, slot] : c.slots) last = std::max(last, slot.number);
  return last;
}

}  // namespace cairn::osd
