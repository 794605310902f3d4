// OSDs: registration, heartbeats, leases, the map, and garbage.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;
using sim::Crash;

namespace {

std::vector<std::string> problemsOf(const Got& got) {
  std::vector<std::string> out;
  for (auto p : got.reply().getStatus().getProblems()) out.emplace_back(p.cStr());
  return out;
}

}  // namespace

TEST_CASE("an OSD keeps its id, and every change of it makes an epoch that is pushed") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  rig.startOsds(3);
  CHECK(rig.osds[0]->id == OsdId{1});
  CHECK(rig.osds[2]->id == OsdId{3});
  const MapEpoch epoch = rig.state().map().epoch;
  REQUIRE(
      rig.until([&] { return !c.pushedEpochs.empty() && c.pushedEpochs.back() == epoch.value; }));
  // Placed: three copies on three OSDs.
  for (const auto& pg : rig.state().map().poolByName("default")->pgs) CHECK(pg.osds.size() == 3);
  rig.osds[1]->incarnation = 2;
  CHECK(rig.osds[1]->enroll().code() == Errc::kOk);
  CHECK(rig.osds[1]->id == OsdId{2});
  CHECK(rig.state().map().epoch > epoch);
  CHECK(rig.until([&] { return c.pushedEpochs.back() == rig.state().map().epoch.value; }));
}

TEST_CASE("a heartbeat is answered with a lease, and with the map if the sender's is older") {
  Rig rig;
  rig.startOsds(3);
  rig.osds[0]->mapEpoch = {};
  auto beat = rig.osds[0]->beat();
  auto news = beat.reply().getHeartbeat();
  CHECK(news.getLeaseMs() == 2000);
  CHECK(news.getEpoch() == rig.state().map().epoch.value);
  REQUIRE(news.hasMap());
  CHECK(ClusterMap::read(news.getMap()).osds.size() == 3);
  auto again = rig.osds[0]->call([&](auto r) {
    auto h = r.initHeartbeat();
    h.setOsd(1);
    h.setIncarnation(1);
    h.setMapEpoch(rig.state().map().epoch.value);
  });
  CHECK_FALSE(again.reply().getHeartbeat().hasMap());
  // Another run of the daemon, or one that was never registered, has to register.
  rig.osds[0]->incarnation = 9;
  CHECK(rig.osds[0]->beat().code() == Errc::kNotFound);
  rig.osds[0]->incarnation = 1;
  rig.osds[0]->id = OsdId{77};
  CHECK(rig.osds[0]->beat().code() == Errc::kNotFound);
}

TEST_CASE("a silent OSD is called down after its lease, never before, and up when it is back") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  rig.world.run(3s);
  CHECK(rig.state().map().osd(OsdId{2})->up);
  auto fine = c.ask([](auto r) { r.setStatus(); });
  CHECK(std::string(fine.reply().getStatus().getHealth().cStr()) == "ok");
  CHECK(problemsOf(fine).empty());

  rig.osds[1]->stopBeating();
  rig.world.run(2s);
  CHECK(rig.state().map().osd(OsdId{2})->up);
  REQUIRE(rig.until([&] { return !rig.state().map().osd(OsdId{2})->up; }, 3s));
  CHECK(rig.state().map().osd(OsdId{2})->in);
  auto bad = c.ask([](auto r) { r.setStatus(); });
  CHECK(std::string(bad.reply().getStatus().getHealth().cStr()) == "degraded");
  REQUIRE_FALSE(problemsOf(bad).empty());
  CHECK(problemsOf(bad)[0].find("osd.2 at osd2:7800") != std::string::npos);

  rig.osds[1]->keepBeating(400ms);
  CHECK(rig.until([&] { return rig.state().map().osd(OsdId{2})->up; }, 2s));
}

TEST_CASE("no OSD is called down because the server was away") {
  Rig rig;
  rig.startOsds(3);
  const MapEpoch before = rig.state().map().epoch;
  SUBCASE("stopped") {
    rig.world.pause(*rig.node);
    rig.world.run(20s);
    rig.world.resume(*rig.node);
  }
  SUBCASE("down") {
    rig.crashMds(Crash::kProcess);
    rig.world.run(20s);
    rig.startMds();
  }
  rig.world.run(10s);
  CHECK(rig.state().map().epoch == before);
}

TEST_CASE("capacity follows the heartbeats, over the copies") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  auto space = [&] {
    auto got = c.ask([](auto r) { r.setStatfs(); });
    return std::pair(got.reply().getStatfs().getBytesTotal(),
                     got.reply().getStatfs().getBytesFree());
  };
  CHECK(space() == std::pair(100 * kGiB, 99 * kGiB));
  for (auto& osd : rig.osds) osd->bytesUsed = 40 * kGiB;
  rig.world.run(1s);
  CHECK(space() == std::pair(100 * kGiB, 60 * kGiB));
}

