// Cap'n Proto 0.9.2 under C++20's rewritten comparison operators: `const char* == StringPtr` is
// ambiguous without this. Include before any capnp header.
#pragma once

#include <kj/string.h>

namespace kj {
inline bool operator==(const char* a, const StringPtr& b) {
  return b.operator==(StringPtr(a));
}
}  // namespace kj
