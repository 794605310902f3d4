// Bytes per second over the last seconds: counts go into buckets of a second each. Any one thread.
#pragma once

#include <array>
#include <cstdint>

#include "common/reactor/clock.h"

namespace cairn::mds {

class RateMeter {
 public:
  void add(TimePoint now, uint64_t bytes) {
    Bucket& b = buckets_[secondOf(now) % kBuckets];
    if (b.second != secondOf(now)) b = {secondOf(now), 0};
    b.bytes += bytes;
  }
  // Over the whole seconds before this one.
  [[nodiscard]] uint64_t perSecond(TimePoint now) const {
    uint64_t sum = 0;
    for (const Bucket& b : buckets_)
      if (b.second < secondOf(now) && b.second + kSeconds >= secondOf(now)) sum += b.bytes;
    return sum / kSeconds;
  }

 private:
  static constexpr int64_t kSeconds = 5;
  static constexpr size_t kBuckets = kSeconds + 1;
  struct Bucket {
    int64_t second = -kSeconds - 1;
    uint64_t bytes = 0;
  };
  static int64_t secondOf(TimePoint t) { return t.time_since_epoch() / 1s; }
  std::array<Bucket, kBuckets> buckets_;
};

}  // namespace cairn::mds
