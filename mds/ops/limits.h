// Limits of the namespace that no message or format names.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn::mds::ops {

inline constexpr uint32_t kMaxLinks =
    0xfffffffe;  // of a file, and subdirectories + 2 of a directory
inline constexpr size_t kMaxXattrListBytes = 64 * 1024;  // listxattr(2) gives no more
inline constexpr size_t kMaxTextBytes = 4096;  // addresses, host names, mount points: all of them
inline constexpr size_t kMaxPoolNameBytes = 64;
inline constexpr uint16_t kMaxReplicas = 8;
inline constexpr uint16_t kMaxEcData = 16, kMaxEcParity = 4;
inline constexpr uint32_t kEcStripeUnit = 64 * 1024;  // unless somebody chose
inline constexpr uint32_t kMinStripeUnit = 4 * 1024, kMaxStripeUnit = 1024 * 1024;
inline constexpr uint32_t kMaxPools = 1024;

}  // namespace cairn::mds::ops
