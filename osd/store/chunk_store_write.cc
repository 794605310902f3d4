// Mutations: plan, make data durable, commit, apply.
#include <algorithm>

#include "osd/store/chunk_store.h"

namespace cairn::osd {

namespace {

// From here on data goes to its place first; below, the log carries it (one disk operation instead
// of three before the answer, at the price of writing it twice).
constexpr size_t kDirectBytes = 64 * kKiB;
// Data of one record: with places and checksums well below a quarter of the smallest log.
constexpr uint32_t kInlineBlocks = 512 * kKiB / kBlockSize;
// Chunks of one remove record, and so the work of applying it in one step.
constexpr size_t kRemoveChunks = 8;
// The same for dropGroup(), which also meets chunks of which only the removal is left.
constexpr size_t kDropEntries = 512;
// The metadata's buffer is written behind in steps that do not stall the reactor.
constexpr size_t kMetadataBytes = 128 * kKiB;

Result<void> checkRange(uint64_t offset, uint64_t length) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0 || length == 0 || offset > kChunkSize ||
      length > kChunkSize - offset)
    return fail(Errc::kInvalid, "a range of " + std::to_string(length) + " bytes at " +
                                    std::to_string(offset) + " is not whole blocks of a chunk");
  return {};
}

uint32_t blockOf(uint64_t bytes) {
  return static_cast<uint32_t>(bytes / kBlockSize);
}

// Hands out the blocks of some runs one by one.
class Fresh {
 public:
  explicit Fresh(const std::vector<PhysRun>& runs) : runs_(runs) {}
  PhysBlock next() {
    if (used_ == runs_[at_].count) {
      ++at_;
      used_ = 0;
    }
    return runs_[at_].start + used_++;
  }

 private:
  const std::vector<PhysRun>& runs_;
  size_t at_ = 0;
  uint64_t used_ = 0;
};

enum class Keep { kReserved, kMapped };

// Where each block of the range goes: where it is if `keep` covers that and it is not one of
// `shared`, else to a fresh place.
std::vector<Piece> planPieces(const ChunkMap& chunk, uint32_t first, uint32_t count, Keep keep,
                              const std::vector<bool>& shared, const std::vector<PhysRun>& runs) {
  std::vector<Piece> pieces;
  Fresh fresh(runs);
  uint32_t next = first;
  auto fillTo = [&](uint32_t to) {
    for (; next < to; ++next) appendPiece(pieces, {next, 1, fresh.next()});
  };
  chunk.forRuns(first, count, [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup&) {
    if (run.written && keep == Keep::kReserved) return;
    for (uint32_t i = 0; i < run.count; ++i) {
      if (!shared.empty() && shared[block + i - first]) continue;
      fillTo(block + i);
      appendPiece(pieces, {block + i, 1, run.phys + i});
      next = block + i + 1;
    }
  });
  fillTo(first + count);
  return pieces;
}

}  // namespace

Result<void> ChunkStore::alive() const {
  if (stopped_) return fail(*stopped_);
  return {};
}

std::unexpected<Error> ChunkStore::stop(const Error& error, const std::string& what) {
  if (!stopped_) {
    std::string text = "the store in " + options_.directory + " takes no more changes, its " +
                       what + " failed: " + error.message;
    if (error.code == Errc::kNoSpace)
      text += "; free space on the file system of " + options_.directory +
              " (removing its file `ballast` gives some) and start the daemon again";
    else
      text += "; check the disk, then start the daemon again";
    stopped_ = Error(error.code == Errc::kCanceled ? Errc::kCanceled : Errc::kIo, std::move(text));
  }
  return fail(*stopped_);
}

Result<ChunkRef> ChunkStore::openToChange(ChunkId chunk, uint32_t first, uint32_t count,
                                          GroupId group) {
  auto opened = maps_.open(chunk, first, count);
  TRY(opened);
  if (!(*opened)->mayBeOf(group))
    return fail(Errc::kInvalid, "chunk " + std::to_string(chunk.value) + " is of " +
                                    nameOf((*opened)->header().group) + ", not of " +
                                    nameOf(group));
  return opened;
}

