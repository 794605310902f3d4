#include "common/locks/lock_ranges.h"

#include <algorithm>
#include <iterator>

namespace cairn {

LockRanges::Pieces::const_iterator LockRanges::from(uint64_t at) const {
  auto it = pieces_.upper_bound(at);
  if (it != pieces_.begin() && std::prev(it)->second.end >= at) --it;
  return it;
}

LockRanges::Pieces::iterator LockRanges::insert(uint64_t start, Rest rest) {
  if (rest.type == LockType::kWrite) ++writing_;
  return pieces_.emplace(start, rest).first;
}

LockRanges::Pieces::iterator LockRanges::erase(Pieces::iterator it) {
  if (it->second.type == LockType::kWrite) --writing_;
  return pieces_.erase(it);
}

// A piece that lies across becomes two: one ends before `at`, the other begins there.
void LockRanges::cutAt(uint64_t at) {
  auto it = pieces_.lower_bound(at);
  if (it == pieces_.begin()) return;
  Rest& before = std::prev(it)->second;
  if (before.end < at) return;
  insert(at, before);
  before.end = at - 1;
}

void LockRanges::set(const LockPiece& p) {
  cutAt(p.start);
  cutAt(p.end + 1);
  auto it = pieces_.lower_bound(p.start);
  while (it != pieces_.end() && it->first <= p.end) it = erase(it);
  if (p.type == LockType::kNone) return;
  LockPiece whole = p;
  if (it != pieces_.end() && it->first == p.end + 1 && it->second.type == p.type) {
    whole.end = it->second.end;
    it = erase(it);
  }
  if (it != pieces_.begin()) {
    auto before = std::prev(it);
    if (before->second.end + 1 == p.start && before->second.type == p.type) {
      whole.start = before->first;
      erase(before);
    }
  }
  insert(whole.start, {whole.end, whole.type, whole.pid});
}

std::vector<LockPiece> LockRanges::within(uint64_t start, uint64_t end) const {
  std::vector<LockPiece> out;
  for (auto it = from(start); it != pieces_.end() && it->first <= end; ++it) {
    const Rest& rest = it->second;
    out.push_back({std::max(it->first, start), std::min(rest.end, end), rest.type, rest.pid});
  }
  return out;
}

std::optional<LockPiece> LockRanges::excluding(uint64_t start, uint64_t end, LockType type) const {
  if (type == LockType::kNone || (type == LockType::kRead && writing_ == 0)) return std::nullopt;
  for (auto it = from(start); it != pieces_.end() && it->first <= end; ++it) {
    const Rest& rest = it->second;
    if (type == LockType::kWrite || rest.type == LockType::kWrite)
      return LockPiece{it->first, rest.end, rest.type, rest.pid};
  }
  return std::nullopt;
}

bool LockRanges::lessened(const LockPiece& p) const {
  for (auto it = from(p.start); it != pieces_.end() && it->first <= p.end; ++it)
    if (it->second.type > p.type) return true;
  return false;
}

}  // namespace cairn
