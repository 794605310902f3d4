// The bytes of a ring log: checkpoint slots and batch headers. See FORMAT.md, which this file
// implements; ring_reader.h walks them, ring_log.cc writes them.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

#include "common/base/buffer.h"
#include "common/base/units.h"
#include "common/base/uuid.h"
#include "common/wal/ring_log.h"

namespace cairn::wal {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

inline constexpr uint64_t kSlotMagic = 0x544f4c534c415743;   // "CWALSLOT"
inline constexpr uint64_t kBatchMagic = 0x484354424c415743;  // "CWALBTCH"
inline constexpr uint32_t kRingVersion = 1;
inline constexpr uint64_t kSlots = 2;
inline constexpr uint64_t kMinRegionBytes = kMiB;
inline constexpr uint64_t kLengthBytes = 4;  // in front of each record

// A checkpoint slot: where replay starts. The rest of its block is zero.
struct Slot {
  uint64_t magic = kSlotMagic;
  uint32_t version = kRingVersion;
  uint32_t reserved = 0;
  Uuid identity;
  uint64_t salt = 0;          // drawn by format(): older logs in the same place do not count
  uint64_t sequence = 0;      // the greater one of two valid slots counts
  uint64_t ringBlocks = 0;    // checked against the region given to open()
  uint64_t tailPosition = 0;  // of the oldest batch that may still be needed, or the head
  uint64_t tailBatchLsn = 0;  // first Lsn of the batch there
  uint64_t trimmedLsn = 0;    // records up to here are not needed
  uint64_t durableLsn = 0;    // records up to here were durable when the slot was written
  uint32_t reserved2 = 0;
  uint32_t crc = 0;  // of all before it
};
static_assert(sizeof(Slot) == 96);

// Opens a batch. A position counts the blocks ever written to the ring: block `position %
// ringBlocks`.
struct BatchHeader {
  uint64_t magic = kBatchMagic;
  uint32_t version = kRingVersion;
  uint32_t blocks = 0;  // of the whole batch
  Uuid identity;
  uint64_t salt = 0;
  uint64_t position = 0;
  uint64_t firstLsn = 0;
  uint64_t trimmedLsn = 0;
  uint32_t records = 0;
  uint32_t bodyBytes = 0;  // the records with their lengths, without the padding
  uint32_t bodyCrc = 0;    // of everything after the header, padding included
  uint32_t headerCrc = 0;  // of all before it
};
static_assert(sizeof(BatchHeader) == 80);

// What tells one log from every other.
struct RingId {
  Uuid identity;
  uint64_t salt = 0;
};

// Position arithmetic of one region.
struct RingGeometry {
  explicit RingGeometry(RingLog::Region region)
      : offset(region.offset), ringBlocks(region.length / kBlockSize - kSlots) {}
  [[nodiscard]] uint64_t slotOffset(uint64_t slot) const { return offset + slot * kBlockSize; }
  [[nodiscard]] uint64_t blockOffset(uint64_t position) const {
    return offset + (kSlots + position % ringBlocks) * kBlockSize;
  }
  // How many of `blocks` from `position` on lie before the ring's end.
  [[nodiscard]] uint64_t blocksBeforeWrap(uint64_t position, uint64_t blocks) const {
    uint64_t left = ringBlocks - position % ringBlocks;
    return blocks < left ? blocks : left;
  }
  [[nodiscard]] uint64_t maxBatchBlocks() const { return ringBlocks / 4; }

  uint64_t offset;
  uint64_t ringBlocks;
};

Result<void> checkRegion(RingLog::Region region);

// Fills in the CRC.
void encodeSlot(Slot slot, MutBytes block);
// Nothing unless magic and CRC are right; the caller judges version and identity.
std::optional<Slot> decodeSlot(Bytes block);

// `batch` is the whole batch with its records in place after the header; fills in sizes that follow
// from it and both CRCs.
void sealBatch(BatchHeader header, MutBytes batch);
// The header if magic, header CRC and id say that this log wrote it (somewhere, sometime).
std::optional<BatchHeader> decodeBatchHeader(Bytes block, const RingId& id);
bool bodyIntact(const BatchHeader& header, Bytes batch);

}  // namespace cairn::wal
