// Time and randomness come in through these two, made in main(); nothing else asks the system.
#pragma once

#include <cstdint>

#include "common/base/units.h"

namespace cairn {

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;   // monotonic
  [[nodiscard]] virtual WallNs wallNow() const = 0;  // may jump
};

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t next() = 0;
  // Uniform in [0, bound); bound > 0. The bias of the modulo is below 2^-32 for every bound used
  // here.
  uint64_t below(uint64_t bound) { return next() % bound; }
  // True with probability num/den.
  bool chance(uint64_t num, uint64_t den) { return below(den) < num; }
};

// xoshiro256** (Blackman, Vigna), seeded by splitmix64: deterministic, for the simulator and for
// jitter.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed);
  uint64_t next() override;

 private:
  uint64_t s_[4];
};

// getrandom(2): for ids that must be unique in the world.
uint64_t systemRandom64();

}  // namespace cairn
