#include "common/reactor/clock.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <chrono>

#include "common/base/assert.h"
#include "common/reactor/system_clock.h"

namespace cairn {

TimePoint SystemClock::now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

WallNs SystemClock::wallNow() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

SeededRandom::SeededRandom(uint64_t seed) {
  // splitmix64 spreads one word over the state; an all-zero state, which xoshiro must not have,
  // cannot come out of it.
  for (auto& word : s_) {
    seed += 0x9e3779b97f4a7c15ull;
    uint64_t x = seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    word = x ^ (x >> 31);
  }
}

uint64_t SeededRandom::next() {
  uint64_t result = std::rotl(s_[1] * 5, 7) * 9;
  uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = std::rotl(s_[3], 45);
  return result;
}

uint64_t systemRandom64() {
  uint64_t value = 0;
  ssize_t n;
  do {
    n = getrandom(&value, sizeof value, 0);  // 8 bytes come whole or not at all: getrandom(2)
  } while (n < 0 && errno == EINTR);
  CAIRN_ASSERT(n == sizeof value, "the kernel has random numbers");
  return value;
}

}  // namespace cairn
