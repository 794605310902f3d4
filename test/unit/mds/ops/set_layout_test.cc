#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {
Answer setLayout(Mds& mds, InodeId ino, const std::string& pool) {
  return mds.run([&](auto m) {
    auto l = m.initSetLayout();
    l.setIno(ino.value);
    l.setPool(pool);
  });
}
}  // namespace

TEST_CASE("setLayout: what is made below uses the pool, what was there keeps its own") {
  Mds mds;
  PoolId fast(static_cast<uint32_t>(mds.createPool("fast", 1).id()));
  auto d = mds.dir("d");
  auto old = mds.file("old", d);
  CHECK(setLayout(mds, d, "fast").attr().getPool() == fast.value);
  CHECK(mds.inode(d).ctimeNs == mds.now);
  auto f = mds.make(d, "f", S_IFREG, {.open = true});
  CHECK(f.chunks()[0].pool == fast);
  auto sub = mds.dir("sub", d);
  CHECK(mds.inode(mds.file("g", sub)).pool == fast);
  CHECK(mds.inode(old).pool == PoolId(1));
  CHECK(mds->poolChunks()[fast] == 1);
}

TEST_CASE("setLayout: an empty file may change its pool, one with chunks not") {
  Mds mds;
  PoolId fast(static_cast<uint32_t>(mds.createPool("fast", 1).id()));
  auto f = mds.file("f");
  CHECK(setLayout(mds, f, "fast").ok());
  CHECK(mds.alloc(f, 0, 1).chunks()[0].pool == fast);
  CHECK(setLayout(mds, f, "default").code() == Errc::kInvalid);
  CHECK(setLayout(mds, f, "nothing").code() == Errc::kNotFound);
  CHECK(setLayout(mds, InodeId(99), "fast").code() == Errc::kStale);
  auto l = mds.make(kRootInode, "l", S_IFLNK, {.target = "x"}).ino();
  CHECK(setLayout(mds, l, "fast").code() == Errc::kInvalid);
}
