#include "client/core/interval_set.h"

#include <algorithm>

namespace cairn::client {

void IntervalSet::add(uint64_t from, uint64_t to) {
  if (from >= to) return;
  auto it = intervals_.upper_bound(from);
  if (it != intervals_.begin() && std::prev(it)->second >= from) --it;
  while (it != intervals_.end() && it->first <= to) {
    from = std::min(from, it->first);
    to = std::max(to, it->second);
    it = intervals_.erase(it);
  }
  intervals_.emplace(from, to);
}

void IntervalSet::remove(uint64_t from, uint64_t to) {
  if (from >= to) return;
  auto it = intervals_.upper_bound(from);
  if (it != intervals_.begin() && std::prev(it)->second > from) --it;
  while (it != intervals_.end() && it->first < to) {
    auto [a, b] = *it;
    it = intervals_.erase(it);
    if (a < from) intervals_.emplace(a, from);
    if (b > to) it = intervals_.emplace(to, b).first;
  }
}

uint64_t IntervalSet::endOf(uint64_t value) const {
  auto it = intervals_.upper_bound(value);
  if (it == intervals_.begin()) return value;
  return std::max(value, std::prev(it)->second);
}

bool IntervalSet::contains(uint64_t value) const {
  return endOf(value) > value;
}

}  // namespace cairn::client
