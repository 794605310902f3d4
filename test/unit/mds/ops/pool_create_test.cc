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
  CHECK(make(16, 4) == Errc::kOk);
  CHECK(make(17, 2) == Errc::kInvalid);
  CHECK(make(4, 5) == Errc::kInvalid);
}

TEST_CASE("poolCreate: a stripe unit is a power of two, and only a code has one") {
  Mds mds(3);
  auto made = [&](uint16_t replicas, uint32_t bytes) -> uint32_t {
    const std::string name = std::to_string(mds->map().pools.size());
    auto answer = mds.createPool(name, replicas, [&](auto p) {
      p.setEcData(replicas == 0 ? 2 : 0);
      p.setEcParity(replicas == 0 ? 1 : 0);
      p.setStripeUnit(bytes);
      p.setPgCount(8);
    });
    if (!answer.ok()) CHECK(answer.code() == Errc::kInvalid);
    return answer.ok() ? mds->map().poolByName(name)->stripeUnit : 1;
  };
  CHECK(made(0, 0) == 64 * 1024);
  for (uint32_t bytes = 4096; bytes <= 1024 * 1024; bytes *= 2) CHECK(made(0, bytes) == bytes);
  for (uint32_t bytes : {1u, 2048u, 4097u, 12288u, 2u << 20, 1u << 31, ~0u})
    CHECK(made(0, bytes) == 1);
  CHECK(made(2, 0) == 0);
  CHECK(made(2, 65536) == 1);
  mds.reopen();
  CHECK(mds->map().poolByName("2")->stripeUnit == 4096);
}

TEST_CASE("poolCreate: the smallest size of a group is more than half, or what was asked for") {
  Mds mds(3);
  auto minSize = [&](uint16_t replicas, uint16_t ecData, uint16_t ecParity, uint16_t asked) {
    const std::string name = std::to_string(mds->map().pools.size());
    auto made = mds.createPool(name, replicas, [&](auto p) {
      p.setEcData(ecData);
      p.setEcParity(ecParity);
      p.setMinSize(asked);
    });
    return made.ok() ? mds->map().poolByName(name)->minSize : 0;
  };
  CHECK(mds->map().poolByName("default")->minSize == 1);
  for (auto [copies, least] : {std::pair(1, 1), {2, 1}, {3, 2}, {4, 2}, {5, 3}, {7, 4}})
    CHECK(minSize(static_cast<uint16_t>(copies), 0, 0, 0) == least);
  CHECK(minSize(0, 4, 2, 0) == 5);
  CHECK(minSize(0, 16, 4, 0) == 17);
  CHECK(minSize(0, 2, 1, 0) == 2);  // of 3 the first failure would stop every write
  CHECK(minSize(0, 2, 1, 3) == 3);
  CHECK(minSize(3, 0, 0, 1) == 1);
  CHECK(minSize(3, 0, 0, 3) == 3);
  CHECK(minSize(0, 4, 2, 4) == 4);
  CHECK(minSize(0, 4, 2, 6) == 6);
  CHECK(minSize(3, 0, 0, 4) == 0);
  CHECK(minSize(0, 4, 2, 3) == 0);
  CHECK(minSize(0, 4, 2, 7) == 0);
  mds.reopen();
  CHECK(mds->map().pool(PoolId(2))->minSize == 1);
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
