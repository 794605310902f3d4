#include "tools/cairn/erasure_code.h"

#include <charconv>
#include <string>

namespace cairn::tools {

Result<ErasureCode> parseErasureCode(std::string_view text) {
  ErasureCode code;
  const char* const end = text.data() + text.size();
  const auto data = std::from_chars(text.data(), end, code.data);
  if (data.ec == std::errc() && data.ptr != end && *data.ptr == '+') {
    const auto parity = std::from_chars(data.ptr + 1, end, code.parity);
    if (parity.ec == std::errc() && parity.ptr == end) return code;
  }
  return fail(Errc::kInvalid, "an erasure code is K+M, like 4+2: data and parity shards; not '" +
                                  std::string(text) + "'");
}

}  // namespace cairn::tools
