#include "client/core/dirty_map.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "client/core/chunk_io.h"
#include "common/base/assert.h"
#include "common/base/units.h"

namespace cairn::client {

static_assert(kChunkSize % kPieceSize == 0, "an extent lies inside one chunk");

DirtyMap::~DirtyMap() {
  dropUnflushed();
  CAIRN_ASSERT(flushing_.empty(), "dirty data outlives its flush");
}

// ---- accounting ----

void DirtyMap::count(const ExtentPtr& e) {
  ++cuts_[e->cut];
  budget_.take(e->buffer.size());
  if (e->state == DirtyExtent::State::kIdle) {
    idleBytes_ += e->buffer.size();
    budget_.takeIdle(e->buffer.size());
  }
}

void DirtyMap::uncount(const ExtentPtr& e) {
  auto it = cuts_.find(e->cut);
  if (--it->second == 0) cuts_.erase(it);
  if (e->state == DirtyExtent::State::kIdle) {
    idleBytes_ -= e->buffer.size();
    budget_.giveIdle(e->buffer.size());
  }
  budget_.give(e->buffer.size());
}

void DirtyMap::queue(const ExtentPtr& e) {
  if (e->state != DirtyExtent::State::kIdle) return;
  idleBytes_ -= e->buffer.size();
  budget_.giveIdle(e->buffer.size());
  e->state = DirtyExtent::State::kQueued;
  queue_.push_back(e);
}

// ---- writing ----

void DirtyMap::write(uint64_t offset, Bytes data) {
  while (!data.empty()) {
    uint64_t window = roundDown(offset, kPieceSize);
    size_t n = std::min<size_t>(data.size(), window + kPieceSize - offset);
    writeWindow(window, offset, data.first(n));
    offset += n;
    data = data.subspan(n);
  }
}

DirtyMap::Map::const_iterator DirtyMap::firstTouching(const Map& map, uint64_t from) {
  auto it = map.upper_bound(from);
  if (it != map.begin() && std::prev(it)->second->to > from) --it;
  return it;
}

std::vector<DirtyMap::ExtentPtr> DirtyMap::takeNeighbours(uint64_t window, uint64_t from,
                                                          uint64_t to) {
  std::vector<ExtentPtr> out;
  auto it = unflushed_.upper_bound(from);
  while (it != unflushed_.begin() && std::prev(it)->second->to >= from &&
         std::prev(it)->first >= window)
    --it;
  while (it != unflushed_.end() && it->first <= to && it->first < window + kPieceSize) {
    uncount(it->second);
    out.push_back(std::move(it->second));
    it = unflushed_.erase(it);
  }
  return out;
}

DirtyMap::ExtentPtr DirtyMap::make(uint64_t window, uint64_t from, uint64_t to) {
  auto e = std::make_shared<DirtyExtent>();
  e->base = roundDown(from, kBlockSize);
  // A sequential writer that comes into a new window will fill it.
  bool fills = from == window && from == lastEnd_ && from != 0;
  uint64_t capacity =
      fills ? kPieceSize : std::bit_ceil(std::max<uint64_t>(to - e->base, kBlockSize));
  e->buffer = buffers_.get(std::min(capacity, window + kPieceSize - e->base));
  e->cut = cut_;
  return e;
}

void DirtyMap::writeWindow(uint64_t window, uint64_t from, Bytes data) {
  uint64_t to = from + data.size();
  std::vector<ExtentPtr> touched = takeNeighbours(window, from, to);
  uint64_t lo = from, hi = to;
  if (!touched.empty()) {
    lo = std::min(lo, touched.front()->from);
    hi = std::max(hi, touched.back()->to);
  }
  ExtentPtr target;
  for (auto& e : touched)
    if (e->base <= lo && e->base + e->buffer.size() >= hi) {
      target = e;
      break;
    }
  if (!target) target = make(window, lo, hi);
  bool queued = target->state == DirtyExtent::State::kQueued;
  for (auto& e : touched) {
    target->cut = std::min(target->cut, e->cut);
    if (e == target) continue;
    std::memcpy(target->buffer.data() + (e->from - target->base),
                e->buffer.data() + (e->from - e->base), e->to - e->from);
    queued = queued || e->state == DirtyExtent::State::kQueued;
    e->state = DirtyExtent::State::kGone;
  }
  std::memcpy(target->buffer.data() + (from - target->base), data.data(), data.size());
  target->from = lo;
  target->to = hi;
  unflushed_.emplace(lo, target);
  count(target);
  if (queued || hi - lo == kPieceSize) queue(target);
  lastEnd_ = to;
}

// ---- flushing ----

void DirtyMap::want(uint64_t from, uint64_t to, uint64_t cut) {
  for (auto it = firstTouching(unflushed_, from); it != unflushed_.end() && it->first < to; ++it)
    if (it->second->cut < cut) queue(it->second);
}

bool DirtyMap::pending(uint64_t from, uint64_t to, uint64_t cut) const {
  if (cuts_.empty() || cuts_.begin()->first >= cut) return false;
  if (from == 0 && to >= end()) return true;
  for (const Map* map : {&unflushed_, &flushing_})
    for (auto it = firstTouching(*map, from); it != map->end() && it->first < to; ++it)
      if (it->second->cut < cut) return true;
  return false;
}

// One that is being flushed and must be done before.
DirtyMap::Map::const_iterator DirtyMap::flushingOver(const ExtentPtr& e) const {
  auto ahead = firstTouching(flushing_, e->from);
  return ahead != flushing_.end() && ahead->first < e->to ? ahead : flushing_.end();
}

void DirtyMap::take(const ExtentPtr& e) {
  unflushed_.erase(e->from);
  e->state = DirtyExtent::State::kFlushing;
  flushing_.emplace(e->from, e);
}

DirtyMap::Run DirtyMap::next(uint64_t most, uint64_t least) {
  while (!queue_.empty()) {
    const ExtentPtr first = queue_.front();
    if (first->state != DirtyExtent::State::kQueued) {
      queue_.pop_front();
      continue;
    }
    if (auto ahead = flushingOver(first); ahead != flushing_.end()) {
      ahead->second->behind.push_back(first);
      queue_.pop_front();
      continue;
    }
    Run run = runFrom(first, most);
    if (run.back()->to - first->from < least && grows(run, most)) return {};
    // Whoever is not the first is passed over when its own turn in the queue comes.
    queue_.pop_front();
    for (const auto& e : run) take(e);
    return run;
  }
  return {};
}

// A sequential writer is at work right behind it.
bool DirtyMap::grows(const Run& run, uint64_t most) const {
  const uint64_t end = run.back()->to;
  return end % kPieceSize == 0 && end % kChunkSize != 0 &&
         end + kPieceSize - run.front()->from <= most && lastEnd_ >= end &&
         lastEnd_ - end < kPieceSize;
}

DirtyMap::Run DirtyMap::runFrom(ExtentPtr first, uint64_t most) const {
  Run run;
  run.push_back(std::move(first));
  while (true) {
    const uint64_t end = run.back()->to;
    if (end % kPieceSize != 0 || end % kChunkSize == 0) return run;
    auto it = unflushed_.find(end);
    if (it == unflushed_.end() || it->second->state != DirtyExtent::State::kQueued ||
        it->second->to - run.front()->from > most || flushingOver(it->second) != flushing_.end())
      return run;
    run.push_back(it->second);
  }
}

void DirtyMap::done(const ExtentPtr& e) {
  CAIRN_ASSERT(e->state == DirtyExtent::State::kFlushing, "an extent is flushed once");
  flushing_.erase(e->from);
  uncount(e);
  e->state = DirtyExtent::State::kGone;
  for (auto& b : e->behind)
    if (b->state == DirtyExtent::State::kQueued) queue_.push_back(std::move(b));
  e->behind.clear();
  e->buffer = {};  // the queue may name it for a while yet
}

bool DirtyMap::dropUnflushed() {
  bool any = !unflushed_.empty();
  for (auto& [from, e] : unflushed_) {
    uncount(e);
    e->state = DirtyExtent::State::kGone;
  }
  unflushed_.clear();
  queue_.clear();
  return any;
}

// ---- reading ----

std::vector<DirtyMap::Piece> DirtyMap::overlay(uint64_t from, uint64_t to) const {
  std::vector<Piece> out;
  for (const Map* map : {&flushing_, &unflushed_})
    for (auto it = firstTouching(*map, from); it != map->end() && it->first < to; ++it) {
      const DirtyExtent& e = *it->second;
      uint64_t a = std::max(from, e.from), b = std::min(to, e.to);
      out.push_back({a, e.buffer.slice(a - e.base, b - a)});
    }
  return out;
}

bool DirtyMap::touches(uint64_t from, uint64_t to) const {
  for (const Map* map : {&flushing_, &unflushed_})
    if (auto it = firstTouching(*map, from); it != map->end() && it->first < to) return true;
  return false;
}

uint64_t DirtyMap::end() const {
  uint64_t last = 0;
  if (!unflushed_.empty()) last = unflushed_.rbegin()->second->to;
  if (!flushing_.empty()) last = std::max(last, flushing_.rbegin()->second->to);
  return last;
}

}  // namespace cairn::client
