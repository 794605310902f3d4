// Leases of OSDs: who may still act on which map, who is lost, and what recovery says.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;
using sim::Crash;

namespace {

void store(Rig& rig) {
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  REQUIRE(c.create(kRootInode, "f").code() == Errc::kOk);
}

}  // namespace

TEST_CASE("an epoch is adopted when everybody that may serve has told that it has it") {
  Rig rig;
  rig.startOsds(3);
  rig.world.run(2s);
  auto epoch = [&] { return rig.state().map().epoch; };
  CHECK(rig.osds[0]->adopted == epoch());
  // One does not take the next map: it may act on the old one.
  rig.osds[1]->takesMaps = false;
  const MapEpoch old = epoch();
  store(rig);
  rig.osds[2]->stopBeating();
  REQUIRE(rig.until([&] { return epoch() > old; }, 5s));
  rig.world.run(2s);
  CHECK(rig.osds[0]->adopted == old);
  rig.osds[1]->takesMaps = true;
  rig.world.run(2s);
  CHECK(rig.osds[0]->adopted == epoch());  // the one that is down holds no lease
  // Another run of a daemon: the one before it is gone, and it holds nothing before it is answered.
  rig.osds[1]->stopBeating();
  rig.osds[1]->incarnation = 2;
  rig.osds[1]->mapEpoch = {};
  REQUIRE(rig.osds[1]->enroll().code() == Errc::kOk);
  rig.world.run(1s);
  CHECK(rig.osds[0]->adopted == epoch());
  CHECK(rig.osds[1]->beat().code() == Errc::kOk);
  CHECK(rig.osds[1]->adopted == epoch());
  // The same run that registers again may hold a lease on what it had.
  rig.osds[1]->takesMaps = false;
  const MapEpoch had = epoch();
  rig.osds[2]->keepBeating(400ms);
  REQUIRE(rig.until([&] { return epoch() > had; }, 5s));
  REQUIRE(rig.osds[1]->enroll().code() == Errc::kOk);
  rig.world.run(800ms);
  CHECK(rig.osds[0]->adopted == had);
}

TEST_CASE("after a start nothing counts as adopted before all that were up have been heard") {
  Rig rig;
  rig.startOsds(3);
  rig.world.run(1s);
  rig.osds[2]->stopBeating();
  rig.restartMds(Crash::kProcess);
  rig.world.run(1s);
  CHECK(rig.osds[0]->adopted == MapEpoch{});
  SUBCASE("it speaks") {
    rig.osds[2]->keepBeating(400ms);
  }
  SUBCASE("it is called down") {
    REQUIRE(rig.until([&] { return !rig.state().map().osd(OsdId{3})->up; }, 5s));
  }
  rig.world.run(1s);
  CHECK(rig.osds[0]->adopted == rig.state().map().epoch);
}

// At whatever moment a heartbeat comes, no answer gives a lease on a map that is older than the one
// that calls its sender down.
TEST_CASE(
    "a heartbeat that crosses the command that calls its sender down gets no lease before it") {
  auto silence = [](Rig& rig) {
    rig.startOsds(3);
    store(rig);
    rig.world.run(1s);
    rig.osds[1]->stopBeating();
  };
  // When it is called down, without a heartbeat. The same seed gives the same run until then.
  TimePoint judged{};
  {
    Rig rig;
    silence(rig);
    const MapEpoch before = rig.state().map().epoch;
    while (rig.state().map().epoch == before) rig.world.run(20us);
    judged = rig.env->reactor.now();
  }
  size_t crossed = 0;
  for (Duration ahead = 40us; ahead < 2ms; ahead += 40us) {
    Rig rig;
    silence(rig);
    const MapEpoch before = rig.state().map().epoch;
    rig.world.run(judged - rig.env->reactor.now() - ahead);
    REQUIRE(rig.state().map().epoch == before);
    auto answer = rig.osds[1]->beat();
    REQUIRE(answer.code() == Errc::kOk);
    const MapEpoch answered{answer.reply().getHeartbeat().getEpoch()};
    rig.world.run(500ms);
    // Called down and up again, or neither.
    CHECK(rig.state().map().osd(OsdId{2})->up);
    if (rig.state().map().epoch == before) continue;
    CHECK(answered == rig.state().map().epoch);
    ++crossed;
  }
  CHECK(crossed > 0);
}

