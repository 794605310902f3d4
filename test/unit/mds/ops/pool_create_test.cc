#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("poolCreate: a pool is placed at once when there are OSDs") {
  Mds mds(3);
  auto id = mds.createPool("fast", 3, [](auto p) { p.setPgCount(64); }).id();
  CHECK(id == 2);
  auto* pool = mds->map().pool(PoolId(2));
  REQUIRE(pool != nullptr);
  CHECK(pool->name == "fast");
  CHECK(pool->pgs.size() == 64);
  CHECK(pool->failureDomain == schema::FailureDomain::HOST);
  for (auto& g : pool->pgs) {
    CHECK(g.osds.size() == 3);
    CHECK(g.epoch == mds->map().epoch);
  }
  mds.reopen();
  CHECK(mds->map().pool(PoolId(2))->pgs[63].osds == mds->map().pool(PoolId(2))->pgs[63].osds);
  CHECK(mds->map().pool(PoolId(2))->redundancy() == "3x");
}

TEST_CASE("poolCreate: a class restricts it, and it waits for OSDs of that class") {
  Mds mds(3);
  mds.createPool("slow", 1, [](auto p) {
    p.setAnyClass(false);
    p.setDeviceClass(schema::DeviceClass::HDD);
  });
  auto first = [&] { return mds->map().poolByName("slow")->pgs[0].osds; };
  CHECK(first().empty());
  auto id = mds.addOsd(9, [](auto o) { o.setDeviceClass(schema::DeviceClass::HDD); }).id();
  CHECK(first() == std::vector{OsdId(static_cast<uint32_t>(id))});
}

TEST_CASE("poolCreate: erasure codes have data and parity") {
  Mds mds(3);
  auto make = [&](uint16_t k, uint16_t m) {
    return mds
        .createPool("ec" + std::to_string(k) + "." + std::to_string(m), 0,
                    [&](auto p) {
                      p.setEcData(k);
                      p.setEcParity(m);
                    })
        .code();
  };
  CHECK(make(2, 1) == Errc::kOk);
  CHECK(mds->map().poolByName("ec2.1")->pgs[0].osds.size() == 3);
  CHECK(mds->map().poolByName("ec2.1")->redundancy() == "2+1");
  CHECK(mds->map().poolByName("ec2.1")->stripeUnit == 65536);
  CHECK(make(1, 1) == Errc::kInvalid);
  CHECK(make(4, 0) == Errc::kInvalid);
  CHECK(make(33, 2) == Errc::kInvalid);
  CHECK(make(4, 9) == Errc::kInvalid);
}

TEST_CASE("poolCreate: refusals make no epoch") {
  Mds mds(3);
  auto epoch = mds->map().epoch;
  CHECK(mds.createPool("default", 2).code() == Errc::kExists);
  CHECK(mds.createPool("", 2).code() == Errc::kInvalid);
  CHECK(mds.createPool("a b", 2).code() == Errc::kInvalid);
  CHECK(mds.createPool(std::string(65, 'x'), 2).code() == Errc::kInvalid);
  CHECK(mds.createPool("x", 0).code() == Errc::kInvalid);
  CHECK(mds.createPool("x", 9).code() == Errc::kInvalid);
  CHECK(mds.createPool("x", 2, [](auto p) { p.setEcData(2); }).code() == Errc::kInvalid);
  CHECK(mds.createPool("x", 2, [](auto p) { p.setPgCount(1 << 20); }).code() == Errc::kInvalid);
  CHECK(mds->map().epoch == epoch);
  CHECK(mds->map().pools.size() == 1);
}
