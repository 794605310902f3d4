// The one table from Errc to errno(3), at the FUSE edge.
#pragma once

#include "common/base/result.h"

namespace cairn::client {
int errnoOf(Errc code);
}
