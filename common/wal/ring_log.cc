#include "common/wal/ring_log.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/base/assert.h"
#include "common/reactor/clock.h"
#include "common/wal/ring_format.h"
#include "common/wal/ring_reader.h"

namespace cairn {

namespace {

using namespace wal;

// Enough for the device's full bandwidth; more only adds latency to the first of a batch.
constexpr uint64_t kBatchBytes = kMiB;

class RingWriter final : public RingLog {
 public:
  RingWriter(Env& env, File& file, Region region, RingState state)
      : env_(env),
        file_(file),
        geometry_(region),
        id_(state.id),
        batches_(std::move(state.batches)),
        head_(state.head),
        nextLsn_(state.lastLsn + 1),
        durableLsn_(state.lastLsn),
        trimmedLsn_(state.trimmedLsn),
        slotSequence_(state.slotSequence),
        slotTailPosition_(state.slotTailPosition),
        slotDirty_(false),
        work_(env.reactor),
        space_(env.reactor),
        slotLock_(env.reactor),
        scope_(env.reactor) {
    dropTrimmed();
    slotDirty_ = tailPosition() != slotTailPosition_;
    scope_.spawn(run());
  }

  Task<Result<Lsn>> append(std::vector<Buffer> parts, Lsn* assigned) override {
    if (failed_) co_return fail(*failed_);
    if (closed_) co_return fail(Errc::kCanceled, "the log is closed");
    uint64_t bytes = 0;
    for (const auto& part : parts) bytes += part.size();
    if (blocksFor(kLengthBytes + bytes) > geometry_.maxBatchBlocks())
      co_return fail(Errc::kTooBig, "a record of " + std::to_string(bytes) +
                                        " bytes does not fit a quarter of the log");
    Pending pending{std::move(parts), bytes, nextLsn_++, {}, {}};
    if (assigned) *assigned = pending.lsn;
    queue_.push_back(&pending);
    work_.set();
    co_await pending;
    if (pending.error) co_return fail(std::move(*pending.error));
    co_return pending.lsn;
  }

  void trim(Lsn lsn) override {
    CAIRN_ASSERT(lsn <= durableLsn_, "only records that are durable are trimmed");
    if (lsn <= trimmedLsn_) return;
    trimmedLsn_ = lsn;
    slotDirty_ = true;
    dropTrimmed();
    space_.set();
  }

  Task<Result<void>> checkpoint() override {
    if (failed_) co_return fail(*failed_);
    auto lock = co_await slotLock_.lock();
    co_return co_await writeSlot();
  }

  Lsn lastAppended() const override { return nextLsn_ - 1; }
  uint64_t usedBytes() const override { return (head_ - tailPosition()) * kBlockSize; }
  uint64_t capacityBytes() const override { return geometry_.ringBlocks * kBlockSize; }

  Task<void> close() override {
    closed_ = true;
    work_.set();
    space_.set();
    co_await scope_.join();
    // Not needed for correctness: it makes the next open() short, and a head that rots afterwards
    // is then told from a torn one.
    auto lock = co_await slotLock_.lock();
    if (!failed_ && slotDirty_) (void)co_await writeSlot();
  }

 private:
  // One append() that waits; lives in its frame.
  struct Pending {
    std::vector<Buffer> parts;
    uint64_t bytes;
    Lsn lsn;
    std::optional<Error> error;
    std::coroutine_handle<> waiter;

    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> h) { waiter = h; }
    void await_resume() const {}
  };

  static uint64_t blocksFor(uint64_t bodyBytes) {
    return roundUp(sizeof(BatchHeader) + bodyBytes, kBlockSize) / kBlockSize;
  }
  uint64_t tailPosition() const { return batches_.empty() ? head_ : batches_.front().position; }
  Lsn tailBatchLsn() const {
    return batches_.empty() ? durableLsn_ + 1 : batches_.front().firstLsn;
  }
  void dropTrimmed() {
    while (!batches_.empty() && batches_.front().lastLsn <= trimmedLsn_) batches_.pop_front();
  }

  Task<void> run() {
    while (!failed_) {
      if (queue_.empty()) {
        if (closed_) break;
        work_.reset();
        co_await work_.wait();
        continue;
      }
      uint64_t count = 0, bodyBytes = 0;
      uint64_t limit = std::min(kBatchBytes / kBlockSize, geometry_.maxBatchBlocks());
      for (const auto* p : queue_) {
        uint64_t with = bodyBytes + kLengthBytes + p->bytes;
        if (count > 0 && blocksFor(with) > limit) break;
        bodyBytes = with;
        ++count;
      }
      auto written = co_await waitForRoom(blocksFor(bodyBytes));
      if (written) written = co_await writeBatch(count, bodyBytes);
      if (!written) {
        if (!failed_) failed_ = std::move(written).error();
        break;
      }
      for (; count > 0; --count) finishFirst({});
    }
    while (!queue_.empty()) finishFirst(*failed_);
  }

  void finishFirst(std::optional<Error> error) {
    Pending* p = queue_.front();
    queue_.pop_front();
    p->error = std::move(error);
    env_.reactor.post(p->waiter);
  }

  // What lies between the tail that a durable slot names and the head is never overwritten.
  Task<Result<void>> waitForRoom(uint64_t blocks) {
    while (head_ + blocks > slotTailPosition_ + geometry_.ringBlocks) {
      if (tailPosition() > slotTailPosition_) {
        auto lock = co_await slotLock_.lock();
        if (failed_) co_return fail(*failed_);
        if (tailPosition() > slotTailPosition_) CO_TRY(co_await writeSlot());
        continue;
      }
      if (closed_) co_return fail(Errc::kCanceled, "the log was closed while it was full");
      space_.reset();
      co_await space_.wait();
      if (failed_) co_return fail(*failed_);
    }
    co_return {};
  }

