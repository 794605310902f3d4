// "4+2", as people write an erasure code: data and parity shards.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/result.h"

namespace cairn::tools {

struct ErasureCode {
  uint16_t data = 0, parity = 0;
  bool operator==(const ErasureCode&) const = default;
};

// kInvalid: not two numbers. Which numbers there may be is for the metadata server to say.
Result<ErasureCode> parseErasureCode(std::string_view text);

}  // namespace cairn::tools
