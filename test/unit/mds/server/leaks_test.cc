// Leaked chunks leave the OSDs, and nothing else does.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;

namespace {

using Ids = std::vector<uint64_t>;

Got remove(Peer& admin, const Ids& ids) {
  return admin.call([&](auto r) {
    auto list = r.initRemoveLeaked(static_cast<uint32_t>(ids.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setChunk(ids[i]);
      list[i].setPool(1);
    }
  });
}

Ids removedBy(const Got& got) {
  Ids ids;
  for (uint64_t id : got.reply().getLeaked()) ids.push_back(id);
  return ids;
}

Ids chunksOf(const Got& got) {
  Ids ids;
  for (auto c : got.reply().getChunks().getChunks()) ids.push_back(c.getChunk());
  return ids;
}

// How often the OSDs have removed it.
size_t timesRemoved(Rig& rig, uint64_t id) {
  size_t n = 0;
  for (auto& osd : rig.osds) n += osd->removed.count(id);
  return n;
}

}  // namespace

TEST_CASE("leaked chunks are removed from the OSDs, also after a crash, and nothing else is") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  Peer admin(rig.world, "admin", {schema::Hello::Role::ADMIN, {}, 0});

  const InodeId gone = inoOf(c.create(kRootInode, "gone"));
  const Ids lost = chunksOf(c.allocate(gone, 4));
  REQUIRE(c.release(gone).code() == Errc::kOk);
  REQUIRE(c.unlink(kRootInode, "gone").code() == Errc::kOk);
  REQUIRE(rig.until([&] { return rig.state().counts().garbage == 0; }));

  const InodeId kept = inoOf(c.create(kRootInode, "kept"));  // nothing of it is committed
  const Ids used = chunksOf(c.allocate(kept, 4));
  const InodeId unlinked = inoOf(c.create(kRootInode, "unlinked"));
  const Ids open = chunksOf(c.allocate(unlinked, 4));
  REQUIRE(c.unlink(kRootInode, "unlinked").code() == Errc::kOk);
  for (auto& osd : rig.osds) osd->refuse = true;
  const InodeId waits = inoOf(c.create(kRootInode, "waits"));
  const Ids deleted = chunksOf(c.allocate(waits, 4));
  REQUIRE(c.release(waits).code() == Errc::kOk);
  REQUIRE(c.unlink(kRootInode, "waits").code() == Errc::kOk);
  REQUIRE(rig.until([&] { return rig.state().counts().garbage == deleted.size(); }));

  Ids all;
  for (const Ids* ids : {&lost, &used, &open, &deleted})
    all.insert(all.end(), ids->begin(), ids->end());
  for (uint64_t ahead = 0; ahead < 5; ++ahead) all.push_back(rig.state().nextChunk().value + ahead);
  CHECK(removedBy(remove(admin, all)) == lost);
  CHECK(rig.state().counts().garbage == deleted.size() + lost.size());
  CHECK(removedBy(remove(admin, all)).empty());  // it is in the queue already
  rig.restartMds(sim::Crash::kPower);
  CHECK(rig.state().counts().garbage == deleted.size() + lost.size());

  std::map<uint64_t, size_t> before;
  for (uint64_t id : lost) before[id] = timesRemoved(rig, id);
  for (auto& osd : rig.osds) osd->refuse = false;
  REQUIRE(rig.until([&] { return rig.state().counts().garbage == 0; }));
  for (uint64_t id : lost) CHECK(timesRemoved(rig, id) > before[id]);
  for (uint64_t id : used) CHECK(timesRemoved(rig, id) == 0);
  for (uint64_t id : open) CHECK(timesRemoved(rig, id) == 0);
}