ChunkStore::Occupancy ChunkStore::occupancy(const ChunkMap& chunk, uint32_t first, uint32_t count) {
  Occupancy o;
  chunk.forRuns(first, count, [&](const ExtentGroup::Run& run, uint32_t, const ExtentGroup&) {
    (run.written ? o.written : o.reserved) += run.count;
  });
  o.holes = count - o.written - o.reserved;
  return o;
}

std::vector<bool> ChunkStore::sharedBlocks(const ChunkMap& chunk, uint32_t first,
                                           uint32_t count) const {
  std::vector<bool> shared;
  if (shared_.empty()) return shared;
  chunk.forRuns(first, count, [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup&) {
    if (!run.shared) return;
    for (uint32_t i = 0; i < run.count; ++i) {
      if (!shared_.contains(run.phys + i)) continue;  // the others are gone
      if (shared.empty()) shared.resize(count);
      shared[block + i - first] = true;
    }
  });
  return shared;
}

Task<Result<std::vector<PhysRun>>> ChunkStore::takeBlocks(const ChunkMap& chunk, uint32_t first,
                                                          uint64_t blocks, uint64_t overwriting) {
  std::vector<PhysRun> runs;
  if (blocks == 0) co_return runs;
  const uint64_t growth = blocks - overwriting;
  for (;;) {
    uint64_t free = allocator_.freeBlocks();
    uint64_t soon = free + guard_.retiredBlocks();
    if (soon < blocks || (growth > 0 && soon < growth + reserveBlocks_))
      co_return fail(Errc::kNoSpace, "the store in " + options_.directory +
                                         " is full: " + std::to_string(soon * kBlockSize / kMiB) +
                                         " MiB are free");
    if (free >= blocks) break;
    co_await guard_.someReleased();
  }
  PhysBlock hint = kMaxPhysBlocks;
  if (first > 0 && chunk.loaded((first - 1) / kGroupBlocks))
    if (auto before = chunk.place(first - 1); before.mapped) hint = before.phys + 1;
  allocator_.take(blocks, hint, runs);
  co_return runs;
}

// ---- Writing ----

Task<Result<void>> ChunkStore::write(ChunkId chunk, uint32_t offset, Buffer data,
                                     std::vector<uint32_t> crcs, Stamp stamp, InParts inParts) {
  CO_TRY(checkRange(offset, data.size()));
  const uint32_t first = blockOf(offset), count = blockOf(data.size());
  if (crcs.size() != count)
    co_return fail(Errc::kInvalid, std::to_string(crcs.size()) + " checksums for " +
                                       std::to_string(count) + " blocks");
  CO_TRY(alive());
  auto opened = openToChange(chunk, first, count, stamp.group);
  CO_TRY(opened);
  ChunkRef map = *opened;  // held to the end: see ChunkMaps::open
  const Occupancy there = occupancy(*map, first, count);
  Record record;
  record.chunk = chunk;
  record.stamp = stamp;
  record.crcs = std::move(crcs);
  if (data.size() >= kDirectBytes) {
    // What others name too stays where it is: to write over that is growth.
    const auto kept = inParts == InParts::kIfNeeded
                          ? 0
                          : std::ranges::count(sharedBlocks(*map, first, count), true);
    auto fresh = co_await takeBlocks(*map, first, there.holes + there.written,
                                     there.written - static_cast<uint32_t>(kept));
    if (fresh) {
      record.kind = RecordKind::kDirect;
      record.pieces = planPieces(*map, first, count, Keep::kReserved, {}, *fresh);
      co_return co_await writeDirect(std::move(record), std::move(data), std::move(*fresh));
    }
    // A full store still takes overwrites, in place through the log.
    if (there.written == 0 || (count > kInlineBlocks && inParts == InParts::kNever))
      co_return fail(std::move(fresh).error());
  }
  // What others name too is not overwritten: it gets places of its own, out of the reserve if need
  // be.
  const std::vector<bool> shared = sharedBlocks(*map, first, count);
  const auto copies = static_cast<uint64_t>(std::count(shared.begin(), shared.end(), true));
  auto fresh = co_await takeBlocks(*map, first, there.holes + copies, copies);
  CO_TRY(fresh);
  record.kind = RecordKind::kInline;
  record.pieces = planPieces(*map, first, count, Keep::kMapped, shared, *fresh);
  co_return co_await writeInline(std::move(record), std::move(data));
}

