// A set of integers (chunk indices, byte offsets) as disjoint half-open intervals. Pure.
#pragma once

#include <cstdint>
#include <map>

namespace cairn::client {

class IntervalSet {
 public:
  void add(uint64_t from, uint64_t to);
  void remove(uint64_t from, uint64_t to);
  [[nodiscard]] bool contains(uint64_t value) const;
  // The end of the interval that holds `value`, or `value`.
  [[nodiscard]] uint64_t endOf(uint64_t value) const;
  void clear() { intervals_.clear(); }
  [[nodiscard]] bool empty() const { return intervals_.empty(); }

 private:
  std::map<uint64_t, uint64_t> intervals_;  // from -> to; neither overlapping nor adjoining
};

}  // namespace cairn::client
