#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("garbageDone: the named positions leave the queue, once") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 10);
  mds.truncate(f, 0);
  mds.removeChunks(f, 0, 10);
  auto queue = mds.garbage();
  REQUIRE(queue.size() == 10);
  auto done = [&](std::vector<uint64_t> ids) {
    return mds.run([&](auto m) {
      auto list = m.initGarbageDone(static_cast<uint32_t>(ids.size()));
      for (uint32_t i = 0; i < ids.size(); ++i) list.set(i, ids[i]);
    });
  };
  CHECK(done({queue[0].id, queue[1].id, queue[5].id, queue[5].id, 12345}).ok());
  CHECK(mds->counts().garbage == 7);
  auto left = mds.garbage();
  REQUIRE(left.size() == 7);
  CHECK(left[0].id == queue[2].id);
  CHECK(mds->garbage(queue[5].id, 2)->front().id == queue[6].id);
  CHECK(mds->garbage(queue[2].id, 2)->size() == 2);
  CHECK(mds->garbage(UINT64_MAX, 2)->empty());
  for (auto& g : left) CHECK(done({g.id}).ok());
  CHECK(mds.garbage().empty());
  // What comes later is found, though the queue was empty; positions are not used again.
  mds.alloc(f, 0, 1);
  mds.removeChunks(f, 0, 1);
  REQUIRE(mds.garbage().size() == 1);
  CHECK(mds.garbage()[0].id > left.back().id);
}
