#include "client/core/block_cache.h"

#include "client/core/chunk_io.h"

namespace cairn::client {

BlockCache::Blocks::iterator BlockCache::erase(Blocks::iterator it) {
  used_ -= it->second.bytes.size();
  ages_.erase(it->second.age);
  return blocks_.erase(it);
}

std::optional<Buffer> BlockCache::find(InodeId ino, uint64_t index, uint64_t length) {
  auto it = blocks_.find({ino, index});
  if (it == blocks_.end()) return std::nullopt;
  if (it->second.bytes.size() < length) {
    erase(it);
    return std::nullopt;
  }
  ages_.splice(ages_.begin(), ages_, it->second.age);
  return it->second.bytes;
}

bool BlockCache::holds(InodeId ino, uint64_t index) const {
  return blocks_.contains({ino, index});
}

std::shared_ptr<BlockCache::Fill> BlockCache::filling(InodeId ino, uint64_t index) const {
  auto it = fills_.find({ino, index});
  return it == fills_.end() ? nullptr : it->second;
}

std::shared_ptr<BlockCache::Fill> BlockCache::begin(InodeId ino, uint64_t index) {
  auto fill = std::make_shared<Fill>(reactor_);
  fill->ino = ino;
  fill->index = index;
  auto [it, fresh] = fills_.insert_or_assign({ino, index}, fill);
  return it->second;
}

void BlockCache::finish(const std::shared_ptr<Fill>& fill, Result<Buffer> result) {
  Key key{fill->ino, fill->index};
  // An invalidated fill was taken out, and its place may belong to a newer one.
  if (auto it = fills_.find(key); it != fills_.end() && it->second == fill) fills_.erase(it);
  if (fill->current && result && !result->empty()) {
    if (auto it = blocks_.find(key); it != blocks_.end()) erase(it);
    ages_.push_front(key);
    used_ += result->size();
    blocks_.emplace(key, Block{*result, ages_.begin()});
    while (used_ > limit_ && !ages_.empty()) erase(blocks_.find(ages_.back()));
  }
  fill->result = std::move(result);
  fill->done.set();
}

void BlockCache::invalidate(InodeId ino, uint64_t from, uint64_t to) {
  if (from >= to) return;
  Key first{ino, from / kPieceSize};
  uint64_t last = (to - 1) / kPieceSize;
  for (auto it = blocks_.lower_bound(first);
       it != blocks_.end() && it->first.first == ino && it->first.second <= last;)
    it = erase(it);
  for (auto it = fills_.lower_bound(first);
       it != fills_.end() && it->first.first == ino && it->first.second <= last;) {
    it->second->current = false;
    it = fills_.erase(it);
  }
}

}  // namespace cairn::client
