#include "osd/store/shared_places.h"

#include <algorithm>

#include "osd/store/extent_group.h"

namespace cairn::osd {

// No run goes on across `at` afterwards.
void SharedPlaces::cutAt(PhysBlock at) {
  auto it = runs_.lower_bound(at);
  if (it == runs_.begin()) return;
  --it;
  const PhysBlock end = it->first + it->second.count;
  if (end <= at) return;
  it->second.count = at - it->first;
  runs_.emplace(at, Run{end - at, it->second.names});
}

// Joins neighbours that begin in [from, to], and what lies before them, where they are alike.
void SharedPlaces::mergeWithin(PhysBlock from, PhysBlock to) {
  auto it = runs_.lower_bound(from);
  if (it != runs_.begin()) --it;
  while (it != runs_.end()) {
    auto next = std::next(it);
    if (next == runs_.end() || next->first > to) break;
    if (it->first + it->second.count == next->first && it->second.names == next->second.names) {
      it->second.count += next->second.count;
      runs_.erase(next);
    } else {
      it = next;
    }
  }
}

void SharedPlaces::add(PhysRun run) {
  const PhysBlock end = run.start + run.count;
  cutAt(run.start);
  cutAt(end);
  auto it = runs_.lower_bound(run.start);
  for (PhysBlock at = run.start; at < end;) {
    if (it != runs_.end() && it->first == at) {
      ++it->second.names;
      at += it->second.count;
      ++it;
      continue;
    }
    const PhysBlock next = it == runs_.end() ? end : std::min(end, it->first);
    runs_.emplace_hint(it, at, Run{next - at, 1});
    at = next;
  }
  mergeWithin(run.start, end);
}

void SharedPlaces::release(PhysRun run, std::vector<PhysRun>& unnamed) {
  const PhysBlock end = run.start + run.count;
  cutAt(run.start);
  cutAt(end);
  auto it = runs_.lower_bound(run.start);
  for (PhysBlock at = run.start; at < end;) {
    const PhysBlock next = it == runs_.end() ? end : std::min(end, it->first);
    if (next > at) {
      appendRun(unnamed, at, next - at);
      at = next;
      continue;
    }
    at += it->second.count;
    it = --it->second.names == 0 ? runs_.erase(it) : std::next(it);
  }
  mergeWithin(run.start, end);
}

bool SharedPlaces::contains(PhysBlock block) const {
  auto it = runs_.upper_bound(block);
  if (it == runs_.begin()) return false;
  --it;
  return block < it->first + it->second.count;
}

void SharedPlaces::discountFirst() {
  for (auto it = runs_.begin(); it != runs_.end();)
    it = --it->second.names == 0 ? runs_.erase(it) : std::next(it);
}

}  // namespace cairn::osd
