// What peers may ask, and what happens with messages that no correct peer sends.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;

namespace {

using Role = schema::Hello::Role;

Task<void> sendRaw(Env& env, std::string bytes) {
  auto stream = co_await env.network.connect({"mds", kPort}, 1s);
  if (!stream) co_return;
  iovec part{bytes.data(), bytes.size()};
  (void)co_await (*stream)->write({&part, 1});
  std::string answer(4096, '\0');
  iovec into{answer.data(), answer.size()};
  (void)co_await (*stream)->read({&into, 1});
  (*stream)->shutdown();
}

}  // namespace

TEST_CASE("only the leader makes the leader's commands") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  Peer admin(rig.world, "admin", {Role::ADMIN, {}, 0});
  for (Peer* peer : {static_cast<Peer*>(&c), &admin, static_cast<Peer*>(rig.osds[0].get())}) {
    auto refused = [&](const std::function<void(schema::Mutation::Builder)>& fill) {
      auto got = peer->call([&](auto r) {
        r.setSession(c.session);
        fill(r.initMutate());
      });
      return got.code() == Errc::kPermission;
    };
    CHECK(refused([](auto m) { m.initSessionEnd().setSession(1); }));
    CHECK(refused([](auto m) { m.initReleaseOrphan(); }));
    CHECK(refused([](auto m) { m.initPurge(); }));
    CHECK(refused([](auto m) { m.initGarbageDone(1); }));
    CHECK(refused([](auto m) { m.initBootstrap(); }));
    CHECK(refused([](auto m) { m.initOsdState(1)[0].setId(1); }));
    CHECK(refused([](auto m) { m.initOsdsLost(1).set(0, 1); }));
  }
}

