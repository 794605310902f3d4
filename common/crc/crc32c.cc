#include "common/crc/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "common/base/units.h"

namespace cairn {

static_assert(std::endian::native == std::endian::little, "checksums travel as they lie in memory");

uint32_t crc32c(Bytes bytes) {
  return crc32cExtend(0, bytes);
}

uint32_t crc32cExtend(uint32_t crc, Bytes b) {
  // ISA-L takes and gives the register of the polynomial division; the CRC is its complement. Its
  // length is an int, so longer input goes in pieces.
  constexpr size_t kPieceBytes = size_t{1} << 30;
  uint32_t reg = ~crc;
  while (!b.empty()) {
    Bytes piece = b.first(std::min(b.size(), kPieceBytes));
    // The library reads only; its prototype lacks the const.
    reg = crc32_iscsi(const_cast<uint8_t*>(piece.data()), static_cast<int>(piece.size()), reg);
    b = b.subspan(piece.size());
  }
  return ~reg;
}

uint32_t crc32cZeroBlock() {
  static const uint32_t kCrc = [] {
    std::array<uint8_t, kBlockSize> zeros{};
    return crc32c(zeros);
  }();
  return kCrc;
}

std::vector<uint32_t> blockCrcs(uint64_t offset, Bytes bytes) {
  std::vector<uint32_t> crcs;
  if (bytes.empty()) return crcs;
  crcs.reserve(bytes.size() / kBlockSize + 2);
  size_t length = std::min<size_t>(bytes.size(), kBlockSize - offset % kBlockSize);
  while (!bytes.empty()) {
    crcs.push_back(crc32c(bytes.first(length)));
    bytes = bytes.subspan(length);
    length = std::min<size_t>(bytes.size(), kBlockSize);
  }
  return crcs;
}

bool blockCrcsMatch(uint64_t offset, Bytes bytes, Bytes crcs) {
  size_t next = 0;
  size_t length = std::min<size_t>(bytes.size(), kBlockSize - offset % kBlockSize);
  while (!bytes.empty()) {
    uint32_t expected;
    if (crcs.size() - next < sizeof expected) return false;
    std::memcpy(&expected, crcs.data() + next, sizeof expected);  // any alignment
    next += sizeof expected;
    if (crc32c(bytes.first(length)) != expected) return false;
    bytes = bytes.subspan(length);
    length = std::min<size_t>(bytes.size(), kBlockSize);
  }
  return next == crcs.size();
}

Bytes crcBytes(const std::vector<uint32_t>& crcs) {
  return {reinterpret_cast<const uint8_t*>(crcs.data()), crcs.size() * sizeof(uint32_t)};
}

}  // namespace cairn
