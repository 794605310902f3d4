#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("bootstrap: the root, the cluster's uuid and the first pool") {
  Mds mds(0, {}, 3);
  auto root = mds.inode(kRootInode);
  CHECK(root.mode == (S_IFDIR | 0755));
  CHECK(root.uid == 0);
  CHECK(root.gid == 0);
  CHECK(root.nlink == 2);
  CHECK(root.pool == PoolId(1));
  CHECK(mds->lookup(kRootInode, "..")->ino == kRootInode);
  CHECK(mds->map().cluster == Mds::kCluster);
  CHECK(mds->map().epoch == MapEpoch(1));
  auto* pool = mds->map().poolByName("default");
  REQUIRE(pool != nullptr);
  CHECK(pool->id == PoolId(1));
  CHECK(pool->replicas == 3);
  CHECK_FALSE(pool->pgs.empty());
  CHECK(mds->counts().inodes == 1);
}

TEST_CASE("bootstrap: it comes first and only once") {
  Mds mds(0, {}, 0);
  CHECK_FALSE(static_cast<bool>(mds->map().cluster));
  CHECK(mds.make(kRootInode, "x", S_IFREG).code() == Errc::kUnavailable);
  CHECK(mds.addOsd(1).code() == Errc::kUnavailable);
  CHECK(mds.bootstrap(0).code() == Errc::kInvalid);
  CHECK(mds.bootstrap(9).code() == Errc::kInvalid);
  CHECK(mds.run([](auto m) { m.initBootstrap().setReplicas(2); }).code() == Errc::kInvalid);
  CHECK(mds.bootstrap(2).ok());
  auto again = mds.bootstrap(2);
  CHECK(again.code() == Errc::kExists);
  CHECK(again.applied().detail.find(Mds::kCluster.text()) != std::string::npos);
}