TEST_CASE("each role asks only for what is its own") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  Peer admin(rig.world, "admin", {Role::ADMIN, {}, 0});
  FakeOsd osd(rig.world, 1, "osd1");
  auto poolCreate = [](auto r) {
    auto p = r.initMutate().initPoolCreate();
    p.setName("second");
    p.setReplicas(1);
    p.setAnyClass(true);
  };
  CHECK(c.call(poolCreate).code() == Errc::kPermission);
  CHECK(admin.call(poolCreate).code() == Errc::kOk);
  CHECK(osd.enroll().code() == Errc::kOk);
  auto enroll = [](auto r) {
    auto reg = r.initMutate().initOsdRegister();
    reg.initUuid().setHi(9);
    reg.setAddr("x:1");
  };
  CHECK(c.call(enroll).code() == Errc::kPermission);
  CHECK(c.call([](auto r) { r.initHeartbeat().setOsd(1); }).code() == Errc::kPermission);
  CHECK(osd.call([](auto r) { r.initMutate().initSessionOpen(); }).code() == Errc::kPermission);
  auto badAddress = [](auto r) {
    auto reg = r.initMutate().initOsdRegister();
    reg.initUuid().setHi(9);
    reg.setAddr("nonsense");
  };
  CHECK(osd.call(badAddress).code() == Errc::kInvalid);
  auto outState = [](auto r) {
    auto set = r.initMutate().initOsdSet();
    set.setId(1);
    set.setSetIn(true);
  };
  CHECK(c.call(outState).code() == Errc::kPermission);
  CHECK(admin.call(outState).code() == Errc::kOk);
  CHECK_FALSE(rig.state().map().osd(OsdId{1})->in);
  // The rest of what administrators decide.
  const std::vector<Peer::Fill> decisions = {
      [](auto r) { r.initMutate().initOsdRemove().setId(77); },
      [](auto r) { r.initMutate().initPoolSet().setName("none"); },
      [](auto r) { r.initMutate().setPoolRemove("none"); },
  };
  for (const auto& fill : decisions) {
    CHECK(c.call(fill).code() == Errc::kPermission);
    CHECK(osd.call(fill).code() == Errc::kPermission);
    CHECK(admin.call(fill).code() == Errc::kNotFound);
  }
  auto pause = [](auto r) { r.initMutate().setRebalancePause(true); };
  CHECK(c.call(pause).code() == Errc::kPermission);
  CHECK(osd.call(pause).code() == Errc::kPermission);
  CHECK_FALSE(rig.state().map().rebalancePaused);
  CHECK(admin.call(pause).code() == Errc::kOk);
  CHECK(rig.state().map().rebalancePaused);
  // What is removed as leaked the server decides, having looked.
  auto remove = [](auto r) { r.initRemoveLeaked(1)[0].setChunk(1); };
  CHECK(c.call(remove).code() == Errc::kPermission);
  CHECK(osd.call(remove).code() == Errc::kPermission);
  CHECK(admin.call(remove).code() == Errc::kOk);
  CHECK(admin.call([](auto r) { r.initMutate().initChunksLeaked(); }).code() == Errc::kPermission);
  CHECK(admin.call([](auto r) { r.initRemoveLeaked(10'001); }).code() == Errc::kTooBig);
}

TEST_CASE("pools are refused before the map outgrows a message") {
  Rig rig;
  Peer admin(rig.world, "admin", {Role::ADMIN, {}, 0});
  Errc last = Errc::kOk;
  int made = 0;
  while (last == Errc::kOk && made < 100) {
    auto got = admin.call([&](auto r) {
      auto p = r.initMutate().initPoolCreate();
      p.setName("p" + std::to_string(made));
      p.setReplicas(7);
      p.setAnyClass(true);
      p.setPgCount(2048);
    });
    last = got.code();
    made += last == Errc::kOk ? 1 : 0;
  }
  CHECK(last == Errc::kNoSpace);
  CHECK(made >= 3);
  // Full lists take most: the map still reaches everyone.
  for (uint32_t i = 1; i <= 8; ++i) {
    FakeOsd osd(rig.world, i, "osd" + std::to_string(i));
    REQUIRE(osd.enroll().code() == Errc::kOk);
  }
  auto got = admin.call([](auto r) { r.setMap(0); });
  CHECK(ClusterMap::read(got.reply().getMap().getMap()).pools.size() == made + 1u);
  CHECK(admin.call([](auto r) { r.setStatus(); }).code() == Errc::kOk);
}

TEST_CASE("changes without a session, and of one that never was, are refused") {
  Rig rig;
  Client c(rig.world);
  CHECK(c.makeDirectory(kRootInode, "d").code() == Errc::kInvalid);
  c.session = 4711;
  CHECK(c.makeDirectory(kRootInode, "d").code() == Errc::kSessionExpired);
  CHECK(c.getattr(kRootInode).code() == Errc::kSessionExpired);
  c.session = 0;
  CHECK(c.getattr(kRootInode).code() == Errc::kOk);
  CHECK(c.open(kRootInode).code() == Errc::kInvalid);
}

TEST_CASE("names and sizes beyond the limits are refused with a reason") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  CHECK(c.makeDirectory(kRootInode, std::string(256, 'x')).code() == Errc::kNameTooLong);
  CHECK(c.makeDirectory(kRootInode, std::string(255, 'x')).code() == Errc::kOk);
  CHECK(c.makeDirectory(kRootInode, "a/b").code() == Errc::kInvalid);
  CHECK(c.makeDirectory(kRootInode, "").code() == Errc::kInvalid);
  CHECK(c.makeDirectory(kRootInode, std::string("a\0b", 3)).code() == Errc::kInvalid);
  auto xattr = [&](size_t bytes) {
    return c.mutate([&](auto m) {
      auto x = m.initSetxattr();
      x.setIno(kRootInode.value);
      x.setName({reinterpret_cast<const kj::byte*>("user.x"), 6});
      x.initValue(static_cast<uint32_t>(bytes));
    });
  };
  CHECK(xattr(64 * kKiB).code() == Errc::kOk);
  CHECK(xattr(64 * kKiB + 1).code() == Errc::kTooBig);
}

TEST_CASE("garbage never hurts: random bytes on the port, and random bytes in a request") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  REQUIRE(c.makeDirectory(kRootInode, "d").code() == Errc::kOk);
  Random& random = rig.world.random();
  sim::SimNode& stranger = rig.world.addNode("stranger");
  Env env = stranger.env();
  for (int i = 0; i < 100; ++i) {
    std::string bytes(random.below(600), '\0');
    for (char& b : bytes) b = static_cast<char>(random.next());
    CHECK(rig.world.await(stranger, sendRaw(env, bytes), 60s));
  }
  // Right in its frame, wrong inside: words of a valid request are overwritten. The peer speaks
  // with a session and in each role.
  size_t answered = 0;
  for (int i = 0; i < 1500; ++i) {
    const Role role = std::array{Role::CLIENT, Role::OSD, Role::ADMIN}[random.below(3)];
    Peer peer(rig.world, "stranger", {role, {}, 0});
    auto got = peer.call(
        [&](schema::MdsRequest::Builder r) {
          r.setSession(random.chance(1, 2) ? c.session : 0);
          r.setSeq(random.chance(1, 2) ? 0 : 1000 + static_cast<uint64_t>(i));
          auto m = r.initMutate();
          switch (random.below(6)) {
            case 0: {
              auto make = m.initMake();
              make.setParent(kRootInode.value);
              make.initName(5);
              make.initTarget(9);
              break;
            }
            case 1:
              m.initRename().initNewName(8);
              break;
            case 2:
              m.initOsdRegister().setAddr("a:1");
              break;
            case 3:
              m.initPoolCreate().setName("p");
              break;
            case 4:
              m.initOsdState(3);
              break;
            default:
              r.initRelease(4);
              break;
          }
          // The segment of the whole frame's header, of which the request is a part.
          auto message = capnp::toAny(r);
          auto body = message.getDataSection();
          for (auto& b : body)
            if (random.chance(1, 6)) b = static_cast<kj::byte>(random.next());
          for (auto pointer : message.getPointerSection()) {
            if (!random.chance(1, 2) || pointer.isNull()) continue;
            // A struct where a list belongs, and the other way round.
            if (random.chance(1, 2))
              pointer.template initAs<capnp::List<uint64_t>>(3).set(1, random.next());
            else
              pointer.template initAs<capnp::Data>(11);
          }
        },
        1s);
    answered += got.code() != Errc::kTimeout ? 1 : 0;
  }
  CHECK(answered == 1500);
  CHECK_FALSE(rig.mds->failed().isSet());
  // The peer was free to end the session that it used, so another looks.
  Client other(rig.world, "other");
  REQUIRE(other.openSession().code() == Errc::kOk);
  CHECK(other.lookup(kRootInode, "d").code() == Errc::kOk);
  CHECK(rig.state().verify().empty());
  // And the log is none the worse.
  rig.restartMds(sim::Crash::kProcess);
  CHECK(other.lookup(kRootInode, "d").code() == Errc::kOk);
}
