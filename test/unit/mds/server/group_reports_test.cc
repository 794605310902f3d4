// Whom the leader believes when a primary speaks of its group (mds/server/group_reports.h).
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;

namespace {

using Role = schema::Hello::Role;
using Osds = std::vector<OsdId>;

// A group of three in a cluster in which something is stored.
struct World {
  explicit World(uint64_t seed = 1) : rig(seed) {
    rig.startOsds(3);
    Client c(rig.world);
    REQUIRE(c.openSession().code() == Errc::kOk);
    REQUIRE(c.create(kRootInode, "f").code() == Errc::kOk);
    first = rig.group().osds;
  }
  ~World() { CHECK(rig.state().verify().empty()); }
  ClusterMap map() { return rig.state().map(); }
  Errc say(OsdId who, const std::vector<FakeOsd::Report>& changes) {
    return rig.osd(who).report(map(), changes).code();
  }
  bool isUp(OsdId id) { return rig.state().map().osd(id)->up; }

  Rig rig;
  Osds first;  // a, b, c of group 0
};

}  // namespace

TEST_CASE("a member that failed joins, and comes in when its primary says that it is equal") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  const MapEpoch epoch = w.map().epoch;
  CHECK(w.say(a, {{0, b}}) == Errc::kOk);
  CHECK(w.rig.group().osds == Osds{a, c});
  CHECK(w.rig.group().joining == Osds{b});
  CHECK(w.map().epoch.value == epoch.value + 1);
  CHECK(w.say(a, {{0, b, true}}) == Errc::kOk);
  CHECK(w.rig.group().osds == w.first);
}

TEST_CASE("only the primary is believed, and only of the epoch that it has") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  const MapEpoch epoch = w.map().epoch;
  CHECK(w.say(b, {{0, c}}) == Errc::kOk);
  CHECK(w.say(b, {{0, a}}) == Errc::kOk);
  CHECK(w.say(a, {{0, a}}) == Errc::kOk);  // it may not go by itself
  CHECK(w.say(a, {{0, b, false, w.rig.group().epoch.value + 1}}) == Errc::kOk);
  CHECK(w.map().epoch == epoch);
  // What it said under the old epoch comes too late.
  const ClusterMap old = w.map();
  CHECK(w.say(a, {{0, c}}) == Errc::kOk);
  const ClusterMap now = w.map();
  CHECK(w.rig.osd(a).report(old, {{0, b}}).code() == Errc::kOk);
  CHECK(w.map().epoch == now.epoch);
  // Neither clients nor administrators nor who never registered.
  auto fill = [&](auto r) { r.initMutate().initGroupReport(1)[0].setMember(b.value); };
  Client client(w.rig.world, "other");
  Peer admin(w.rig.world, "admin", {Role::ADMIN, {}, 0});
  FakeOsd stranger(w.rig.world, 9, "stranger");
  CHECK(client.call(fill).code() == Errc::kPermission);
  CHECK(admin.call(fill).code() == Errc::kPermission);
  CHECK(stranger.call(fill).code() == Errc::kPermission);
}

TEST_CASE("an OSD speaks for itself over every connection") {
  World w;
  const OsdId a = w.first[0], b = w.first[1];
  FakeOsd& osd = w.rig.osd(a);
  osd.rpc->setIdentity({Role::OSD, {}, a.value});
  osd.rpc->disconnect();
  CHECK(w.say(a, {{0, b}}) == Errc::kOk);
  CHECK(w.rig.group().joining == Osds{b});
}

TEST_CASE("a primary that reaches neither of two that live is taken out") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  SUBCASE("told at once") {
    CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
    // Not before all have been heard: it is what two dead machines look like.
    CHECK(w.rig.group().osds == w.first);
    CHECK(w.rig.until([&] { return w.rig.group().osds == Osds{b, c}; }, 2s));
    CHECK(w.rig.group().joining == Osds{a});
  }
  SUBCASE("told one after another") {
    CHECK(w.say(a, {{0, b}}) == Errc::kOk);
    CHECK(w.rig.group().osds == Osds{a, c});
    w.rig.world.run(1s);
    CHECK(w.say(a, {{0, c}}) == Errc::kOk);
    CHECK(w.rig.until([&] { return w.rig.group().osds == Osds{c}; }, 2s));
    CHECK(w.rig.group().joining == Osds{a, b});
    CHECK(w.say(c, {{0, b, true}}) == Errc::kOk);
    CHECK(w.rig.group().osds == Osds{c, b});
  }
  SUBCASE("told again and again") {
    for (int i = 0; i < 8; ++i) {
      CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
      w.rig.world.run(200ms);
    }
    CHECK(w.rig.group().osds == Osds{b, c});
  }
}

