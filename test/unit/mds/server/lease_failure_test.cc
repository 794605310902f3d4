// Leases where connections break, clients fall silent and the MDS restarts.
#include "test/unit/mds/server/lease_world.h"

namespace cairn::mds::test::lease_failure_test {

using World = LeaseWorld;
using sim::Crash;

constexpr auto kNone = LeaseMode::kNone, kRead = LeaseMode::kRead, kWrite = LeaseMode::kWrite;

// ---- connections ----

TEST_CASE("a recall that was lost with its connection is sent again over the next") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.rpc->disconnect();
  auto write = w.a.startLease(w.file, true);
  REQUIRE(w.answered(write, 2s));  // b comes back with its next keepalive
  CHECK((*write)->code() == Errc::kOk);
  REQUIRE(w.b.recalls.size() == 1);
  CHECK(w.held(w.b, w.file) == kNone);
}

TEST_CASE("what a session does not list when it comes back it has given up") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.b.lease(w.dir, false).code() == Errc::kOk);
  w.b.held.erase(w.file);  // a return that was lost with the connection
  w.b.rpc->disconnect();
  CHECK(w.b.getattr(kRootInode).code() == Errc::kOk);
  CHECK(w.held(w.b, w.file) == kNone);
  CHECK(w.held(w.b, w.dir) == kRead);
  // Returns of before are not of the lease as it was reclaimed.
  CHECK(w.b.giveBackAs(w.dir, w.b.held[w.dir].serial - 1).code() == Errc::kOk);
  CHECK(w.held(w.b, w.dir) == kRead);
  CHECK(w.b.giveBackAs(w.dir, w.b.held[w.dir].serial).code() == Errc::kOk);
  CHECK(w.held(w.b, w.dir) == kNone);
}

TEST_CASE("requests that wait do not keep their client from coming back") {
  World w;
  // Each waits for what the other holds, and neither is heard but over a new connection.
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.b.lease(w.dir, false).code() == Errc::kOk);
  w.a.answers = w.b.answers = false;
  auto byA = w.a.startMutate(changes::unlink(w.dir, "file"));
  auto byB = w.b.startMutate(changes::chmod(w.file, 0600));
  auto behindName = w.a.startMutate(changes::unlink(w.dir, "file"));  // for the name, not the lease
  CHECK_FALSE(w.answered(byA, 100ms));
  w.a.answers = w.b.answers = true;
  const size_t reclaims = w.a.reclaims;
  const TimePoint from = w.rig.world.now();
  w.a.rpc->disconnect();
  CHECK(w.a.getattr(kRootInode).code() == Errc::kOk);
  CHECK(w.rig.world.now() - from < 200ms);
  CHECK(w.a.reclaims == reclaims + 1);
  CHECK((*byA)->code() == Errc::kUnavailable);
  CHECK((*behindName)->code() == Errc::kUnavailable);
  REQUIRE(w.answered(byB));
  CHECK((*byB)->code() == Errc::kOk);
}

// ---- silence ----

TEST_CASE("a holder that is dead is expired and fenced, and others go on") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  CHECK(w.a.barrier == 0);
  const MapEpoch before = w.rig.state().map().epoch;
  w.b.die();
  // Nobody wants what it holds: it has the usual time.
  w.rig.world.run(4s);
  CHECK(w.held(w.b, w.file) == kWrite);
  const TimePoint from = w.rig.world.now();
  auto write = w.a.startLease(w.file, true);
  REQUIRE(w.answered(write, 1s));
  CHECK((*write)->code() == Errc::kOk);
  CHECK(w.rig.world.now() - from < 500ms);
  const ClusterMap& map = w.rig.state().map();
  CHECK(map.epoch > before);
  CHECK(map.fenced(SessionId{w.b.session}));
  CHECK_FALSE(map.fenced(SessionId{w.a.session}));
  CHECK(w.a.barrier == map.epoch.value);
  CHECK(w.table().heldBy(SessionId{w.b.session}) == 0);
}

TEST_CASE("a holder that just died is waited for until its map lease is over, and not longer") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.die();
  auto write = w.a.startLease(w.file, true);
  CHECK_FALSE(w.answered(write, 1800ms));  // a lease is 2 s; it was heard less than half one ago
  CHECK(w.answered(write, 1500ms));
}

TEST_CASE("a holder that is heard and gives nothing back is expired after the recall timeout") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  auto write = w.a.startLease(w.file, true);
  CHECK_FALSE(w.answered(write, 19s));
  CHECK(w.answered(write, 2s));
  CHECK(w.rig.state().map().fenced(SessionId{w.b.session}));
  w.rig.world.run(100ms);  // it sees that its connection was closed
  CHECK(w.b.getattr(w.file).code() == Errc::kSessionExpired);
}

TEST_CASE("a holder has all of the recall timeout from when the groups take writes again") {
  World w;
  FakeOsd &one = *w.rig.osds[1], &other = *w.rig.osds[2];
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  one.stopBeating();
  other.stopBeating();
  REQUIRE(w.rig.until([&] { return !w.rig.state().map().osd(other.id)->up; }));
  auto write = w.a.startLease(w.file, true);
  CHECK_FALSE(w.answered(write, 90s));  // what it has may belong into such a group
  one.keepBeating(400ms);
  REQUIRE(w.rig.until([&] { return w.rig.state().map().osd(one.id)->up; }));
  CHECK_FALSE(w.answered(write, 30s));
  w.rig.syncAll();
  CHECK_FALSE(w.answered(write, 19s));
  CHECK(w.answered(write, 4s));
  CHECK(w.rig.state().map().fenced(SessionId{w.b.session}));
}