TEST_CASE("clients have a lease of their own") {
  Rig rig;
  rig.stopMds();
  rig.options.server.clientLease = 7s;
  rig.startMds();
  rig.startOsds(1);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  auto keepalive = c.ask([](auto r) { r.initKeepalive(); });
  CHECK(keepalive.reply().getKeepalive().getLeaseMs() == 7000);
  CHECK(rig.osds[0]->beat().reply().getHeartbeat().getLeaseMs() == 2000);
}

TEST_CASE("clients are told which pools have little room left") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const auto told = [&] {
    std::vector<uint32_t> out;
    rig.world.run(1s);  // a heartbeat
    auto reply = c.ask([](auto r) { r.initKeepalive(); });
    for (uint32_t pool : reply.reply().getKeepalive().getNearlyFull()) out.push_back(pool);
    return out;
  };
  CHECK(told().empty());
  rig.osds[1]->nearlyFull = true;
  CHECK(told() == std::vector<uint32_t>{1});
  // What is down takes nothing.
  rig.osds[1]->stopBeating();
  REQUIRE(rig.until([&] { return !rig.state().map().osd(OsdId{2})->up; }, 10s));
  CHECK(told().empty());
}

TEST_CASE("an OSD that is down for too long is out, unless its copies could go nowhere") {
  Rig rig;
  rig.stopMds();
  rig.options.server.osdOutAfter = 20s;
  rig.startMds();
  rig.startOsds(4);
  store(rig);
  auto osd = [&](uint32_t id) { return rig.state().map().osd(OsdId{id}); };
  rig.osds[3]->stopBeating();
  rig.world.run(20s);
  CHECK_FALSE(osd(4)->up);
  CHECK(osd(4)->in);
  REQUIRE(rig.until([&] { return !osd(4)->in; }, 5s));
  CHECK(osd(4)->autoOut);
  rig.osds[2]->stopBeating();
  rig.world.run(40s);
  CHECK_FALSE(osd(3)->up);
  CHECK(osd(3)->in);
  rig.osds[3]->keepBeating(400ms);
  rig.world.run(2s);
  CHECK(osd(4)->in);
  REQUIRE(rig.until([&] { return !osd(3)->in; }, 5s));
  // Nobody is lost by a restart: how long it was down before is not known.
  rig.osds[2]->keepBeating(400ms);
  rig.world.run(2s);
  CHECK(osd(3)->in);
}

TEST_CASE("status says what recovery has left, and how fast it is") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  auto recovery = [&] {
    const auto answer = c.ask([](auto b) { b.setStatus(); });
    auto r = answer.reply().getStatus().getRecovery();
    return std::array{r.getChunksLeft(), r.getBytesLeft(), r.getBytesPerSec()};
  };
  rig.world.run(1s);
  CHECK(recovery() == std::array<uint64_t, 3>{0, 0, 0});
  rig.osds[0]->chunksLeft = 7;
  rig.osds[0]->bytesLeft = 700;
  rig.osds[1]->chunksLeft = 3;
  rig.osds[1]->bytesLeft = 300;
  rig.osds[1]->bytesDone = 5'000'000;
  rig.world.run(1s);
  rig.osds[1]->bytesDone += 5'000'000;
  rig.world.run(2s);
  CHECK(recovery() == std::array<uint64_t, 3>{10, 1000, 2'000'000});
  // One that is down recovers nothing.
  rig.osds[0]->stopBeating();
  rig.world.run(10s);
  CHECK(recovery() == std::array<uint64_t, 3>{3, 300, 0});
}