TEST_CASE("two that died together leave the primary; it is not taken for the one that is cut off") {
  for (Duration after : {0ms, 100ms, 250ms, 399ms}) {
    World w;
    const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
    w.rig.world.run(after);
    // Heard a moment ago, and dead.
    w.rig.osd(b).stopBeating();
    w.rig.osd(c).stopBeating();
    CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
    REQUIRE(w.rig.until([&] { return !w.isUp(b) && !w.isUp(c); }, 5s));
    w.rig.world.run(1s);
    CHECK(w.rig.group().osds == Osds{a});
    CHECK(w.isUp(a));
  }
}

TEST_CASE("a primary that accuses the others and dies takes nobody with it") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  w.rig.osd(a).stopBeating();
  CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
  REQUIRE(w.rig.until([&] { return !w.isUp(a); }, 5s));
  CHECK(w.rig.group().osds == Osds{b, c});
}

TEST_CASE("of two that do not reach each other the primary stays") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  w.rig.osd(c).stopBeating();
  REQUIRE(w.rig.until([&] { return !w.isUp(c); }, 5s));
  REQUIRE(w.rig.group().osds == Osds{a, b});
  w.rig.world.run(11s);  // what was said before counts no longer
  CHECK(w.say(a, {{0, b}}) == Errc::kOk);
  CHECK(w.rig.group().osds == Osds{a, b});
  CHECK(w.rig.until([&] { return w.rig.group().osds == Osds{a}; }, 2s));
  CHECK(w.rig.group().joining == Osds{b});
}

TEST_CASE("who is in the way of nothing is believed at once") {
  World w;
  // Two copies, of which one is enough to go on.
  Peer admin(w.rig.world, "admin", {Role::ADMIN, {}, 0});
  auto made = admin.call([](auto r) {
    auto p = r.initMutate().initPoolCreate();
    p.setName("two");
    p.setReplicas(2);
    p.setAnyClass(true);
    p.setPgCount(8);
  });
  REQUIRE(made.code() == Errc::kOk);
  const PlacementGroup group = w.map().poolByName("two")->pgs[0];
  auto fill = [&](auto r) {
    auto change = r.initMutate().initGroupReport(1)[0];
    change.setPool(2);
    change.setEpoch(group.epoch.value);
    change.setMember(group.osds[1].value);
    change.setKind(schema::GroupChange::Kind::FAILED);
  };
  CHECK(w.rig.osd(group.osds[0]).call(fill).code() == Errc::kOk);
  CHECK(w.map().poolByName("two")->pgs[0].osds == Osds{group.osds[0]});
}

TEST_CASE("of a code nobody is taken out without whom nothing could be read") {
  World w;
  Peer admin(w.rig.world, "admin", {Role::ADMIN, {}, 0});
  auto made = admin.call([](auto r) {
    auto p = r.initMutate().initPoolCreate();
    p.setName("code");
    p.setEcData(2);
    p.setEcParity(1);
    p.setAnyClass(true);
    p.setPgCount(8);
  });
  REQUIRE(made.code() == Errc::kOk);
  auto group = [&] { return w.map().poolByName("code")->pgs[0]; };
  const PlacementGroup first = group();
  const OsdId a = first.osds[0], b = first.osds[1], c = first.osds[2];
  auto say = [&](OsdId member) {
    const uint64_t epoch = group().epoch.value;
    return w.rig.osd(a)
        .call([&](auto r) {
          auto change = r.initMutate().initGroupReport(1)[0];
          change.setPool(2);
          change.setEpoch(epoch);
          change.setMember(member.value);
          change.setKind(schema::GroupChange::Kind::FAILED);
        })
        .code();
  };
  CHECK(say(b) == Errc::kOk);
  CHECK(group().osds == Osds{a, c});
  CHECK(group().shards == first.shards);
  CHECK(say(c) == Errc::kOk);
  w.rig.world.run(3s);  // a hearing, in which all are heard
  CHECK(group().osds == Osds{a, c});
}

TEST_CASE("a hearing that a restart interrupts is asked for again") {
  World w;
  const OsdId a = w.first[0], b = w.first[1], c = w.first[2];
  CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
  w.rig.restartMds(sim::Crash::kProcess);
  w.rig.world.run(3s);
  CHECK(w.rig.group().osds == w.first);
  w.rig.osd(a).rpc->setIdentity({Role::OSD, {}, a.value});
  w.rig.osd(a).rpc->disconnect();
  CHECK(w.say(a, {{0, b}, {0, c}}) == Errc::kOk);
  CHECK(w.rig.until([&] { return w.rig.group().osds == Osds{b, c}; }, 2s));
}
