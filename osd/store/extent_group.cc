#include "osd/store/extent_group.h"

#include <algorithm>

#include "common/crc/crc32c.h"

namespace cairn::osd {

namespace {

// A stored run is one word: place (48 bits), first (6), count-1 (6), flags (4).
constexpr uint64_t kFlagReserved = 1;
constexpr uint64_t kFlagShared = 2;
constexpr uint64_t kKnownFlags = kFlagReserved | kFlagShared;

uint64_t packRun(const ExtentGroup::Run& run) {
  return run.phys | uint64_t{run.first} << 48 | uint64_t(run.count - 1) << 54 |
         ((run.written ? 0 : kFlagReserved) | (run.shared ? kFlagShared : 0)) << 60;
}

uint32_t sealOf(std::string_view key, std::string_view body) {
  return crc32cExtend(crc32c(bytesOf(key)), bytesOf(body));
}

}  // namespace

void appendRun(std::vector<PhysRun>& runs, PhysBlock start, uint64_t count) {
  if (!runs.empty() && runs.back().start + runs.back().count == start)
    runs.back().count += count;
  else
    runs.push_back({start, count});
}

uint32_t ExtentGroup::blocks() const {
  uint32_t n = 0;
  for (const Run& run : runs_) n += run.count;
  return n;
}

size_t ExtentGroup::memoryBytes() const {
  return sizeof(ExtentGroup) + runs_.capacity() * sizeof(Run);
}

ExtentGroup::Places ExtentGroup::expand() const {
  Places places;
  for (const Run& run : runs_)
    for (uint32_t i = 0; i < run.count; ++i)
      places[run.first + i] = {run.phys + i, run.written, run.shared};
  return places;
}

void ExtentGroup::compress(const Places& places) {
  runs_.clear();
  for (uint32_t i = 0; i < kGroupBlocks; ++i) {
    const Place& p = places[i];
    if (p.phys == kMaxPhysBlocks) continue;
    if (!runs_.empty()) {
      Run& last = runs_.back();
      if (last.first + last.count == i && last.phys + last.count == p.phys &&
          last.written == p.written && last.shared == p.shared) {
        ++last.count;
        continue;
      }
    }
    runs_.push_back({p.phys, static_cast<uint8_t>(i), 1, p.written, p.shared});
  }
}

void ExtentGroup::assign(uint32_t first, uint32_t count, PhysBlock phys, const uint32_t* crcs,
                         std::vector<PhysRun>& freed) {
  CAIRN_ASSERT(count > 0 && first + count <= kGroupBlocks && phys + count <= kMaxPhysBlocks,
               "a run lies inside its group");
  Places places = expand();
  for (uint32_t i = 0; i < count; ++i) {
    Place& p = places[first + i];
    if (p.phys != kMaxPhysBlocks && p.phys != phys + i) appendRun(freed, p.phys, 1);
    p = {phys + i, crcs != nullptr, false};
    crcs_[first + i] = crcs ? crcs[i] : 0;
  }
  compress(places);
}

void ExtentGroup::share(uint32_t first, uint32_t count, PhysBlock phys, const uint32_t* crcs,
                        std::vector<PhysRun>& freed, std::vector<PhysRun>& named) {
  const Places before = expand();
  assign(first, count, phys, crcs, freed);
  for (uint32_t i = 0; i < count; ++i)
    if (before[first + i].phys != phys + i) appendRun(named, phys + i, 1);
  CAIRN_ASSERT(markShared(first, count, phys), "what was just assigned is there");
}

bool ExtentGroup::markShared(uint32_t first, uint32_t count, PhysBlock phys) {
  CAIRN_ASSERT(count > 0 && first + count <= kGroupBlocks, "a run lies inside its group");
  Places places = expand();
  for (uint32_t i = 0; i < count; ++i) {
    Place& p = places[first + i];
    if (!p.written || p.phys != phys + i) return false;
    p.shared = true;
  }
  compress(places);
  return true;
}

void ExtentGroup::clear(uint32_t first, uint32_t count, std::vector<PhysRun>& freed) {
  CAIRN_ASSERT(count > 0 && first + count <= kGroupBlocks, "a run lies inside its group");
  Places places = expand();
  for (uint32_t i = first; i < first + count; ++i) {
    if (places[i].phys == kMaxPhysBlocks) continue;
    appendRun(freed, places[i].phys, 1);
    places[i] = {};
    crcs_[i] = 0;
  }
  compress(places);
}

std::string ExtentGroup::encode(std::string_view key) const {
  CAIRN_ASSERT(!runs_.empty(), "an empty group is not stored");
  Encoder e;
  e.out().reserve(5 + 8 * runs_.size() + 4 * size_t{blocks()});
  e.put(static_cast<uint8_t>(runs_.size() - 1));
  for (const Run& run : runs_) e.put(packRun(run));
  for (const Run& run : runs_)
    if (run.written) e.putBytes(&crcs_[run.first], run.count * sizeof(uint32_t));
  e.put(sealOf(key, e.out()));
  return std::move(e.out());
}

std::optional<ExtentGroup> ExtentGroup::decode(std::string_view key, std::string_view value,
                                               uint64_t dataBlocks) {
  if (value.size() < 4) return std::nullopt;
  std::string_view body = value.substr(0, value.size() - 4);
  if (Decoder(value.substr(body.size())).get<uint32_t>() != sealOf(key, body)) return std::nullopt;
  Decoder d(body);
  ExtentGroup group;
  uint32_t count = d.get<uint8_t>() + 1u;
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t word = d.get<uint64_t>();
    Run run{word & (kMaxPhysBlocks - 1), static_cast<uint8_t>(word >> 48 & 63),
            static_cast<uint8_t>((word >> 54 & 63) + 1), (word >> 60 & kFlagReserved) == 0,
            (word >> 60 & kFlagShared) != 0};
    if (!d.ok() || (run.shared && !run.written) || (word >> 60 & ~kKnownFlags) != 0 ||
        run.first < next || run.first + run.count > kGroupBlocks ||
        run.phys + run.count > dataBlocks)
      return std::nullopt;
    next = run.first + run.count;
    group.runs_.push_back(run);
  }
  for (const Run& run : group.runs_) {
    if (!run.written) continue;
    Bytes crcs = d.take(run.count * sizeof(uint32_t));
    if (!crcs.empty()) std::memcpy(&group.crcs_[run.first], crcs.data(), crcs.size());
  }
  if (!d.finished()) return std::nullopt;
  return group;
}

}  // namespace cairn::osd
