// Operations of the kernel's protocol that libfuse does not know.
#pragma once

#include <span>

#include "client/fuse/edge.h"

namespace cairn::client {

// Serves the request if it is one of them: `request` is what was read from /dev/fuse, and may be
// gone when this returns.
bool takeNewer(FuseEdge& edge, std::span<const uint8_t> request);

}  // namespace cairn::client