TEST_CASE("deleted chunks are removed by the primary of their group, and then forgotten") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  for (int i = 0; i < 50; ++i) {
    const std::string name = "f" + std::to_string(i);
    const InodeId ino = inoOf(c.create(kRootInode, name));
    REQUIRE(c.allocate(ino, 20).code() == Errc::kOk);
    REQUIRE(c.release(ino).code() == Errc::kOk);
    REQUIRE(c.unlink(kRootInode, name).code() == Errc::kOk);
  }
  CHECK(rig.state().counts().garbage > 0);
  REQUIRE(rig.until([&] { return rig.state().counts().garbage == 0; }, 2s));
  CHECK(rig.state().counts().chunks == 0);
  std::set<uint64_t> removed;
  size_t asked = 0;
  for (auto& osd : rig.osds) {
    removed.insert(osd->removed.begin(), osd->removed.end());
    asked += osd->removed.size();
    CHECK(osd->requests < 200);  // together by group
  }
  CHECK(removed.size() == 1000);
  CHECK(asked == 1000);
  CHECK(rig.state().verify().empty());
}

TEST_CASE("chunks of a file too large for one command are purged in steps") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(c.create(kRootInode, "big"));
  for (uint32_t first = 0; first < 6000; first += 1000) {
    auto got = c.mutate([&](auto m) {
      auto a = m.initAllocChunks();
      a.setIno(ino.value);
      a.setFirst(first);
      a.setCount(1000);
    });
    REQUIRE(got.code() == Errc::kOk);
  }
  REQUIRE(c.release(ino).code() == Errc::kOk);
  REQUIRE(c.unlink(kRootInode, "big").code() == Errc::kOk);
  CHECK(rig.until([&] { return rig.state().counts().chunks == 0; }, 3s));
  CHECK(rig.until([&] { return rig.state().counts().garbage == 0; }, 5s));
  CHECK(rig.osds[0]->removed.size() + rig.osds[1]->removed.size() + rig.osds[2]->removed.size() ==
        6000);
  CHECK(rig.state().verify().empty());
}

TEST_CASE("garbage of a group that takes no mutations waits") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(c.create(kRootInode, "f"));
  bool refused = false;
  SUBCASE("its primary refuses") {
    refused = true;
    for (auto& osd : rig.osds) osd->refuse = true;
  }
  SUBCASE("it has too few members") {
    rig.osds[1]->stopBeating();
    rig.osds[2]->stopBeating();
    REQUIRE(rig.until([&] { return !rig.state().map().osd(OsdId{2})->up; }));
    REQUIRE(rig.until([&] { return !rig.state().map().osd(OsdId{3})->up; }));
  }
  REQUIRE(c.release(ino).code() == Errc::kOk);
  REQUIRE(c.unlink(kRootInode, "f").code() == Errc::kOk);
  rig.world.run(3s);
  CHECK(rig.state().counts().garbage == 1);
  // Also over a restart.
  rig.restartMds(Crash::kPower);
  rig.world.run(3s);
  CHECK(rig.state().counts().garbage == 1);
  for (auto& osd : rig.osds) {
    CHECK(osd->removed.empty());
    osd->refuse = false;
  }
  if (!refused) {
    rig.osds[2]->keepBeating(400ms);
    REQUIRE(rig.until([&] { return rig.state().map().osd(OsdId{3})->up; }));
    rig.world.run(1s);
    CHECK(rig.state().counts().garbage == 1);
    // The restart has cut the connections over which the OSDs had registered.
    for (uint32_t id : {1, 3}) REQUIRE(rig.osd(OsdId{id}).enroll().code() == Errc::kOk);
    rig.syncAll();
  }
  CHECK(rig.until([&] { return rig.state().counts().garbage == 0; }, 5s));
}

TEST_CASE("an OSD that moved is found at its new address") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  auto removeOne = [&](const std::string& name) {
    const InodeId ino = inoOf(c.create(kRootInode, name));
    REQUIRE(c.release(ino).code() == Errc::kOk);
    REQUIRE(c.unlink(kRootInode, name).code() == Errc::kOk);
    CHECK(rig.until([&] { return rig.state().counts().garbage == 0; }, 5s));
  };
  removeOne("a");
  rig.osds[0].reset();
  rig.osds[0] = std::make_unique<FakeOsd>(rig.world, 1, "elsewhere");
  rig.osds[0]->incarnation = 2;
  REQUIRE(rig.osds[0]->enroll().code() == Errc::kOk);
  rig.osds[0]->keepBeating(400ms);
  CHECK(rig.osds[0]->id == OsdId{1});
  for (int i = 0; i < 30; ++i) removeOne("b" + std::to_string(i));
  CHECK_FALSE(rig.osds[0]->removed.empty());  // a third of the groups have it as primary
}
