#include "osd/store/chunk_store.h"

#include <algorithm>

namespace cairn::osd {

namespace {
// So much waits in memory for its place before it is written there; more merges better, and costs
// memory and recovery time.
constexpr uint64_t kDeferredBytes = 8 * kMiB;
// Data writes in flight past the log.
constexpr uint64_t kDataWrites = 64;
// The reserve may not eat a small store.
constexpr uint64_t kReserveShare = 8;
// Room that clients may fill with what they have buffered before they learn how little there is.
constexpr uint64_t kLittleShare = 50, kLittleBlocks = kGiB / kBlockSize;
// list() passes over so many groups of a chunk before it seeks the next chunk.
constexpr int kSkippedGroups = 8;
}  // namespace

ChunkStore::ChunkStore(Env& env, StoreOptions options, StoreFiles files)
    : env_(env),
      options_(std::move(options)),
      files_(std::move(files)),
      metadata_(std::move(files_.kv)),
      history_(metadata_),
      maps_(metadata_, history_, files_.superblock.dataBlocks, options_.cacheBytes),
      guard_(env.reactor, allocator_),
      deferred_(env, *files_.file, files_.superblock, guard_),
      dataSync_(env.reactor, *files_.file),
      dataWrites_(env.reactor, kDataWrites),
      applied_(files_.applied),
      reserveBlocks_(std::min(options_.reserveBytes / kBlockSize,
                              files_.superblock.dataBlocks / kReserveShare)),
      background_(env.reactor) {}

Task<Result<std::unique_ptr<Store>>> Store::open(Env& env, StoreOptions options) {
  auto files = co_await openStoreFiles(env, options, true);
  CO_TRY(files);
  auto store = std::make_unique<ChunkStore>(env, std::move(options), std::move(*files));
  CO_TRY(co_await store->recover());
  co_return std::unique_ptr<Store>(std::move(store));
}

Task<void> ChunkStore::close() {
  co_await background_.join();
  if (!stopped_) {
    if (auto done = co_await checkpoint(); !done) (void)stop(done.error(), "checkpoint");
  }
  co_await log_->close();
}

Task<Result<void>> ChunkStore::recordOsdId(OsdId id) {
  CO_TRY(alive());
  Encoder e;
  e.put(id.value);
  if (auto put = metadata_.putDurably(keys::kOsdId, e.out()); !put)
    co_return stop(put.error(), "metadata");
  files_.osdId = id;
  co_return {};
}

Result<void> ChunkStore::putNote(std::string_view name, std::string value) {
  TRY(alive());
  metadata_.put(keys::note(name), std::move(value));
  return {};
}

Result<std::string> ChunkStore::note(std::string_view name) {
  auto value = metadata_.get(keys::note(name));
  TRY(value);
  return value->value_or(std::string());
}

// ---- Queries ----

Result<std::optional<Changed>> ChunkStore::lastChange(ChunkId chunk) {
  auto opened = maps_.openHeader(chunk);
  TRY(opened);
  return (*opened)->lastChange();
}

Result<std::optional<ChunkInfo>> ChunkStore::stat(ChunkId chunk) {
  auto opened = maps_.openHeader(chunk);
  TRY(opened);
  const ChunkMap& map = **opened;
  if (!map.exists()) return std::optional<ChunkInfo>();
  return ChunkInfo{map.header().group, map.header().version, map.header().blocks};
}

Result<std::vector<std::pair<uint32_t, uint32_t>>> ChunkStore::extents(ChunkId chunk,
                                                                       uint32_t offset,
                                                                       size_t limit) {
  std::vector<std::pair<uint32_t, uint32_t>> out;
  if (offset >= kChunkSize) return out;
  auto first = static_cast<uint32_t>(offset / kBlockSize);
  auto opened = maps_.open(chunk, first, kChunkBlocks - first);
  TRY(opened);
  bool full = false;
  (*opened)->forRuns(first, kChunkBlocks - first,
                     [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup&) {
                       if (!run.written || full) return;
                       auto from = std::max(offset, block * static_cast<uint32_t>(kBlockSize));
                       auto to = (block + run.count) * static_cast<uint32_t>(kBlockSize);
                       if (!out.empty() && out.back().first + out.back().second == from)
                         out.back().second += to - from;
                       else if (out.size() == limit)
                         full = true;
                       else
                         out.emplace_back(from, to - from);
                     });
  return out;
}

Result<bool> ChunkStore::isHole(ChunkId chunk, uint32_t offset, uint32_t length) {
  const auto first = static_cast<uint32_t>(offset / kBlockSize);
  const auto count = static_cast<uint32_t>(length / kBlockSize);
  auto opened = maps_.open(chunk, first, count);
  TRY(opened);
  return occupancy(**opened, first, count).written == 0;
}

Result<std::vector<ListedChunk>> ChunkStore::list(ChunkId after, size_t limit) {
  std::vector<ListedChunk> out;
  uint64_t next = after.value;
  bool end = next == UINT64_MAX;
  while (!end && out.size() < limit) {
    end = true;
    std::optional<Error> bad;
    int skipped = 0;
    TRY(metadata_.scan(keys::header(ChunkId(next + 1)), [&](auto key, auto value) {
      auto k = keys::parse(key);
      if (!k) return false;
      if (k->group) {
        end = ++skipped < kSkippedGroups;
        return end;
      }
      skipped = 0;
      auto header = ChunkHeader::decode(key, value);
      if (!header) {
        bad = Error(Errc::kCorrupt, "the header of chunk " + std::to_string(k->chunk.value) +
                                        " in the store's metadata is damaged");
        return false;
      }
      out.push_back({k->chunk, {header->group, header->version, header->blocks}});
      next = k->chunk.value;
      return out.size() < limit && next != UINT64_MAX;
    }));
    if (bad) return fail(std::move(*bad));
    if (next == UINT64_MAX) break;
  }
  return out;
}

Result<std::vector<Changed>> ChunkStore::changes(GroupId group, Changed after, size_t limit) {
  std::vector<Changed> out;
  if (limit == 0) return out;
  TRY(history_.scan(group, after, [&](const Changed& change) {
    out.push_back(change);
    return out.size() < limit;
  }));
  return out;
}

Space ChunkStore::space() const {
  uint64_t total = files_.superblock.dataBlocks;
  uint64_t free = allocator_.freeBlocks() + guard_.retiredBlocks();
  const uint64_t little = std::max(total / kLittleShare, std::min(kLittleBlocks, total / 4));
  return {total * kBlockSize, (total - free) * kBlockSize, maps_.chunks(),
          free < reserveBlocks_ + little};
}

// ---- Background ----

void ChunkStore::startFlush() {
  if (flushing_ || deferred_.bytes() < kDeferredBytes) return;
  flushing_ = true;
  background_.spawn(flush());
}

Task<void> ChunkStore::flush() {
  while (!stopped_ && deferred_.bytes() >= kDeferredBytes)
    if (auto done = co_await deferred_.flush(); !done) (void)stop(done.error(), "data");
  flushing_ = false;
}

void ChunkStore::startCheckpoint() {
  if (checkpointing_ || log_->usedBytes() <= log_->capacityBytes() / 2) return;
  checkpointing_ = true;
  background_.spawn(runCheckpoints());
}

Task<void> ChunkStore::runCheckpoints() {
  while (!stopped_ && log_->usedBytes() > log_->capacityBytes() / 2)
    if (auto done = co_await checkpoint(); !done) (void)stop(done.error(), "checkpoint");
  checkpointing_ = false;
}

// Everything up to what is applied now leaves the log. Appends go on meanwhile.
Task<Result<void>> ChunkStore::checkpoint() {
  Lsn upTo = applied_;
  CO_TRY(co_await deferred_.flush());
  CO_TRY(co_await dataSync_.sync());
  CO_TRY(maps_.flush(applied_));
  CO_TRY(co_await metadata_.sync());
  log_->trim(upTo);
  co_return {};
}

}  // namespace cairn::osd
