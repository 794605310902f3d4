// CRC32C (Castagnoli, RFC 3720 appendix B.4), by ISA-L. Value of the empty string: 0; of
// "123456789": 0xE3069283.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/buffer.h"

namespace cairn {

uint32_t crc32c(Bytes bytes);
// crc32c of a followed by b, given crc = crc32c(a).
uint32_t crc32cExtend(uint32_t crc, Bytes b);
// Of one block of zeros.
uint32_t crc32cZeroBlock();

// One CRC for each 4 KiB block of a chunk that [offset, offset + bytes.size()) touches, of the
// covered bytes only: the form in which checksums travel (osd.capnp).
std::vector<uint32_t> blockCrcs(uint64_t offset, Bytes bytes);
// True if `crcs` (little-endian, as on the wire) are those of `bytes` at `offset`.
bool blockCrcsMatch(uint64_t offset, Bytes bytes, Bytes crcs);
// The wire form.
Bytes crcBytes(const std::vector<uint32_t>& crcs);

}  // namespace cairn
