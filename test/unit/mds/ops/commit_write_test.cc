#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("commitWrite: the file grows and never shrinks") {
  Mds mds;
  auto f = mds.file("f");
  auto before = mds.inode(f);
  auto a = mds.commit(f, 100).attr();
  CHECK(a.getSize() == 100);
  CHECK(a.getDataVersion() == before.dataVersion + 1);
  CHECK(a.getCtimeNs() == mds.now);
  auto b = mds.commit(f, 50).attr();
  CHECK(b.getSize() == 100);
  CHECK(b.getDataVersion() == before.dataVersion + 2);
  CHECK(mds.commit(f, (1ull << 50) + 1).code() == Errc::kTooBig);
  CHECK(mds.commit(f, 1ull << 50).ok());
  CHECK(mds.commit(kRootInode, 1).code() == Errc::kIsDirectory);
  CHECK(mds.commit(InodeId(99), 1).code() == Errc::kStale);
}

TEST_CASE("commitWrite: mtime is the writer's, and stays if it says none") {
  Mds mds;
  auto f = mds.file("f");
  auto run = [&](bool set) {
    return mds
        .run([&](auto m) {
          auto c = m.initCommitWrite();
          c.setIno(f.value);
          c.setMtimeNs(4711);
          c.setSetMtime(set);
        })
        .attr()
        .getMtimeNs();
  };
  auto before = mds.inode(f).mtimeNs;
  CHECK(run(false) == before);
  CHECK(run(true) == 4711);
}

TEST_CASE("commitWrite: it cleans the tail and drops setuid when the client did so") {
  Mds mds;
  auto f = mds.make(kRootInode, "f", S_IFREG | 06755).ino();
  mds.alloc(f, 0, 1);
  mds.commit(f, 1000);
  CHECK(mds.truncate(f, 10).attr().getTailUnclean());
  CHECK(mds.commit(f, 5).attr().getTailUnclean());
  CHECK_FALSE(mds.commit(f, 20, true).attr().getTailUnclean());
  CHECK((mds.inode(f).mode & 07777) == 06755);
  mds.run([&](auto m) {
    auto c = m.initCommitWrite();
    c.setIno(f.value);
    c.setClearSuid(true);
  });
  CHECK((mds.inode(f).mode & 07777) == 0755);
}
