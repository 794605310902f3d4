#include "common/locks/lock_ranges.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "common/reactor/clock.h"

namespace cairn::lock_ranges_test {

constexpr auto kNone = LockType::kNone, kRead = LockType::kRead, kWrite = LockType::kWrite;

// "r0-9 w10-": pieces, the last byte left out where it is the last there is.
std::string show(const LockRanges& ranges) {
  std::string out;
  for (const LockPiece& p : ranges.all()) {
    if (!out.empty()) out += ' ';
    out += (p.type == kWrite ? "w" : "r") + std::to_string(p.start) + "-";
    if (p.end != kLastLockByte) out += std::to_string(p.end);
  }
  return out;
}

TEST_CASE("lock ranges: what is set replaces, splits and joins") {
  LockRanges r;
  r.set({0, kLastLockByte, kWrite, 1});
  CHECK(show(r) == "w0-");
  r.set({10, 19, kNone, 1});
  CHECK(show(r) == "w0-9 w20-");
  r.set({5, 24, kRead, 1});
  CHECK(show(r) == "w0-4 r5-24 w25-");
  r.set({0, 4, kRead, 1});
  CHECK(show(r) == "r0-24 w25-");
  r.set({25, kLastLockByte, kRead, 2});
  CHECK(show(r) == "r0-");
  CHECK(r.all().front().pid == 2);
  r.set({kLastLockByte, kLastLockByte, kWrite, 2});
  CHECK(show(r) ==
        "r0-" + std::to_string(kLastLockByte - 1) + " w" + std::to_string(kLastLockByte) + "-");
  r.set({0, kLastLockByte, kNone, 2});
  CHECK(r.empty());
}

TEST_CASE("lock ranges: the same as bytes") {
  constexpr uint64_t kBytes = 40;
  SeededRandom random(7);
  for (int round = 0; round < 200; ++round) {
    LockRanges ranges;
    std::array<LockType, kBytes> model{};
    for (int i = 0; i < 60; ++i) {
      const uint64_t start = random.below(kBytes), end = start + random.below(kBytes - start);
      const auto type = static_cast<LockType>(random.below(3));
      bool lessened = false, reader = false, writer = false;
      for (uint64_t b = start; b <= end; ++b) {
        lessened = lessened || model[b] > type;
        reader = reader || model[b] == kRead;
        writer = writer || model[b] == kWrite;
      }
      REQUIRE(ranges.lessened({start, end, type, 0}) == lessened);
      REQUIRE(ranges.excluding(start, end, kRead).has_value() == writer);
      REQUIRE(ranges.excluding(start, end, kWrite).has_value() == (reader || writer));
      ranges.set({start, end, type, 0});
      size_t pieces = 0, writing = 0;
      for (uint64_t b = start; b <= end; ++b) model[b] = type;
      for (uint64_t b = 0; b < kBytes; ++b) {
        const bool begins = model[b] != kNone && (b == 0 || model[b - 1] != model[b]);
        pieces += begins ? 1 : 0;
        writing += begins && model[b] == kWrite ? 1 : 0;
        auto at = ranges.within(b, b);
        REQUIRE((at.empty() ? kNone : at.front().type) == model[b]);
      }
      REQUIRE(ranges.size() == pieces);
      REQUIRE(ranges.writing() == writing);
    }
  }
}

}  // namespace cairn::lock_ranges_test
