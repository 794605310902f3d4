// What happens when a store is opened: the log is replayed into the maps, the free space is rebuilt
// from them, and the data that was only in the log goes to its places.
#include <bit>

#include "common/crc/crc32c.h"
#include "osd/store/chunk_store.h"

namespace cairn::osd {

// ---- Replayer ----

void Replayer::drop(PhysRun run) {
  deferred_.erase(deferred_.lower_bound(run.start), deferred_.lower_bound(run.start + run.count));
}

Result<void> Replayer::replay(Lsn lsn, Bytes bytes) {
  if (lsn > applied_ + 1)
    return fail(Errc::kCorrupt,
                "the store's metadata ends at record " + std::to_string(applied_) +
                    ", but its log starts at " + std::to_string(lsn) +
                    ": the metadata is older than the data, rebuild this store from its replicas");
  Bytes data;
  auto record = Record::decode(bytes, superblock_.dataBlocks, data);
  if (!record)
    return fail(Errc::kCorrupt, "record " + std::to_string(lsn) +
                                    " of the store's log is malformed although its checksum "
                                    "matches: rebuild this store from its replicas");
  if (lsn == applied_ + 1) {
    ChunkMaps::Renamed renamed;  // counted when all is replayed
    TRY(maps_.apply(*record, renamed));
    applied_ = lsn;
  }
  // Whatever older data the log has for these places is void now, whoever it belonged to. A place
  // that only lost a name keeps it: it may have others, and nothing is written there again without
  // a record of its own.
  if (record->kind == RecordKind::kDirect || record->kind == RecordKind::kReserve)
    for (const Piece& piece : record->pieces) drop({piece.phys, piece.count});
  if (record->kind == RecordKind::kInline)
    for (const Piece& piece : record->pieces)
      for (uint32_t i = 0; i < piece.count; ++i) {
        deferred_.insert_or_assign(
            piece.phys + i,
            DeferredWrites::Entry{env_.buffers.copyOf(data.first(kBlockSize)), lsn});
        data = data.subspan(kBlockSize);
      }
  return {};
}

// ---- MapScanner ----

MapScanner::MapScanner(Metadata& metadata, const Superblock& superblock, Problem problem,
                       VisitHeader visitHeader)
    : metadata_(metadata),
      superblock_(superblock),
      problem_(std::move(problem)),
      visitHeader_(std::move(visitHeader)),
      from_(1, keys::kChunkPrefix),
      used_((superblock.dataBlocks + 63) / 64) {}

void MapScanner::report(const std::string& what) {
  if (!problem_(what) && !fatal_) fatal_ = what;
}

void MapScanner::finishChunk() {
  if (chunk_ && expected_ != counted_)
    report("chunk " + std::to_string(chunk_->value) + ": its header counts " +
           std::to_string(expected_) + " blocks, its map has " + std::to_string(counted_));
  chunk_.reset();
}

bool MapScanner::entry(std::string_view key, std::string_view value, const Visit& visit) {
  auto k = keys::parse(key);
  if (!k) {
    report("the metadata has an entry of unknown kind");
    return !fatal_;
  }
  const std::string name = "chunk " + std::to_string(k->chunk.value);
  if (chunk_ != k->chunk) {
    finishChunk();
    chunk_ = k->chunk;
    expected_ = counted_ = 0;
    ++chunks_;
    if (k->group) report(name + " has a map but no header");
  }
  if (!k->group) {
    auto header = ChunkHeader::decode(key, value);
    if (!header) {
      report(name + ": its header is damaged");
      return !fatal_;
    }
    expected_ = header->blocks;
    if (visitHeader_) visitHeader_(k->chunk, *header);
    return !fatal_;
  }
  auto group = ExtentGroup::decode(key, value, superblock_.dataBlocks);
  if (!group) {
    report(name + ": its map at block " + std::to_string(*k->group * kGroupBlocks) +
           " is damaged or points outside the store");
    return !fatal_;
  }
  counted_ += group->blocks();
  for (const auto& run : group->runs()) {
    for (PhysBlock b = run.phys; b < run.phys + run.count; ++b) {
      uint64_t bit = uint64_t{1} << b % 64;
      if ((used_[b / 64] & bit) == 0)
        ++usedBlocks_;
      else if (!run.shared || !shared_.contains(b))
        report(name + " uses block " + std::to_string(b) + " of the store, which is used already");
      used_[b / 64] |= bit;
    }
    if (run.shared) shared_.add({run.phys, run.count});
  }
  if (visit) visit(k->chunk, *k->group, *group);
  return !fatal_;
}

Result<bool> MapScanner::next(size_t groups, const Visit& visit) {
  size_t seen = 0;
  bool more = false;
  TRY(metadata_.scan(from_, [&](auto key, auto value) {
    if (key.empty() || key.front() != keys::kChunkPrefix) return false;
    if (seen == groups) {
      from_ = std::string(key);
      more = true;
      return false;
    }
    ++seen;
    return entry(key, value, visit);
  }));
  if (!more) finishChunk();
  if (fatal_) return fail(Errc::kCorrupt, *fatal_);
  return more;
}

SharedPlaces MapScanner::takeShared() {
  shared_.discountFirst();
  return std::move(shared_);
}

void MapScanner::addFree(Allocator& allocator) const {
  const uint64_t blocks = superblock_.dataBlocks;
  PhysBlock start = 0;  // of the free run that is open
  for (PhysBlock b = 0; b < blocks;) {
    uint64_t word = used_[b / 64] >> b % 64;
    uint64_t inWord = std::min<uint64_t>(64 - b % 64, blocks - b);
    uint64_t free = std::min<uint64_t>(static_cast<uint64_t>(std::countr_zero(word)), inWord);
    b += free;
    if (free == inWord) continue;  // the run goes on in the next word
    allocator.add({start, b - start});
    uint64_t used =
        std::min<uint64_t>(static_cast<uint64_t>(std::countr_one(word >> free)), inWord - free);
    b += used;
    start = b;
  }
  allocator.add({start, blocks - start});
}

// ---- ChunkStore ----

Task<Result<void>> ChunkStore::recover() {
  constexpr size_t kBufferedBytes = kMiB;
  CO_TRY(history_.load());
  Replayer replayer(env_, files_.superblock, maps_, deferred_.entries(), applied_);
  auto log = co_await RingLog::open(env_, files_.logFile(), files_.superblock.wal(), uuid(),
                                    [this, &replayer](Lsn lsn, Bytes bytes) -> Result<void> {
                                      TRY(replayer.replay(lsn, bytes));
                                      if (metadata_.bufferedBytes() >= kBufferedBytes)
                                        TRY(maps_.flush(replayer.applied()));
                                      return {};
                                    });
  CO_TRY(log);
  log_ = std::move(*log);
  applied_ = replayer.applied();
  auto finished = co_await finishRecovery();
  if (!finished) co_await log_->close();
  co_return finished;
}

Task<Result<void>> ChunkStore::finishRecovery() {
  if (applied_ != log_->lastAppended())
    co_return fail(Errc::kCorrupt,
                   "the metadata of the store in " + options_.directory + " is at record " +
                       std::to_string(applied_) + ", its log at " +
                       std::to_string(log_->lastAppended()) +
                       ": one of them was replaced or lost writes; rebuild this store from its "
                       "replicas");
  CO_TRY(scanMaps());
  if (log_->usedBytes() > 0) {
    CO_TRY(co_await checkpoint());
    CO_TRY(co_await log_->checkpoint());
  }
  co_return {};
}

// What the maps name is used; what the log kept for a place counts if it is what they say is there.
// The rest was freed or overwritten since, by changes that the metadata had already.
Result<void> ChunkStore::scanMaps() {
  MapScanner scanner(metadata_, files_.superblock, [](const std::string&) { return false; });
  DeferredWrites::Map& kept = deferred_.entries();
  DeferredWrites::Map current;
  auto confirm = [&](ChunkId, uint32_t, const ExtentGroup& group) {
    for (const auto& run : group.runs()) {
      if (!run.written) continue;
      for (auto it = kept.lower_bound(run.phys);
           it != kept.end() && it->first < run.phys + run.count;) {
        auto entry = it++;
        const auto block = run.first + static_cast<uint32_t>(entry->first - run.phys);
        if (crc32c(entry->second.data.bytes()) == group.crc(block))
          current.insert(kept.extract(entry));
      }
    }
  };
  for (;;) {
    auto more = scanner.next(SIZE_MAX, confirm);
    TRY(more);
    if (!*more) break;
  }
  kept = std::move(current);
  scanner.addFree(allocator_);
  shared_ = scanner.takeShared();
  maps_.setChunks(scanner.chunks());
  CAIRN_ASSERT(allocator_.freeBlocks() + scanner.usedBlocks() == files_.superblock.dataBlocks,
               "a block is either used or free");
  return {};
}

}  // namespace cairn::osd
