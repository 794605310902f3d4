#include "common/wal/ring_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace cairn::wal {

namespace {

constexpr uint64_t kWindowBlocks = kMiB / kBlockSize;

// Reads the ring in large pieces; what it gave last stays valid until the next call.
class Window {
 public:
  Window(Env& env, File& file, RingGeometry geometry)
      : env_(env), file_(file), geometry_(geometry) {}

  Task<Result<Bytes>> get(uint64_t position, uint64_t blocks) {
    if (position < from_ || position + blocks > from_ + count_) {
      uint64_t want = std::min(std::max(blocks, kWindowBlocks), geometry_.ringBlocks);
      if (want * kBlockSize > buffer_.size()) buffer_ = env_.buffers.get(want * kBlockSize);
      count_ = 0;
      uint64_t first = geometry_.blocksBeforeWrap(position, want);
      CO_TRY(co_await file_.read(buffer_.slice(0, first * kBlockSize),
                                 geometry_.blockOffset(position)));
      if (first < want)
        CO_TRY(co_await file_.read(buffer_.slice(first * kBlockSize, (want - first) * kBlockSize),
                                   geometry_.blockOffset(position + first)));
      from_ = position;
      count_ = want;
    }
    co_return Bytes(buffer_.data() + (position - from_) * kBlockSize, blocks * kBlockSize);
  }

 private:
  Env& env_;
  File& file_;
  RingGeometry geometry_;
  Buffer buffer_;
  uint64_t from_ = 0, count_ = 0;
};

class Reader {
 public:
  Reader(Env& env, File& file, RingLog::Region region, Uuid identity)
      : env_(env),
        file_(file),
        geometry_(region),
        identity_(identity),
        window_(env, file, geometry_) {}

  Task<Result<RingState>> run(RingLog::Replay replay) {
    CO_TRY(co_await readSlots());
    CO_TRY(co_await walk());
    CO_TRY(co_await refuseLaterBatch());
    if (state_.lastLsn < durableLsn_)
      co_return fail(Errc::kCorrupt, damage() + "the log ends there, but records up to " +
                                         std::to_string(durableLsn_) + " were durable once" +
                                         wayOut());
    CO_TRY(co_await deliver(replay));
    co_return std::move(state_);
  }

 private:
  [[nodiscard]] std::string damage() const {
    return "log damaged at offset " + std::to_string(geometry_.blockOffset(state_.head)) +
           " (record " + std::to_string(state_.lastLsn + 1) + "): ";
  }
  static std::string wayOut() {
    return "; opening it would lose acknowledged records: check the disk, then rebuild this store "
           "from its replicas";
  }

  Task<Result<void>> readSlots() {
    Buffer block = env_.buffers.get(kBlockSize);
    std::optional<Slot> best;
    for (uint64_t i = 0; i < kSlots; ++i) {
      CO_TRY(co_await file_.read(block, geometry_.slotOffset(i)));
      auto slot = decodeSlot(block.bytes());
      if (slot && (!best || slot->sequence > best->sequence)) best = slot;
    }
    if (!best)
      co_return fail(Errc::kCorrupt, "no valid checkpoint of a log at offset " +
                                         std::to_string(geometry_.offset) +
                                         ": never formatted, or both copies are damaged");
    if (best->version > kRingVersion)
      co_return fail(Errc::kVersion, "the log has format version " + std::to_string(best->version) +
                                         "; this program knows " + std::to_string(kRingVersion) +
                                         ": use the newer program");
    if (best->identity != identity_)
      co_return fail(Errc::kWrongCluster, "the log belongs to " + best->identity.text() +
                                              ", not to " + identity_.text());
    if (best->ringBlocks != geometry_.ringBlocks)
      co_return fail(Errc::kCorrupt, "the log was made with " + std::to_string(best->ringBlocks) +
                                         " blocks, not " + std::to_string(geometry_.ringBlocks));
    state_.id = {identity_, best->salt};
    state_.slotSequence = best->sequence;
    state_.slotTailPosition = state_.head = best->tailPosition;
    state_.lastLsn = best->tailBatchLsn - 1;
    state_.trimmedLsn = best->trimmedLsn;
    durableLsn_ = best->durableLsn;
    co_return {};
  }

