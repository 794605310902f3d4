#include "osd/service/request_checks.h"

#include <algorithm>

#include "common/crc/crc32c.h"

namespace cairn::osd {

// `length` bytes of a chunk from `offset`; not empty, within the chunk.
Result<void> checkRange(uint64_t offset, uint64_t length, bool wholeBlocks) {
  if (length == 0 || offset + length > kChunkSize)
    return fail(Errc::kInvalid, "bytes " + std::to_string(offset) + " + " + std::to_string(length) +
                                    " are not within a chunk");
  if (wholeBlocks && (offset % kBlockSize != 0 || length % kBlockSize != 0))
    return fail(Errc::kInvalid, "bytes " + std::to_string(offset) + " + " + std::to_string(length) +
                                    " are not whole blocks");
  return {};
}

Result<void> checkClone(schema::Clone::Reader c) {
  TRY(checkRange(c.getSourceOffset(), c.getLength(), true));
  TRY(checkRange(c.getTargetOffset(), c.getLength(), true));
  if (c.getSource() == c.getTarget() &&
      c.getSourceOffset() < uint64_t{c.getTargetOffset()} + c.getLength() &&
      c.getTargetOffset() < uint64_t{c.getSourceOffset()} + c.getLength())
    return fail(Errc::kInvalid, "source and target of a clone overlap");
  return {};
}

Result<void> checkPayload(uint32_t offset, uint32_t length, const Buffer& payload, Bytes crcs) {
  if (length > kMaxIoBytes || payload.size() != length)
    return fail(Errc::kInvalid, "a write of " + std::to_string(length) +
                                    " bytes with a payload of " + std::to_string(payload.size()));
  if (!blockCrcsMatch(offset, payload.bytes(), crcs))
    return fail(Errc::kCorrupt, "the data does not match its checksums: it was damaged on the way");
  return {};
}

std::vector<uint32_t> toCrcs(Bytes wire) {
  std::vector<uint32_t> crcs(wire.size() / sizeof(uint32_t));
  std::copy(wire.begin(), wire.end(), reinterpret_cast<uint8_t*>(crcs.data()));
  return crcs;
}

}  // namespace cairn::osd
