#include "tools/cairn/erasure_code.h"

#include <doctest/doctest.h>

using namespace cairn;
using namespace cairn::tools;

TEST_CASE("an erasure code is two numbers with a plus between them") {
  CHECK(*parseErasureCode("4+2") == ErasureCode{4, 2});
  CHECK(*parseErasureCode("16+4") == ErasureCode{16, 4});
  CHECK(*parseErasureCode("0+65535") == ErasureCode{0, 65535});
  for (const char* text : {"", "+", "4", "4+", "+2", "4+2x", "x4+2", "4 + 2", "4++2", "4+-2",
                           "-4+2", "4-2", "4+65536", "65536+2", "4+2+1"}) {
    CAPTURE(text);
    auto code = parseErasureCode(text);
    REQUIRE_FALSE(code.has_value());
    CHECK(code.error().code == Errc::kInvalid);
    CHECK(code.error().message.find("K+M") != std::string::npos);
  }
}
