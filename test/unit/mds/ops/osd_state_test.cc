#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("osdState: one epoch for all that changed, none for nothing, no trace of a failure") {
  Mds mds(3);
  auto epoch = mds->map().epoch;
  auto set = [&](std::vector<uint32_t> ids, bool up) {
    return mds.run([&](auto m) {
      auto list = m.initOsdState(static_cast<uint32_t>(ids.size()));
      for (uint32_t i = 0; i < ids.size(); ++i) {
        list[i].setId(ids[i]);
        list[i].setUp(up);
      }
    });
  };
  CHECK(set({1, 2}, false).ok());
  CHECK(mds->map().epoch.value == epoch.value + 1);
  CHECK_FALSE(mds->map().osd(OsdId(1))->up);
  CHECK_FALSE(mds->map().osd(OsdId(2))->up);
  CHECK(mds->map().osd(OsdId(3))->up);
  CHECK(set({1, 2}, false).ok());
  CHECK(mds->map().epoch.value == epoch.value + 1);
  CHECK(set({3, 9}, false).code() == Errc::kNotFound);
  CHECK(mds->map().osd(OsdId(3))->up);
  CHECK(mds->map().epoch.value == epoch.value + 1);
  mds.reopen();
  CHECK_FALSE(mds->map().osd(OsdId(1))->up);
}

TEST_CASE("osdSet: an OSD that comes in fills groups that were never complete") {
  Mds mds(0, {}, 2);
  mds.addOsd(1);
  mds.osdIn(1, false);
  mds.addOsd(2);
  CHECK(mds->map().poolByName("default")->pgs[0].osds.empty());
  mds.osdIn(1, true);
  CHECK(mds->map().poolByName("default")->pgs[0].osds.size() == 2);
}