Task<Result<void>> ChunkStore::writePiece(Buffer data, uint64_t offset) {
  co_await dataWrites_.acquire();
  std::vector<Buffer> parts;
  parts.push_back(std::move(data));
  auto written = co_await files_.file->write(std::move(parts), offset, false);
  dataWrites_.release();
  co_return written;
}

Task<Result<void>> ChunkStore::writeData(const std::vector<Piece>& pieces, Buffer data) {
  std::vector<Task<Result<void>>> writes;
  size_t at = 0;
  for (const Piece& piece : pieces) {
    size_t bytes = piece.count * kBlockSize;
    writes.push_back(writePiece(data.slice(at, bytes), files_.superblock.offsetOf(piece.phys)));
    at += bytes;
  }
  if (writes.size() == 1) co_return co_await std::move(writes[0]);
  for (auto& r : co_await whenAll(env_.reactor, std::move(writes))) CO_TRY(r);
  co_return {};
}

Task<Result<void>> ChunkStore::writeDirect(Record record, Buffer data, std::vector<PhysRun> fresh) {
  if (auto written = co_await writeData(record.pieces, std::move(data)); !written) {
    guard_.retire(fresh);  // nobody names them
    co_return written;
  }
  // The log's durable write does not carry other data with it: a device with forced unit access
  // makes just that write durable. So the data is flushed before the record that names it exists.
  if (auto synced = co_await dataSync_.sync(); !synced) co_return stop(synced.error(), "disk");
  co_return co_await commit(std::move(record), {});
}

Task<Result<void>> ChunkStore::writeInline(Record record, Buffer data) {
  // Our own copy: a slice of a receive buffer would keep all of that until the data is in place.
  data = env_.buffers.copyOf(data.bytes());
  if (record.crcs.size() <= kInlineBlocks)
    co_return co_await commit(std::move(record), std::move(data));
  Record part{record.kind, record.stamp, record.chunk, {}, {}, {}};
  uint32_t done = 0;
  for (Piece piece : record.pieces) {
    while (piece.count > 0) {
      uint32_t room = kInlineBlocks - static_cast<uint32_t>(part.crcs.size());
      uint32_t n = std::min(piece.count, room);
      part.pieces.push_back({piece.first, n, piece.phys});
      part.crcs.insert(part.crcs.end(), record.crcs.begin() + done + part.crcs.size(),
                       record.crcs.begin() + done + part.crcs.size() + n);
      piece = {piece.first + n, piece.count - n, piece.phys + n};
      auto blocks = static_cast<uint32_t>(part.crcs.size());
      if (blocks < kInlineBlocks && done + blocks < record.crcs.size()) continue;
      Buffer slice = data.slice(done * kBlockSize, blocks * kBlockSize);
      CO_TRY(co_await commit(part, std::move(slice)));
      done += blocks;
      part.pieces.clear();
      part.crcs.clear();
    }
  }
  co_return {};
}

// ---- The other mutations ----

