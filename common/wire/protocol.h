// The version of the protocol that both ends must speak. It grows when a message changes in a way
// that an older peer would get wrong; fields that an older peer may ignore do not change it.
#pragma once

#include <cstdint>

namespace cairn {
inline constexpr uint16_t kProtocolVersion = 1;
}
