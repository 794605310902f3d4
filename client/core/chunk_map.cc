#include "client/core/chunk_map.h"

#include <algorithm>

namespace cairn::client {

namespace {
constexpr uint32_t kMaxAhead = 8;
constexpr uint64_t kMaxChunks = kMaxFileSize / kChunkSize;
}  // namespace

void ChunkMap::note(const ChunkList& list, uint32_t first, uint32_t count) {
  chunks_.erase(chunks_.lower_bound(first), chunks_.lower_bound(first + count));
  for (const auto& [index, addr] : list.chunks)
    if (index >= first && index < first + count) chunks_[index] = addr;
  known_.add(first, uint64_t{first} + count);
}

void ChunkMap::learn(const ServerEntry& entry) {
  forget();
  const auto& list = entry.chunks.chunks;
  for (const auto& [index, addr] : list) chunks_[index] = addr;
  // The answer holds the chunks of the first indexes: all there are, if that is as many as the
  // inode counts; a sparse file may have more far behind.
  known_.add(0, list.size() == entry.attr.chunkCount ? kMaxChunks : kFirstChunks);
}

Task<Result<std::optional<ChunkAddr>>> ChunkMap::find(uint32_t index) {
  AsyncMutex::Guard lock;
  for (bool locked = false;; locked = true) {
    if (auto it = chunks_.find(index); it != chunks_.end()) co_return it->second;
    if (known_.contains(index)) co_return std::nullopt;
    if (!locked) {
      lock = co_await asking_.lock();  // perhaps somebody asks already
      continue;
    }
    CO_TRY(co_await ask(index));
  }
}

Task<Result<void>> ChunkMap::ask(uint32_t index) {
  uint32_t first = index - index % kMaxChunksPerCall;
  uint64_t changes = changes_;
  auto list = co_await mds_.chunks(ino_, first, kMaxChunksPerCall);
  CO_TRY(list);
  if (changes == changes_) note(*list, first, kMaxChunksPerCall);
  co_return Result<void>{};
}

Task<Result<std::optional<uint32_t>>> ChunkMap::firstFrom(uint32_t index, uint32_t end) {
  while (index < end) {
    uint64_t knownTo = known_.endOf(index);
    auto it = chunks_.lower_bound(index);
    if (it != chunks_.end() && it->first < std::min<uint64_t>(knownTo, end)) co_return it->first;
    if (knownTo >= end) break;
    index = static_cast<uint32_t>(knownTo);
    auto lock = co_await asking_.lock();
    if (!known_.contains(index)) CO_TRY(co_await ask(index));
  }
  co_return std::nullopt;
}

Task<Result<ChunkAddr>> ChunkMap::make(uint32_t index) {
  if (auto it = chunks_.find(index); it != chunks_.end()) co_return it->second;
  auto lock = co_await asking_.lock();
  if (auto it = chunks_.find(index); it != chunks_.end()) co_return it->second;
  ahead_ = index == lastMade_ + 1 ? std::min(ahead_ * 2, kMaxAhead) : 1;
  auto count = static_cast<uint32_t>(std::min<uint64_t>(ahead_, kMaxChunks - index));
  auto list = co_await mds_.allocChunks(ino_, index, count);
  CO_TRY(list);
  ++changes_;
  note(*list, index, count);
  lastMade_ = index + count - 1;
  if (auto it = chunks_.find(index); it != chunks_.end()) co_return it->second;
  co_return fail(Errc::kBadMessage, "the MDS made no chunk");
}

Task<Result<ChunkAddr>> ChunkMap::makeNear(uint32_t index, std::vector<ChunkId> near,
                                           bool replace) {
  auto lock = co_await asking_.lock();
  if (auto it = chunks_.find(index); it != chunks_.end() && !replace) co_return it->second;
  const auto count = static_cast<uint32_t>(near.size());
  auto list = co_await mds_.allocChunks(ino_, index, count, std::move(near));
  CO_TRY(list);
  ++changes_;
  note(*list, index, count);
  if (auto it = chunks_.find(index); it != chunks_.end()) co_return it->second;
  co_return fail(Errc::kBadMessage, "the MDS made no chunk");
}

Task<Result<void>> ChunkMap::makeRange(uint32_t first, uint32_t count) {
  auto lock = co_await asking_.lock();
  while (count != 0) {
    uint32_t n = std::min(count, kMaxChunksPerCall);
    auto list = co_await mds_.allocChunks(ino_, first, n);
    CO_TRY(list);
    ++changes_;
    note(*list, first, n);
    first += n;
    count -= n;
  }
  co_return Result<void>{};
}

void ChunkMap::truncated(uint32_t index) {
  ++changes_;
  chunks_.erase(chunks_.lower_bound(index), chunks_.end());
  known_.remove(index, kMaxChunks);
  lastMade_ = index == 0 ? 0 : index - 1;
  ahead_ = 1;
}

void ChunkMap::removed(uint32_t first, uint32_t count) {
  ++changes_;
  chunks_.erase(chunks_.lower_bound(first), chunks_.lower_bound(first + count));
  known_.add(first, uint64_t{first} + count);
}

void ChunkMap::doubt(uint32_t index, ChunkAddr addr) {
  auto it = chunks_.find(index);
  if (it == chunks_.end() || it->second != addr) return;
  ++changes_;
  chunks_.erase(it);
  known_.remove(index, uint64_t{index} + 1);
}

void ChunkMap::forget() {
  ++changes_;
  chunks_.clear();
  known_.clear();
}

}  // namespace cairn::client
