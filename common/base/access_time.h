// When a read changes the time of last access: relatime, as Linux's file systems have it by
// default.
#pragma once

#include <chrono>
#include <cstdint>

namespace cairn {

// For an inode with these times, read at `accessNs`. It is due where the last access is known to be
// no later than the last change, or a day old; `always` is strictatime. Never takes a time back.
constexpr bool accessDue(int64_t atimeNs, int64_t mtimeNs, int64_t ctimeNs, int64_t accessNs,
                         bool always) {
  if (accessNs <= atimeNs) return false;
  constexpr uint64_t kDayNs = std::chrono::nanoseconds(std::chrono::hours(24)).count();
  return always || mtimeNs >= atimeNs || ctimeNs >= atimeNs ||
         static_cast<uint64_t>(accessNs) - static_cast<uint64_t>(atimeNs) >= kDayNs;
}

}  // namespace cairn
