#include "mds/cluster/placement.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/cluster/mix64.h"

using namespace cairn;
using namespace cairn::mds;

namespace {

void addOsd(ClusterMap& map, uint32_t id, uint32_t weight, std::string host = "h",
            std::string rack = "r") {
  OsdEntry e;
  e.id = OsdId{id};
  e.host = std::move(host);
  e.rack = std::move(rack);
  e.weight = weight;
  e.up = e.in = true;
  map.osds[e.id] = e;
}

Pool makePool(uint16_t replicas, uint32_t pgs) {
  Pool p;
  p.id = PoolId{1};
  p.replicas = replicas;
  p.pgs.resize(pgs);
  return p;
}

std::map<OsdId, size_t> copies(const std::vector<std::vector<OsdId>>& lists) {
  std::map<OsdId, size_t> n;
  for (const auto& l : lists)
    for (OsdId o : l) ++n[o];
  return n;
}

size_t newMembers(const std::vector<OsdId>& before, const std::vector<OsdId>& after) {
  size_t n = 0;
  for (OsdId o : after) n += std::count(before.begin(), before.end(), o) == 0 ? 1 : 0;
  return n;
}

}  // namespace

TEST_CASE("the integer logarithm is the logarithm") {
  CHECK(negLog2(UINT64_MAX) == 0);
  CHECK(negLog2(0) == uint64_t{64} << 32);
  uint64_t state = 1;
  long double worst = 0;
  for (int i = 0; i < 200'000; ++i) {
    state = mix64(state);
    const uint64_t x = state >> (i % 60);
    const long double want = 64 - std::log2(static_cast<long double>(x) + 1);
    const long double got = static_cast<long double>(negLog2(x)) / 4294967296.0L;
    worst = std::max(worst, std::fabs(want - got));
  }
  CHECK(worst < std::exp2(-24.0L));
  // Monotonic across table entries: the order of draws is never inverted by interpolation.
  uint64_t last = negLog2(uint64_t{1} << 63);
  for (uint64_t x = uint64_t{1} << 63; x < UINT64_MAX - (uint64_t{1} << 45);
       x += uint64_t{1} << 45) {
    const uint64_t now = negLog2(x);
    REQUIRE(now <= last);
    last = now;
  }
}

TEST_CASE("an OSD's share of a pool follows its weight") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 10; ++i) addOsd(map, i, i <= 5 ? 65536 : 2 * 65536);
  const Pool pool = makePool(1, 32768);
  const auto n = copies(placePool(map, pool));
  for (const auto& [id, count] : n) {
    const double want = 32768.0 * (id.value <= 5 ? 1 : 2) / 15;
    CHECK_MESSAGE(std::abs(static_cast<double>(count) - want) < 5 * std::sqrt(want), id.value);
  }
}

TEST_CASE("equal OSDs hold equally many copies and are primaries equally often") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 6; ++i) addOsd(map, i, 100);
  const auto lists = placePool(map, makePool(3, 8192));
  std::map<OsdId, size_t> primaries;
  for (const auto& l : lists) ++primaries[l.at(0)];
  for (const auto& [id, count] : copies(lists)) {
    CHECK(count > 4096 * 0.95);
    CHECK(count < 4096 * 1.05);
    CHECK(primaries[id] > 1365 * 0.88);
    CHECK(primaries[id] < 1365 * 1.12);
  }
}

TEST_CASE("a cluster of three with three copies uses all three for every group") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 3; ++i) addOsd(map, i, 10 * i);
  for (const auto& l : placePool(map, makePool(3, 128))) {
    CHECK(std::set<OsdId>(l.begin(), l.end()).size() == 3);
  }
}

TEST_CASE("adding an OSD moves groups only to it, and only its share") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 9; ++i) addOsd(map, i, 65536);
  const Pool pool = makePool(3, 4096);
  const auto before = placePool(map, pool);
  addOsd(map, 10, 65536);
  const auto after = placePool(map, pool);
  size_t moved = 0;
  for (size_t pg = 0; pg < before.size(); ++pg) {
    const bool hasNew = std::count(after[pg].begin(), after[pg].end(), OsdId{10}) == 1;
    CHECK(newMembers(before[pg], after[pg]) == (hasNew ? 1 : 0));
    if (!hasNew) CHECK(before[pg] == after[pg]);
    moved += hasNew ? 1 : 0;
  }
  const double want = 4096.0 * 3 / 10;
  CHECK(std::abs(static_cast<double>(moved) - want) < 5 * std::sqrt(want));
}