  Task<Result<void>> writeBatch(uint64_t count, uint64_t bodyBytes) {
    uint64_t blocks = blocksFor(bodyBytes);
    Buffer batch = env_.buffers.get(blocks * kBlockSize);
    uint8_t* at = batch.data() + sizeof(BatchHeader);
    for (uint64_t i = 0; i < count; ++i) {
      auto length = static_cast<uint32_t>(queue_[i]->bytes);
      std::memcpy(at, &length, kLengthBytes);
      at += kLengthBytes;
      for (const auto& part : queue_[i]->parts) {
        if (!part.empty()) std::memcpy(at, part.data(), part.size());
        at += part.size();
      }
    }
    std::memset(at, 0, static_cast<size_t>(batch.data() + batch.size() - at));

    BatchHeader header;
    header.identity = id_.identity;
    header.salt = id_.salt;
    header.position = head_;
    header.firstLsn = queue_.front()->lsn;
    header.trimmedLsn = trimmedLsn_;
    header.records = static_cast<uint32_t>(count);
    header.bodyBytes = static_cast<uint32_t>(bodyBytes);
    CAIRN_ASSERT(header.firstLsn == durableLsn_ + 1, "batches follow each other without a gap");
    CAIRN_ASSERT(head_ + blocks <= slotTailPosition_ + geometry_.ringBlocks,
                 "a batch overwrites only what a durable trim freed");
    sealBatch(header, batch.bytes());

    uint64_t first = geometry_.blocksBeforeWrap(head_, blocks) * kBlockSize;
    if (first == batch.size()) {
      CO_TRY(co_await writeDurably(batch, geometry_.blockOffset(head_)));
    } else {
      std::vector<Task<Result<void>>> halves;
      halves.push_back(writeDurably(batch.slice(0, first), geometry_.blockOffset(head_)));
      halves.push_back(
          writeDurably(batch.slice(first, batch.size() - first), geometry_.slotOffset(kSlots)));
      for (auto& r : co_await whenAll(env_.reactor, std::move(halves))) CO_TRY(r);
    }
    durableLsn_ += count;
    batches_.push_back({head_, blocks, header.firstLsn, durableLsn_});
    head_ += blocks;
    slotDirty_ = true;
    co_return {};
  }

  Task<Result<void>> writeDurably(Buffer part, uint64_t offset) {
    std::vector<Buffer> parts;
    parts.push_back(std::move(part));
    co_return co_await file_.write(std::move(parts), offset, true);
  }

  // With slotLock_ held. The slots alternate, so a torn one leaves the older.
  Task<Result<void>> writeSlot() {
    Slot slot;
    slot.identity = id_.identity;
    slot.salt = id_.salt;
    slot.sequence = slotSequence_ + 1;
    slot.ringBlocks = geometry_.ringBlocks;
    slot.tailPosition = tailPosition();
    slot.tailBatchLsn = tailBatchLsn();
    slot.trimmedLsn = trimmedLsn_;
    slot.durableLsn = durableLsn_;
    slotDirty_ = false;
    Buffer block = env_.buffers.get(kBlockSize);
    encodeSlot(slot, block.bytes());
    auto written = co_await writeDurably(block, geometry_.slotOffset(slot.sequence % kSlots));
    if (!written) {
      failed_ = written.error();
      work_.set();
      space_.set();
      co_return fail(std::move(written).error());
    }
    slotSequence_ = slot.sequence;
    slotTailPosition_ = slot.tailPosition;
    co_return {};
  }

  Env& env_;
  File& file_;
  RingGeometry geometry_;
  RingId id_;
  std::deque<BatchPlace> batches_;  // not wholly trimmed, oldest first
  uint64_t head_;
  Lsn nextLsn_;
  Lsn durableLsn_;
  Lsn trimmedLsn_;
  uint64_t slotSequence_;
  uint64_t slotTailPosition_;  // as the newest durable slot has it
  bool slotDirty_;             // the slot says less than we know
  std::deque<Pending*> queue_;
  std::optional<Error> failed_;
  bool closed_ = false;
  Event work_, space_;
  AsyncMutex slotLock_;
  TaskScope scope_;
};

}  // namespace

Task<Result<void>> RingLog::format(Env& env, File& file, Region region, Uuid identity) {
  CO_TRY(checkRegion(region));
  RingGeometry geometry(region);
  Slot slot;
  slot.identity = identity;
  slot.salt = env.random.next();
  slot.ringBlocks = geometry.ringBlocks;
  slot.tailBatchLsn = 1;
  // Both copies, so that neither names an older log.
  for (uint64_t i = 0; i < kSlots; ++i) {
    slot.sequence = i + 2;
    Buffer block = env.buffers.get(kBlockSize);
    encodeSlot(slot, block.bytes());
    std::vector<Buffer> parts;
    parts.push_back(std::move(block));
    CO_TRY(
        co_await file.write(std::move(parts), geometry.slotOffset(slot.sequence % kSlots), true));
  }
  co_return {};
}

Task<Result<std::unique_ptr<RingLog>>> RingLog::open(Env& env, File& file, Region region,
                                                     Uuid identity, Replay replay) {
  // A process that was killed may have left a batch that the kernel has and the device has not.
  // What is replayed below counts as durable, so it must be.
  CO_TRY(co_await file.sync());
  auto state = co_await readRing(env, file, region, identity, std::move(replay));
  CO_TRY(state);
  co_return std::make_unique<RingWriter>(env, file, region, std::move(*state));
}

}  // namespace cairn
