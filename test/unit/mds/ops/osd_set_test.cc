#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("osdSet: a weight that was set stays, whatever the OSD says of its size") {
  Mds mds(3);
  auto weigh = [&](uint32_t id, uint32_t weight) {
    return mds.run([&](auto m) {
      auto set = m.initOsdSet();
      set.setId(id);
      set.setSetWeight(true);
      set.setWeight(weight);
    });
  };
  auto weight = [&] { return mds->map().osd(OsdId(1))->weight; };
  CHECK(weight() == 65536);
  CHECK(weigh(1, 1000).ok());
  CHECK(weight() == 1000);
  CHECK(mds->map().osd(OsdId(1))->in);
  mds.addOsd(1, [](auto o) { o.setBytesTotal(1ull << 41); });
  CHECK(weight() == 1000);
  mds.reopen();
  CHECK(weight() == 1000);
  const auto epoch = mds->map().epoch;
  CHECK(weigh(1, 1000).ok());
  CHECK(mds->map().epoch == epoch);
  CHECK(weigh(1, 0).ok());
  CHECK(weight() == 2 * 65536);
  CHECK(weigh(9, 1).code() == Errc::kNotFound);
}