// Over random maps: whatever happens to one OSD, targets change only by its coming or going, and
// where nothing comes or goes not even their order changes but for its own place.
TEST_CASE("one OSD's change moves no more than it must") {
  uint64_t random = 42;
  auto below = [&random](uint64_t n) { return (random = mix64(random)) % n; };
  for (int round = 0; round < 60; ++round) {
    ClusterMap map;
    const auto osds = static_cast<uint32_t>(3 + below(15));
    for (uint32_t i = 1; i <= osds; ++i)
      addOsd(map, i, static_cast<uint32_t>(1 + below(200'000)), "h" + std::to_string(below(9)));
    Pool pool = makePool(static_cast<uint16_t>(1 + below(4)), 64);
    if (below(2) == 0) pool.failureDomain = schema::FailureDomain::HOST;
    for (int step = 0; step < 8; ++step) {
      const auto before = placePool(map, pool);
      const OsdId it(static_cast<uint32_t>(1 + below(osds + 1)));
      bool more = false, less = false;  // what it may win and lose
      if (map.osd(it) == nullptr) {
        addOsd(map, it.value, 65536, "h" + std::to_string(below(9)));
        more = true;
      } else if (below(2) == 0) {
        more = map.osds[it].in = !map.osds[it].in;
        less = !more;
      } else {
        const auto weight = static_cast<uint32_t>(1 + below(200'000));
        more = weight > map.osds[it].weight;
        less = !more;
        map.osds[it].weight = weight;
      }
      const auto after = placePool(map, pool);
      for (size_t pg = 0; pg < before.size(); ++pg) {
        std::vector<OsdId> a = before[pg], b = after[pg];
        const bool had = std::erase(a, it) != 0, has = std::erase(b, it) != 0;
        if (!more) CHECK((had || !has));
        if (!less) CHECK((has || !had));
        // At most one other comes where it went, or goes where it came, and the rest keeps its
        // order.
        CHECK(newMembers(a, b) <= (less ? 1 : 0));
        CHECK(newMembers(b, a) <= (more ? 1 : 0));
        std::vector<OsdId> stayA, stayB;
        for (OsdId o : a)
          if (std::ranges::count(b, o) != 0) stayA.push_back(o);
        for (OsdId o : b)
          if (std::ranges::count(a, o) != 0) stayB.push_back(o);
        CHECK(stayA == stayB);
      }
    }
  }
}

TEST_CASE("taking an OSD out moves only what it held") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 12; ++i) addOsd(map, i, 65536 + i * 1000, "h" + std::to_string(i / 2));
  Pool pool = makePool(3, 4096);
  pool.failureDomain = schema::FailureDomain::HOST;
  const auto before = placePool(map, pool);
  map.osds[OsdId{4}].in = false;
  const auto after = placePool(map, pool);
  for (size_t pg = 0; pg < before.size(); ++pg) {
    const bool had = std::count(before[pg].begin(), before[pg].end(), OsdId{4}) == 1;
    CHECK(std::count(after[pg].begin(), after[pg].end(), OsdId{4}) == 0);
    if (!had) CHECK(before[pg] == after[pg]);
    // At most the lost copy and, where its host now offers another OSD, the one that made room.
    if (had) CHECK(newMembers(before[pg], after[pg]) == 1);
  }
}

TEST_CASE("no two members of a group share a failure domain") {
  ClusterMap map;
  for (uint32_t i = 0; i < 24; ++i)
    addOsd(map, i + 1, 65536 * (1 + i % 3), "h" + std::to_string(i / 3),
           "r" + std::to_string(i / 6));
  for (auto domain : {schema::FailureDomain::HOST, schema::FailureDomain::RACK}) {
    Pool pool = makePool(4, 512);
    pool.failureDomain = domain;
    for (const auto& l : placePool(map, pool)) {
      REQUIRE(l.size() == 4);
      std::set<std::string> names;
      for (OsdId o : l)
        names.insert(domain == schema::FailureDomain::HOST ? map.osd(o)->host : map.osd(o)->rack);
      CHECK(names.size() == 4);
    }
  }
}

TEST_CASE("without enough domains a target is short rather than unsafe") {
  ClusterMap map;
  addOsd(map, 1, 10, "a");
  addOsd(map, 2, 10, "a");
  addOsd(map, 3, 10, "b");
  Pool pool = makePool(3, 128);
  CHECK(usableDomains(map, pool) == 3);
  CHECK(placePool(map, pool)[5].size() == 3);
  CHECK(chooseFailureDomain(map, pool) == schema::FailureDomain::OSD);
  pool.failureDomain = schema::FailureDomain::HOST;
  CHECK(usableDomains(map, pool) == 2);
  for (const auto& l : placePool(map, pool)) {
    REQUIRE(l.size() == 2);
    CHECK(map.osd(l[0])->host != map.osd(l[1])->host);
  }
  pool.replicas = 2;
  CHECK(chooseFailureDomain(map, pool) == schema::FailureDomain::HOST);
  CHECK(placePool(map, pool)[0].size() == 2);
}

TEST_CASE("only OSDs that are in, have weight and are of the pool's class are used") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 6; ++i) addOsd(map, i, 10);
  map.osds[OsdId{1}].in = false;
  map.osds[OsdId{2}].weight = 0;
  map.osds[OsdId{3}].deviceClass = schema::DeviceClass::HDD;
  map.osds[OsdId{4}].up = false;  // down is not out: its data is there and it will be back
  Pool pool = makePool(1, 1024);
  CHECK(copies(placePool(map, pool)).size() == 4);
  pool.anyClass = false;
  const auto n = copies(placePool(map, pool));
  CHECK(n.size() == 3);
  CHECK(n.contains(OsdId{4}));
  CHECK_FALSE(n.contains(OsdId{3}));
}

TEST_CASE("the number of groups is a power of two that grows with the cluster") {
  ClusterMap map;
  CHECK(choosePgCount(map, makePool(3, 0)) == 128);
  for (uint32_t i = 1; i <= 30; ++i) addOsd(map, i, 10);
  CHECK(choosePgCount(map, makePool(3, 0)) == 1024);
  for (uint32_t i = 31; i <= 5000; ++i) addOsd(map, i, 10);
  CHECK(choosePgCount(map, makePool(3, 0)) == kMaxPgCount);
}

TEST_CASE("a pool of wide groups has fewer of them, so that its map fits a message") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 5000; ++i) addOsd(map, i, 10);
  Pool pool;
  pool.ecData = 4;
  pool.ecParity = 2;
  CHECK(choosePgCount(map, pool) == 4096);
  pool.ecData = 16;
  pool.ecParity = 4;
  CHECK(choosePgCount(map, pool) == 2048);
  // What is counted for a group is what it takes, with everybody in sync or complete, and joining.
  pool.pgs.resize(2048);
  for (auto& g : pool.pgs)
    for (uint32_t i = 0; i < 20; ++i) {
      (i < 17 ? g.osds : g.complete).emplace_back(i + 1);
      g.joining.emplace_back(i + 101);
      g.shards[OsdId(i + 1)] = g.shards[OsdId(i + 101)] = static_cast<uint8_t>(i);
    }
  for (uint16_t replicas : {0, 3}) {
    pool.replicas = replicas;
    for (auto& g : pool.pgs) {
      if (replicas == 0) continue;
      g.osds.resize(replicas);
      g.joining.resize(replicas);
      g.shards.clear();
    }
    ClusterMap only;
    only.pools[PoolId(1)] = pool;
    capnp::MallocMessageBuilder message(1u << 20);  // one segment, as on the wire
    only.write(message.initRoot<schema::ClusterMap>());
    const size_t bytes = 8 * message.sizeInWords();
    CHECK(bytes >= 2048 * groupBytes(pool));
    CHECK(bytes < 2048 * groupBytes(pool) + 1024);
  }
}

TEST_CASE("placement is part of the format: the same map gives the same lists for ever") {
  ClusterMap map;
  for (uint32_t i = 1; i <= 7; ++i) addOsd(map, i, 1000 * i);
  uint64_t digest = 0;
  for (const auto& l : placePool(map, makePool(3, 256)))
    for (OsdId o : l) digest = mix64(digest ^ o.value);
  CHECK(digest == 13145249196627403441ull);
}
