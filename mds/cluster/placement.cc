#include "mds/cluster/placement.h"

#include <algorithm>
#include <array>
#include <bit>
#include <set>
#include <string_view>

#include "common/cluster/mix64.h"

namespace cairn::mds {
namespace {

using Wide = unsigned __int128;

// log2 of m / 2^63 for m in [2^63, 2^64), in 1/2^40: one bit of the result per squaring.
constexpr uint64_t log2Mantissa(uint64_t m) {
  uint64_t result = 0;
  for (int bit = 0; bit < 40; ++bit) {
    Wide square = static_cast<Wide>(m) * m;  // in [2^126, 2^128)
    result <<= 1;
    if (square >> 127 != 0) {
      result |= 1;
      m = static_cast<uint64_t>(square >> 64);
    } else {
      m = static_cast<uint64_t>(square >> 63);
    }
  }
  return result;
}

// log2(1 + i/2048) in 1/2^40.
constexpr int kTableBits = 11;
constexpr auto kLogTable = [] {
  std::array<uint64_t, (1u << kTableBits) + 1> t{};
  for (uint64_t i = 0; i < t.size() - 1; ++i)
    t[i] = log2Mantissa((uint64_t{1} << 63) + (i << (63 - kTableBits)));
  t.back() = uint64_t{1} << 40;
  return t;
}();

// What one OSD drew for one group: -log2(u) / weight, kept as a fraction. The smallest wins.
struct Draw {
  uint64_t log = 0;
  uint32_t weight = 1;
  OsdId osd;
  uint32_t domain = 0;

  [[nodiscard]] bool better(const Draw& o) const {
    auto a = static_cast<Wide>(log) * o.weight;
    auto b = static_cast<Wide>(o.log) * weight;
    return a != b ? a < b : osd < o.osd;
  }
};

bool usable(const OsdEntry& osd, const Pool& pool) {
  return osd.in && osd.weight > 0 && (pool.anyClass || osd.deviceClass == pool.deviceClass);
}

// The name of the domain an OSD lies in; OSDs are domains of their own and have none.
std::string_view domainName(const OsdEntry& osd, schema::FailureDomain domain) {
  return domain == schema::FailureDomain::RACK ? osd.rack : osd.host;
}

// Puts `draw` into `best`, which holds the best draws of distinct domains, best first, at most
// `width`.
void offer(std::vector<Draw>& best, const Draw& draw, size_t width) {
  auto same = std::find_if(best.begin(), best.end(),
                           [&](const Draw& d) { return d.domain == draw.domain; });
  if (same != best.end()) {
    if (!draw.better(*same)) return;
    best.erase(same);
  } else if (best.size() == width) {
    if (!draw.better(best.back())) return;
    best.pop_back();
  }
  auto at = std::find_if(best.begin(), best.end(), [&](const Draw& d) { return draw.better(d); });
  best.insert(at, draw);
}

}  // namespace

uint64_t negLog2(uint64_t x) {
  if (x == UINT64_MAX) return 0;
  const uint64_t v = x + 1;
  const int zeros = std::countl_zero(v);
  const uint64_t fraction = (v << zeros) << 1;  // bits behind the leading one
  const uint64_t i = fraction >> (64 - kTableBits);
  const uint64_t rest = fraction << kTableBits >> 32;  // in 1/2^32 between two entries
  const uint64_t mantissa =
      kLogTable[i] +
      static_cast<uint64_t>((static_cast<Wide>(kLogTable[i + 1] - kLogTable[i]) * rest) >> 32);
  // log2(v) = 63 - zeros + mantissa.
  const uint64_t negative = (static_cast<uint64_t>(zeros + 1) << 40) - mantissa;
  return negative >> 8;
}

Placer::Placer(const ClusterMap& map, const Pool& pool)
    : poolSeed_(mix64(pool.id.value)), width_(pool.width()) {
  std::map<std::string_view, uint32_t> names;
  for (const auto& [id, osd] : map.osds) {
    if (!usable(osd, pool)) continue;
    uint32_t domain = static_cast<uint32_t>(osds_.size());
    if (pool.failureDomain != schema::FailureDomain::OSD)
      domain =
          names.emplace(domainName(osd, pool.failureDomain), static_cast<uint32_t>(names.size()))
              .first->second;
    osds_.push_back({id, osd.weight, domain});
  }
}

std::vector<OsdId> Placer::target(PgIndex pg) const {
  std::vector<OsdId> list;
  if (width_ == 0) return list;
  std::vector<Draw> best;
  best.reserve(width_ + 1);
  const uint64_t seed = mix64(poolSeed_ + pg.value);
  for (const Candidate& c : osds_)
    offer(best, {negLog2(mix64(seed ^ mix64(c.id.value))), c.weight, c.id, c.domain}, width_);
  list.reserve(best.size());
  for (const Draw& d : best) list.push_back(d.osd);
  return list;
}

std::vector<std::vector<OsdId>> placePool(const ClusterMap& map, const Pool& pool) {
  const Placer placer(map, pool);
  std::vector<std::vector<OsdId>> lists;
  lists.reserve(pool.pgs.size());
  for (uint32_t pg = 0; pg < pool.pgs.size(); ++pg) lists.push_back(placer.target(PgIndex{pg}));
  return lists;
}

size_t usableDomains(const ClusterMap& map, const Pool& pool) {
  std::set<uint32_t> domains;
  for (const auto& c : Placer(map, pool).osds_) domains.insert(c.domain);
  return domains.size();
}

schema::FailureDomain chooseFailureDomain(const ClusterMap& map, const Pool& pool) {
  Pool overHosts = pool;
  overHosts.failureDomain = schema::FailureDomain::HOST;
  return usableDomains(map, overHosts) >= pool.width() ? schema::FailureDomain::HOST
                                                       : schema::FailureDomain::OSD;
}

size_t groupBytes(const Pool& pool) {
  constexpr size_t kPgBytes = 40;  // the epoch and four pointers
  constexpr auto words = [](size_t bytes) { return (bytes + 7) / 8 * 8; };
  const size_t lists = 2 * words(pool.width() * sizeof(uint32_t));
  // Who is complete is not in sync: the two lists are counted as one, and 8 for the rounding.
  return kPgBytes + lists + (pool.erasureCoded() ? words(2 * pool.width()) + 8 : 0);
}

uint32_t choosePgCount(const ClusterMap& map, const Pool& pool) {
  uint64_t usableOsds = 0;
  for (const auto& [id, osd] : map.osds) usableOsds += usable(osd, pool) ? 1 : 0;
  const uint64_t wanted = usableOsds * 100 / std::max<size_t>(pool.width(), 1);
  const uint64_t most = std::min<uint64_t>(kMaxPgCount, kMaxPoolBytes / groupBytes(pool));
  return static_cast<uint32_t>(std::clamp<uint64_t>(std::bit_ceil(std::max<uint64_t>(wanted, 1)),
                                                    kMinPgCount, std::bit_floor(most)));
}

}  // namespace cairn::mds