TEST_CASE("nobody is expired for a recall because the server stood still") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  auto write = w.a.startLease(w.file, true);
  w.rig.world.run(100ms);
  w.rig.world.pause(*w.rig.node);
  w.rig.world.run(30s);
  w.rig.world.resume(*w.rig.node);
  w.rig.world.run(1s);
  CHECK(w.rig.mds->server().sessions().alive(SessionId{w.b.session}));
  CHECK(w.rig.state().map().fence.below == SessionId{});
}

TEST_CASE("a session that closes gives up what it holds") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  auto write = w.a.startLease(w.file, true);
  w.rig.world.run(50ms);
  CHECK(w.b.ask([](auto r) { r.setSessionClose(); }).code() == Errc::kOk);
  CHECK(w.answered(write));
  CHECK(w.rig.state().map().fence.below == SessionId{});
}

// ---- restart ----

TEST_CASE("after a restart everybody has what it had, once all have said so") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.a.lease(w.dir, false).code() == Errc::kOk);
  REQUIRE(w.c.lease(w.dir, false).code() == Errc::kOk);
  const uint64_t old = w.b.held[w.file].serial;
  w.rig.restartMds(Crash::kProcess);
  for (LeaseClient* client : {&w.a, &w.b, &w.c}) client->rpc->disconnect();
  REQUIRE(w.rig.until([&] { return w.rig.mds->server().sessions().unreclaimed() == 0; }, 2s));
  CHECK(w.held(w.b, w.file) == kWrite);
  CHECK(w.held(w.a, w.dir) == kRead);
  CHECK(w.held(w.c, w.dir) == kRead);
  CHECK(w.b.held[w.file].serial > old);
  CHECK(w.b.mutate(changes::commit(w.file, 3)).code() == Errc::kOk);
  CHECK(w.a.getattr(w.file).reply().getAttr().getSize() == 3);
  CHECK(w.held(w.b, w.file) == kRead);
}

TEST_CASE("until all have reclaimed nothing is granted or claimed, and a file's size waits too") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  const sim::SimNode& held = w.b.node;
  w.rig.world.pause(const_cast<sim::SimNode&>(held));
  w.rig.restartMds(Crash::kProcess);
  w.a.rpc->disconnect();
  w.c.rpc->disconnect();
  // What no writer's buffer can be ahead of is answered.
  auto got = w.a.getattr(w.dir);
  CHECK(leaseIn(got) == schema::Lease::NONE);
  CHECK_FALSE(w.a.lookup(w.dir, "nothing").reply().getDirLease());
  CHECK(w.a.lookup(w.dir, "nothing").reply().isNone());
  auto size = w.a.startAsk([&](auto r) { r.setGetattr(w.file.value); });
  auto change = w.c.startMutate(changes::makeDirectory(w.dir, "d"));
  CHECK_FALSE(w.answered(size, 1s));
  CHECK_FALSE(change->has_value());
  for (auto e : w.a.readdirPlus(w.dir).reply().getReaddir().getEntries())
    CHECK((e.getAttr().getIno() == 0) == (InodeId{e.getIno()} == w.file));
  w.rig.world.resume(w.b.node);
  w.b.rpc->disconnect();
  REQUIRE(w.answered(size, 2s));
  REQUIRE(w.answered(change));
  CHECK(leaseIn(**size) == schema::Lease::READ);
  CHECK(w.b.recalls.size() == 1);
  CHECK(w.rig.mds->server().sessions().size() == 3);
}

TEST_CASE("who stays silent after a restart is expired by whoever needs to know") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.die();
  w.rig.restartMds(Crash::kPower);
  w.a.rpc->disconnect();
  w.c.rpc->disconnect();
  SUBCASE("a claim") {
    auto write = w.a.startLease(w.file, true);
    CHECK_FALSE(w.answered(write, 2s));
    CHECK(w.answered(write, 1s));
    CHECK((*write)->code() == Errc::kOk);
    CHECK(w.rig.state().map().fenced(SessionId{w.b.session}));
  }
  SUBCASE("a query") {
    auto size = w.a.startAsk([&](auto r) { r.setGetattr(w.file.value); });
    CHECK_FALSE(w.answered(size, 2s));
    CHECK(w.answered(size, 1s));
  }
  SUBCASE("nobody") {
    w.rig.world.run(6s);
    CHECK(w.rig.mds->server().sessions().size() == 3);
  }
  CHECK(w.a.getattr(kRootInode).code() == Errc::kOk);
}

TEST_CASE("a late reclaim is taken as long as nobody needed what it has") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.rig.world.pause(w.b.node);
  w.rig.restartMds(Crash::kProcess);
  w.rig.world.run(5s);  // two map leases and a half
  w.rig.world.resume(w.b.node);
  w.b.rpc->disconnect();
  CHECK(w.b.mutate(changes::commit(w.file, 3)).code() == Errc::kOk);
  CHECK(w.held(w.b, w.file) == kWrite);
}

}  // namespace cairn::mds::test::lease_failure_test
