// Universally unique ids: of clusters and stores.
#pragma once

#include <cstdint>
#include <string>

namespace cairn {

struct Uuid {
  uint64_t hi = 0, lo = 0;
  bool operator==(const Uuid&) const = default;
  explicit operator bool() const { return hi != 0 || lo != 0; }
  [[nodiscard]] std::string text() const;  // 8-4-4-4-12
};

}  // namespace cairn
