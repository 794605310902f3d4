#include "test/sim/redundancy.h"

#include <array>

namespace cairn::sim::test {
namespace {

constexpr std::array<StripedPool, 6> kCodes{{{4, 2, 16 * kKiB, 0},
                                             {4, 2, 8 * kKiB, 0},
                                             {2, 1, 8 * kKiB, 0},
                                             {4, 2, 4 * kKiB, 0},
                                             {3, 2, 8 * kKiB, 0},
                                             {4, 2, 8 * kKiB, 0}}};

}  // namespace

ClusterOptions fewOsds(uint64_t seed) {
  return {.osds = 3, .replicas = static_cast<uint16_t>(2 + seed % 2), .clients = 2};
}

ClusterOptions copiesOrShards(uint64_t seed, size_t more, Duration outAfter) {
  ClusterOptions o{.replicas = 3, .clients = 2, .outAfter = outAfter};
  if (seed % 2 == 0) {
    const uint64_t i = seed / 2;
    StripedPool pool = kCodes.at(i % kCodes.size());
    pool.minSize = static_cast<uint16_t>(pool.data + (i + i / kCodes.size()) % 2);
    o.striped = pool;
  }
  o.osds = o.width() + more;
  return o;
}

size_t mayBeAway(const ClusterOptions& options) {
  return options.striped ? options.striped->parity : 1;
}

}  // namespace cairn::sim::test
