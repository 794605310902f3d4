// Sizes that are part of formats and of the wire, and the time types.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cairn {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

inline constexpr uint64_t kBlockSize =
    4 * kKiB;  // checksum and allocation unit, O_DIRECT alignment
inline constexpr uint64_t kChunkSize = 64 * kMiB;  // a file is cut here
inline constexpr uint64_t kBlocksPerChunk = kChunkSize / kBlockSize;
inline constexpr uint64_t kMaxFileSize = 1ull << 50;
inline constexpr uint64_t kMaxIoBytes = 4 * kMiB;  // largest data payload of one message
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxXattrBytes = 64 * kKiB;
inline constexpr size_t kMaxSymlinkBytes = 4095;

constexpr uint64_t roundDown(uint64_t v, uint64_t unit) {
  return v - v % unit;
}
constexpr uint64_t roundUp(uint64_t v, uint64_t unit) {
  return roundDown(v + unit - 1, unit);
}

using Duration = std::chrono::nanoseconds;
// Monotonic time since an arbitrary start. Wall time is nanoseconds since the Unix epoch, `WallNs`.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallNs = int64_t;

using namespace std::chrono_literals;

}  // namespace cairn
