#include "common/base/result.h"

#include <cerrno>

#include <doctest/doctest.h>

using namespace cairn;

TEST_CASE("an error says its code when it has no message") {
  CHECK(Error(Errc::kNotFound).text() == "not found");
  CHECK(Error(Errc::kBusy, "port 7001").text() == "port 7001 (busy)");
}

TEST_CASE("an errno becomes the code a caller can act on") {
  CHECK(errnoError(ENOSPC, "write").code == Errc::kNoSpace);
  CHECK(errnoError(ECONNREFUSED, "connect").retryable());
  CHECK_FALSE(errnoError(EACCES, "open").retryable());
}
