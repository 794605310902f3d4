#include "common/wal/ring_format.h"

#include <cstddef>
#include <cstring>
#include <string>

#include "common/base/assert.h"
#include "common/crc/crc32c.h"

namespace cairn::wal {

Result<void> checkRegion(RingLog::Region region) {
  if (region.offset % kBlockSize != 0 || region.length % kBlockSize != 0 ||
      region.length < kMinRegionBytes)
    return fail(Errc::kInvalid,
                "a log region is at least 1 MiB, in multiples of 4 KiB; this one has " +
                    std::to_string(region.length) + " bytes at offset " +
                    std::to_string(region.offset));
  return {};
}

void encodeSlot(Slot slot, MutBytes block) {
  CAIRN_ASSERT(block.size() == kBlockSize, "a slot is one block");
  CAIRN_ASSERT(slot.tailBatchLsn >= 1 && slot.tailBatchLsn <= slot.trimmedLsn + 1 &&
                   slot.trimmedLsn <= slot.durableLsn,
               "a slot's tail lies behind its trim, the trim behind the head");
  std::memset(block.data(), 0, block.size());
  std::memcpy(block.data(), &slot, sizeof slot);
  uint32_t crc = crc32c(block.first(offsetof(Slot, crc)));
  std::memcpy(block.data() + offsetof(Slot, crc), &crc, sizeof crc);
}

std::optional<Slot> decodeSlot(Bytes block) {
  Slot slot;
  std::memcpy(&slot, block.data(), sizeof slot);
  if (slot.magic != kSlotMagic || slot.crc != crc32c(block.first(offsetof(Slot, crc))))
    return std::nullopt;
  return slot;
}

void sealBatch(BatchHeader header, MutBytes batch) {
  CAIRN_ASSERT(!batch.empty() && batch.size() % kBlockSize == 0, "a batch is whole blocks");
  CAIRN_ASSERT(sizeof header + header.bodyBytes <= batch.size() &&
                   sizeof header + header.bodyBytes + kBlockSize > batch.size(),
               "a batch has no more blocks than its records need");
  CAIRN_ASSERT(header.records > 0 && header.trimmedLsn < header.firstLsn,
               "a batch has records, and none of them is trimmed yet");
  header.blocks = static_cast<uint32_t>(batch.size() / kBlockSize);
  header.bodyCrc = crc32c(batch.subspan(sizeof header));
  std::memcpy(batch.data(), &header, sizeof header);
  uint32_t crc = crc32c(batch.first(offsetof(BatchHeader, headerCrc)));
  std::memcpy(batch.data() + offsetof(BatchHeader, headerCrc), &crc, sizeof crc);
}

std::optional<BatchHeader> decodeBatchHeader(Bytes block, const RingId& id) {
  BatchHeader h;
  std::memcpy(&h, block.data(), sizeof h);
  if (h.magic != kBatchMagic ||
      h.headerCrc != crc32c(block.first(offsetof(BatchHeader, headerCrc))))
    return std::nullopt;
  if (h.identity != id.identity || h.salt != id.salt) return std::nullopt;
  return h;
}

bool bodyIntact(const BatchHeader& header, Bytes batch) {
  return batch.size() == header.blocks * kBlockSize &&
         crc32c(batch.subspan(sizeof header)) == header.bodyCrc;
}

}  // namespace cairn::wal