  // Follows the batches from the slot's tail for as long as each is whole and the expected one.
  Task<Result<void>> walk() {
    for (;;) {
      uint64_t left = state_.slotTailPosition + geometry_.ringBlocks - state_.head;
      if (left == 0) break;
      auto block = co_await window_.get(state_.head, 1);
      CO_TRY(block);
      auto header = decodeBatchHeader(*block, state_.id);
      if (!header || header->position != state_.head) break;
      if (header->firstLsn != state_.lastLsn + 1 || header->blocks == 0 || header->records == 0 ||
          header->blocks > left)
        co_return fail(Errc::kCorrupt, damage() + "a batch of record " +
                                           std::to_string(header->firstLsn) + " with " +
                                           std::to_string(header->blocks) + " blocks" + wayOut());
      auto batch = co_await window_.get(state_.head, header->blocks);
      CO_TRY(batch);
      if (!bodyIntact(*header, *batch)) break;
      Lsn last = header->firstLsn + header->records - 1;
      state_.batches.push_back({state_.head, header->blocks, header->firstLsn, last});
      state_.head += header->blocks;
      state_.lastLsn = last;
      state_.trimmedLsn = std::max(state_.trimmedLsn, header->trimmedLsn);
    }
    co_return {};
  }

  // A batch is written only after the one before it is durable. So at the head there may be what is
  // left of a torn batch, but the header of a later one proves that the batch at the head was
  // durable and is damaged (or that both newer checkpoints are, and the tail was overwritten).
  Task<Result<void>> refuseLaterBatch() {
    for (uint64_t at = state_.head; at < state_.slotTailPosition + geometry_.ringBlocks; ++at) {
      auto block = co_await window_.get(at, 1);
      CO_TRY(block);
      auto header = decodeBatchHeader(*block, state_.id);
      if (header && header->position > state_.head &&
          geometry_.blockOffset(header->position) == geometry_.blockOffset(at))
        co_return fail(Errc::kCorrupt, damage() + "a later batch (record " +
                                           std::to_string(header->firstLsn) +
                                           ") exists at offset " +
                                           std::to_string(geometry_.blockOffset(at)) + wayOut());
    }
    co_return {};
  }

  Task<Result<void>> deliver(const RingLog::Replay& replay) {
    for (const auto& place : state_.batches) {
      if (place.lastLsn <= state_.trimmedLsn) continue;
      auto batch = co_await window_.get(place.position, place.blocks);
      CO_TRY(batch);
      auto header = decodeBatchHeader(*batch, state_.id);
      if (!header || header->position != place.position || !bodyIntact(*header, *batch))
        co_return fail(Errc::kIo, "the log at offset " +
                                      std::to_string(geometry_.blockOffset(place.position)) +
                                      " reads differently the second time: check the disk");
      Bytes body = batch->subspan(sizeof *header, header->bodyBytes);
      for (Lsn lsn = place.firstLsn; lsn <= place.lastLsn; ++lsn) {
        uint32_t length = 0;
        if (body.size() >= kLengthBytes) std::memcpy(&length, body.data(), kLengthBytes);
        if (body.size() < kLengthBytes || length > body.size() - kLengthBytes)
          co_return fail(Errc::kCorrupt, "record " + std::to_string(lsn) +
                                             " of the log at offset " +
                                             std::to_string(geometry_.blockOffset(place.position)) +
                                             " runs out of its batch");
        if (lsn > state_.trimmedLsn) CO_TRY(replay(lsn, body.subspan(kLengthBytes, length)));
        body = body.subspan(kLengthBytes + length);
      }
    }
    co_return {};
  }

  Env& env_;
  File& file_;
  RingGeometry geometry_;
  Uuid identity_;
  Window window_;
  RingState state_;
  Lsn durableLsn_ = 0;
};

}  // namespace

Task<Result<RingState>> readRing(Env& env, File& file, RingLog::Region region, Uuid identity,
                                 RingLog::Replay replay) {
  CO_TRY(checkRegion(region));
  if (region.offset + region.length > file.size())
    co_return fail(Errc::kCorrupt,
                   "the log's region ends at " + std::to_string(region.offset + region.length) +
                       ", after the end of its file at " + std::to_string(file.size()));
  Reader reader(env, file, region, identity);
  co_return co_await reader.run(std::move(replay));
}

}  // namespace cairn::wal
