#include "osd/service/chunk_table.h"

namespace cairn::osd {

ChunkTable::Ref ChunkTable::use(ChunkId chunk) {
  auto& entry = entries_[chunk];
  if (!entry) entry = std::make_unique<Entry>(reactor_);
  return {*this, chunk, *entry};
}

void ChunkTable::release(ChunkId chunk, Entry& entry) {
  if (--entry.users == 0) entries_.erase(chunk);
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
