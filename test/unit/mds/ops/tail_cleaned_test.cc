#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("tailCleaned: it counts only for the size that was cleaned, and moves no time") {
  Mds mds;
  auto f = mds.file("f");
  mds.alloc(f, 0, 1);
  mds.commit(f, 1000);
  CHECK(mds.truncate(f, 10).attr().getTailUnclean());
  auto cleaned = [&](uint64_t size) {
    return mds
        .run([&](auto m) {
          auto t = m.initTailCleaned();
          t.setIno(f.value);
          t.setSize(size);
        })
        .attr()
        .getTailUnclean();
  };
  auto before = mds.inode(f);
  CHECK(cleaned(1000));
  CHECK(cleaned(9));
  CHECK_FALSE(cleaned(10));
  CHECK(mds.inode(f).ctimeNs == before.ctimeNs);
  CHECK(mds.inode(f).dataVersion == before.dataVersion);
}
