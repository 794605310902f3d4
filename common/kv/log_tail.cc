#include "common/kv/log_tail.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/crc/crc32c.h"

namespace cairn {

namespace {

constexpr size_t kLogBlock = 32 * 1024;
constexpr size_t kHeader = 7;
enum RecordType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace

std::optional<size_t> tornLogTail(std::string_view log) {
  const auto lastByte = log.find_last_not_of('\0');
  const size_t zerosFrom = lastByte == std::string_view::npos ? 0 : lastByte + 1;
  if (zerosFrom == log.size()) return std::nullopt;

  size_t pos = 0;
  size_t logicalStart = 0;  // of the logical record that is being read
  while (log.size() - pos >= kHeader) {
    const size_t leftInBlock = kLogBlock - pos % kLogBlock;
    if (leftInBlock < kHeader) {  // a block's trailer is zeros by design
      pos = std::min(pos + leftInBlock, log.size());
      continue;
    }
    const auto* header = reinterpret_cast<const uint8_t*>(log.data() + pos);
    uint32_t crc;
    std::memcpy(&crc, header, sizeof crc);
    const size_t length = header[4] | header[5] << 8;
    const uint8_t type = header[6];
    const size_t end = pos + kHeader + std::min(length, leftInBlock - kHeader);
    if (end > log.size()) return std::nullopt;  // ends within a record: LevelDB knows that form
    const bool whole = length <= leftInBlock - kHeader && type >= kFull && type <= kLast &&
                       masked(crc32c(Bytes(header + 6, 1 + length))) == crc;
    if (!whole) {
      if (end > zerosFrom) return logicalStart;
      return std::nullopt;
    }
    if (type == kFull || type == kFirst) logicalStart = pos;
    pos = end;
    if (type == kFull || type == kLast) logicalStart = pos;
  }
  return std::nullopt;
}

}  // namespace cairn
