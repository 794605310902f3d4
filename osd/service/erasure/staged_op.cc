#include "osd/service/erasure/staged_op.h"

#include <cstring>

#include "common/crc/crc32c.h"
#include "osd/service/erasure/staged_slots.h"

namespace cairn::osd {

namespace {

// The block, little-endian; the rest is zero.
struct Head {
  char magic[8];
  uint64_t number, chunk;
  uint64_t source;  // 0: none
  uint32_t fromRow, toRow, shards, slot, zero;
  uint32_t crc;  // CRC32C of all before it
};
constexpr char kMagic[] = "CairnOp2";
constexpr size_t kExtentsAtOnce = 256;

}  // namespace

void encodeStaged(const StagedOp& op, ChunkId chunk, MutBytes block) {
  Head h{};
  std::memcpy(h.magic, kMagic, sizeof h.magic);
  h.number = op.number.value;
  h.chunk = chunk.value;
  h.fromRow = op.rows.from;
  h.toRow = op.rows.to;
  h.shards = op.shards;
  h.slot = op.slot;
  h.zero = op.zero ? 1 : 0;
  h.source = op.source.value;
  h.crc = crc32c({reinterpret_cast<const uint8_t*>(&h), offsetof(Head, crc)});
  std::memset(block.data(), 0, block.size());
  std::memcpy(block.data(), &h, sizeof h);
}

Result<StagedOp> decodeStaged(Bytes block, ChunkId chunk, uint32_t slot) {
  Head h;
  std::memcpy(&h, block.data(), sizeof h);
  const bool good = std::memcmp(h.magic, kMagic, sizeof h.magic) == 0 &&
                    h.crc == crc32c({block.data(), offsetof(Head, crc)}) &&
                    h.chunk == chunk.value && h.slot == slot && h.fromRow < h.toRow &&
                    h.toRow <= kBlocksPerChunk && h.shards != 0 && h.zero <= 1;
  if (!good)
    return fail(Errc::kCorrupt, "chunk " + std::to_string(chunk.value) +
                                    ": no staged change begins at block " + std::to_string(slot));
  return StagedOp{ChunkVersion{h.number}, {h.fromRow, h.toRow}, h.shards, h.zero == 1, slot,
                  ChunkId{h.source}};
}

Task<Result<std::vector<StagedOp>>> stagedIn(Store& store, ChunkId stored, ChunkId chunk) {
  std::vector<StagedOp> ops;
  for (uint32_t from = 0;;) {
    auto extents = store.extents(stored, from, kExtentsAtOnce);
    CO_TRY(extents);
    for (auto [offset, length] : *extents) {
      const auto end = static_cast<uint32_t>((uint64_t{offset} + length) / kBlockSize);
      for (auto at = static_cast<uint32_t>(offset / kBlockSize); at < end; ++at) {
        if (!slotPlaceAt(at)) continue;
        auto block =
            co_await store.read(stored, static_cast<uint32_t>(at * kBlockSize), kBlockSize);
        CO_TRY(block);
        auto op = decodeStaged(block->data.bytes(), chunk, at);
        // A store may have taken the beginning of a slot only, when it was stopped.
        if (op && at + op->slotBlocks() <= end) ops.push_back(*op);
      }
      from = offset + length;
    }
    if (extents->size() < kExtentsAtOnce) co_return ops;
  }
}

}  // namespace cairn::osd
