// A reactor for a test, which fails with the reason where there is no io_uring.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <utility>

#include "common/reactor/uring_reactor.h"

namespace cairn {

inline std::unique_ptr<UringReactor> makeReactor(UringOptions options = {}) {
  auto r = UringReactor::create(options);
  REQUIRE_MESSAGE(r.has_value(), (r ? std::string() : r.error().message));
  return std::move(*r);
}

}  // namespace cairn
