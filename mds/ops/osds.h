// OSDs of the map that an operation changes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace cairn::mds::ops {

// 65536 = 1 TiB. Something that small is still there.
inline uint32_t weightOf(uint64_t bytesTotal) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(bytesTotal >> 24, 1, std::numeric_limits<uint32_t>::max()));
}

}  // namespace cairn::mds::ops