Task<Result<void>> ChunkStore::zero(ChunkId chunk, uint32_t offset, uint32_t length, Stamp stamp) {
  CO_TRY(checkRange(offset, length));
  CO_TRY(alive());
  const uint32_t first = blockOf(offset), count = blockOf(length);
  auto opened = openToChange(chunk, first, count, stamp.group);
  CO_TRY(opened);
  ChunkRef map = *opened;
  if (!map->exists()) co_return {};  // all hole already
  Record record;
  record.kind = RecordKind::kZero;
  record.chunk = chunk;
  record.stamp = stamp;
  record.pieces.push_back({first, count, 0});
  co_return co_await commit(std::move(record), {});
}

Task<Result<void>> ChunkStore::allocate(ChunkId chunk, uint32_t offset, uint32_t length,
                                        Stamp stamp) {
  CO_TRY(checkRange(offset, length));
  CO_TRY(alive());
  const uint32_t first = blockOf(offset), count = blockOf(length);
  auto opened = openToChange(chunk, first, count, stamp.group);
  CO_TRY(opened);
  ChunkRef map = *opened;
  auto fresh = co_await takeBlocks(*map, first, occupancy(*map, first, count).holes, 0);
  CO_TRY(fresh);
  Record record;
  record.kind = RecordKind::kReserve;
  record.chunk = chunk;
  record.stamp = stamp;
  // Only the holes: what has a place keeps it, and its data.
  Fresh places(*fresh);
  uint32_t next = first;
  auto fillTo = [&](uint32_t to) {
    for (; next < to; ++next) appendPiece(record.pieces, {next, 1, places.next()});
  };
  map->forRuns(first, count, [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup&) {
    fillTo(block);
    next = block + run.count;
  });
  fillTo(first + count);
  co_return co_await commit(std::move(record), {});
}

Task<Result<void>> ChunkStore::clone(ChunkId source, uint32_t sourceOffset, ChunkId target,
                                     uint32_t targetOffset, uint32_t length, Stamp stamp) {
  CO_TRY(checkRange(sourceOffset, length));
  CO_TRY(checkRange(targetOffset, length));
  if (source == target && sourceOffset < uint64_t{targetOffset} + length &&
      targetOffset < uint64_t{sourceOffset} + length)
    co_return fail(Errc::kInvalid, "source and target of a clone overlap");
  CO_TRY(alive());
  Record record;
  record.kind = RecordKind::kClone;
  record.chunk = target;
  record.stamp = stamp;
  record.clone = {source, blockOf(sourceOffset), blockOf(targetOffset), blockOf(length)};
  const CloneRange& range = record.clone;
  auto from = maps_.open(source, range.sourceFirst, range.count);
  CO_TRY(from);
  auto to = openToChange(target, range.first, range.count, stamp.group);
  CO_TRY(to);
  if (!(*from)->exists())
    co_return fail(Errc::kNotFound, "chunk " + std::to_string(source.value) + " does not exist");
  (*from)->forRuns(range.sourceFirst, range.count,
                   [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup& group) {
                     if (!run.written) return;
                     const uint32_t at = block - range.sourceFirst + range.first;
                     appendPiece(record.pieces, {at, run.count, run.phys});
                     for (uint32_t i = 0; i < run.count; ++i)
                       record.crcs.push_back(group.crc(run.first + i));
                   });
  co_return co_await commit(std::move(record), {});
}

Task<Result<void>> ChunkStore::remove(std::vector<ChunkId> chunks, Stamp stamp) {
  CO_TRY(alive());
  Record record;
  record.kind = RecordKind::kRemove;
  for (size_t done = 0; done < chunks.size(); done += record.chunks.size()) {
    const auto from = chunks.begin() + static_cast<ptrdiff_t>(done);
    const size_t n = std::min(kRemoveChunks, chunks.size() - done);
    record.chunks.assign(from, from + static_cast<ptrdiff_t>(n));
    record.stamp = stamp;
    record.stamp.version.value += done;
    std::vector<ChunkRef> held;
    for (ChunkId id : record.chunks) {
      auto opened = openToChange(id, 0, kChunkBlocks, stamp.group);
      CO_TRY(opened);
      held.push_back(*opened);
    }
    CO_TRY(co_await commit(record, {}));
  }
  co_return {};
}

