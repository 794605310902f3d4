#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {
std::vector<PlacementGroup> groups(Mds& mds) {
  return mds->map().poolByName("default")->pgs;
}
}  // namespace

TEST_CASE("osdRegister: a new store gets a number, a known one keeps its") {
  Mds mds(0);
  CHECK(mds.addOsd(10).id() == 1);
  CHECK(mds.addOsd(20).id() == 2);
  auto epoch = mds->map().epoch;
  CHECK(mds.addOsd(10,
                   [](auto o) {
                     o.setAddr("10.9.9.9:1");
                     o.setIncarnation(2);
                     o.setPid(77);
                   })
            .id() == 1);
  CHECK(mds->map().epoch.value == epoch.value + 1);
  CHECK(mds->map().osds.size() == 2);
  auto* osd = mds->map().osd(OsdId(1));
  CHECK(osd->addr == "10.9.9.9:1");
  CHECK(osd->pid == 77);
  CHECK(osd->up);
  CHECK(osd->in);
}

TEST_CASE("osdRegister: nothing new makes no epoch, and used bytes are not news") {
  Mds mds(1);
  auto epoch = mds->map().epoch;
  CHECK(mds.addOsd(1).ok());
  CHECK(mds.addOsd(1, [](auto o) { o.setBytesUsed(1 << 20); }).ok());
  CHECK(mds->map().epoch == epoch);
  CHECK(mds->map().osd(OsdId(1))->bytesUsed == 1 << 20);
  mds.osdState(1, false);
  CHECK(mds.addOsd(1).ok());
  CHECK(mds->map().epoch.value == epoch.value + 2);
  CHECK(mds->map().osd(OsdId(1))->up);
}

TEST_CASE("osdRegister: it stays out when it was put out") {
  Mds mds(1);
  mds.osdIn(1, false);
  mds.addOsd(1, [](auto o) { o.setIncarnation(9); });
  CHECK_FALSE(mds->map().osd(OsdId(1))->in);
}

TEST_CASE("osdRegister: weight is size, and never nothing") {
  Mds mds(0);
  auto weight = [&](uint64_t uuid, uint64_t bytes) {
    auto id = mds.addOsd(uuid, [&](auto o) { o.setBytesTotal(bytes); }).id();
    return mds->map().osd(OsdId(static_cast<uint32_t>(id)))->weight;
  };
  CHECK(weight(1, 1ull << 40) == 65536);
  CHECK(weight(2, 1ull << 39) == 32768);
  CHECK(weight(3, 4096) == 1);
  CHECK(weight(4, UINT64_MAX) == UINT32_MAX);
}

TEST_CASE("osdRegister: groups are placed when there are enough OSDs, and kept when used") {
  Mds mds(0, {}, 2);
  for (auto& g : groups(mds)) CHECK(g.osds.empty());
  mds.addOsd(1);
  for (auto& g : groups(mds)) CHECK(g.osds.empty());  // nobody may write to half a group
  mds.addOsd(2);
  auto placed = groups(mds);
  for (auto& g : placed) {
    CHECK(g.osds.size() == 2);
    CHECK(g.epoch == mds->map().epoch);
  }
  CHECK(mds->map().poolByName("default")->failureDomain == schema::FailureDomain::HOST);
  mds.alloc(mds.file("f"), 0, 1);
  // From the first chunk on nobody in sync leaves for somebody who has nothing yet.
  mds.addOsd(3);
  for (size_t i = 0; i < placed.size(); ++i) CHECK(groups(mds)[i].osds == placed[i].osds);
  placed = groups(mds);
  mds.reopen();
  CHECK(groups(mds) == placed);
  CHECK(mds->map().cluster == Mds::kCluster);
}

TEST_CASE("osdRegister: OSDs of one host fill a pool whose domain is chosen") {
  Mds mds(0, {}, 3);
  for (uint64_t i = 1; i <= 3; ++i) mds.addOsd(i, [](auto o) { o.setHost("one"); });
  for (auto& g : groups(mds)) CHECK(g.osds.size() == 3);
  CHECK(mds->map().poolByName("default")->failureDomain == schema::FailureDomain::OSD);
}

TEST_CASE("osdRegister: refusals") {
  Mds mds(0);
  auto epoch = mds->map().epoch;
  CHECK(mds.addOsd(1, [](auto o) { o.getUuid().setHi(0), o.getUuid().setLo(0); }).code() ==
        Errc::kInvalid);
  CHECK(mds.addOsd(1, [](auto o) { o.setAddr(""); }).code() == Errc::kInvalid);
  CHECK(mds.addOsd(1, [](auto o) { o.setHost(std::string(5000, 'h')); }).code() == Errc::kInvalid);
  CHECK(mds->map().epoch == epoch);
  CHECK(mds->map().osds.empty());
  CHECK(mds.addOsd(1).id() == 1);
}

TEST_CASE("osdRegister: as long as nothing is stored, whoever comes gets a share of all groups") {
  Mds mds(0);
  for (uint64_t uuid = 1; uuid <= 3; ++uuid) mds.addOsd(uuid);
  auto shares = [&] {
    std::map<OsdId, size_t> n;
    for (const auto& g : groups(mds))
      for (OsdId id : g.osds) ++n[id];
    return n;
  };
  CHECK(shares().size() == 3);
  mds.addOsd(4);
  mds.addOsd(5);
  CHECK(shares().size() == 5);
  for (const auto& [id, n] : shares()) CHECK(n * 5 * 2 > groups(mds).size() * 3);
  // From the first chunk on it joins, and its share moves to it when it has what is there.
  auto f = mds.file("f");
  mds.alloc(f, 0, 1);
  const auto before = groups(mds);
  mds.addOsd(6);
  size_t joined = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const PlacementGroup now = groups(mds)[i];
    CHECK(now.osds == before[i].osds);
    if (now.joining.empty()) {
      CHECK(now.epoch == before[i].epoch);
      continue;
    }
    CHECK(now.joining == std::vector{OsdId(6)});
    CHECK(now.epoch == mds->map().epoch);
    ++joined;
  }
  CHECK(joined * 6 * 2 > before.size() * 2);
  CHECK(joined * 6 < before.size() * 2 * 2);
}