Result<void> ChunkStore::trimRemovals(GroupId group, ChunkVersion upTo) {
  TRY(alive());
  if (auto trimmed = maps_.trimRemovals(group, upTo); !trimmed)
    return stop(trimmed.error(), "metadata");
  if (metadata_.bufferedBytes() >= kMetadataBytes)
    if (auto flushed = maps_.flush(applied_); !flushed) return stop(flushed.error(), "metadata");
  return {};
}

// Chunks go as removed ones do, but nothing of them is remembered: what is left of the group after
// a crash is whole, and the same again drops it.
Task<Result<void>> ChunkStore::dropGroup(GroupId group) {
  CO_TRY(alive());
  const std::vector<GroupId> known = history_.groups();
  if (!std::binary_search(known.begin(), known.end(), group)) co_return {};
  Record record;
  record.stamp.group = group;
  record.kind = RecordKind::kDrop;
  for (Changed last;;) {
    auto some = changes(group, last, kDropEntries);
    CO_TRY(some);
    if (some->empty()) break;
    record.chunks.clear();
    std::vector<ChunkRef> held;
    size_t existing = 0;
    for (const Changed& change : *some) {
      if (!change.removed && ++existing > kRemoveChunks) break;
      auto opened = maps_.openAll(change.chunk);
      CO_TRY(opened);
      const ChunkMap& map = **opened;
      if (map.exists() == change.removed || map.header().version != change.version ||
          !map.mayBeOf(group))
        co_return fail(Errc::kCorrupt, nameOf(group) +
                                           ": its history does not know the last change of chunk " +
                                           std::to_string(change.chunk.value) +
                                           ": rebuild this store from its replicas");
      held.push_back(*opened);
      record.chunks.push_back(change.chunk);
      last = change;
    }
    CO_TRY(co_await commit(record, {}));
  }
  record.kind = RecordKind::kForget;
  record.chunks.clear();
  co_return co_await commit(record, {});
}

// ---- Commit ----

Task<Result<void>> ChunkStore::commit(Record record, Buffer data) {
  CO_TRY(alive());
  std::string head = record.encode();
  std::vector<Buffer> parts;
  parts.push_back(env_.buffers.copyOf(bytesOf(head)));
  if (!data.empty()) parts.push_back(data);
  auto lsn = co_await log_->append(std::move(parts));
  if (!lsn) co_return stop(lsn.error(), "log");
  // Records behind one that could not be applied are not applied either: recovery does it all.
  CO_TRY(alive());
  CAIRN_ASSERT(*lsn == applied_ + 1, "records are applied in the order of the log");
  ChunkMaps::Renamed renamed;
  if (auto applied = maps_.apply(record, renamed); !applied)
    co_return stop(applied.error(), "metadata");
  applied_ = *lsn;
  for (const PhysRun& run : renamed.gained) shared_.add(run);
  forgetNames(renamed.lost);
  if (record.kind == RecordKind::kInline) applyData(record, *lsn, std::move(data));
  if (metadata_.bufferedBytes() >= kMetadataBytes)
    if (auto flushed = maps_.flush(applied_); !flushed) co_return stop(flushed.error(), "metadata");
  startFlush();
  startCheckpoint();
  co_return {};
}

// What nobody names any more is free.
void ChunkStore::forgetNames(const std::vector<PhysRun>& lost) {
  std::vector<PhysRun> freed;
  for (const PhysRun& run : lost) shared_.release(run, freed);
  for (const PhysRun& run : freed) deferred_.drop(run);
  guard_.retire(freed);
}

void ChunkStore::applyData(const Record& record, Lsn lsn, Buffer data) {
  size_t at = 0;
  for (const Piece& piece : record.pieces)
    for (uint32_t i = 0; i < piece.count; ++i, at += kBlockSize)
      deferred_.put(piece.phys + i, {data.slice(at, kBlockSize), lsn});
}

}  // namespace cairn::osd
