// Sessions, open files, exactly-once and recovery, seen from outside.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;
using sim::Crash;

TEST_CASE("a new directory becomes a cluster, and is found again") {
  Rig rig;
  Client c(rig.world);
  CHECK(c.openSession().code() == Errc::kOk);
  CHECK(c.rpc->peerIdentity().cluster == kCluster);
  CHECK(c.makeDirectory(kRootInode, "d").code() == Errc::kOk);
  rig.stopMds();
  rig.startMds();
  CHECK(c.lookup(kRootInode, "d").code() == Errc::kOk);
  rig.stopMds();
  rig.options.cluster = Uuid{5, 5};
  rig.node = &rig.world.addNode("mds");
  rig.env.emplace(rig.node->env());
  auto other = rig.world.await(*rig.node, Mds::start(*rig.env, rig.options));
  REQUIRE(other);
  REQUIRE_FALSE(*other);
  CHECK(other->error().code == Errc::kWrongCluster);
  CHECK(rig.world.drain(*rig.node));
}

TEST_CASE("data waits for OSDs with a reason, the namespace does not") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  CHECK(c.makeDirectory(kRootInode, "d").code() == Errc::kOk);
  auto early = c.create(kRootInode, "f");
  CHECK(early.code() == Errc::kUnavailable);
  CHECK(early.result.error().message.find("needs 3 ") != std::string::npos);
  rig.startOsds(3);
  auto made = c.create(kRootInode, "f");
  CHECK(made.code() == Errc::kOk);
  CHECK(made.reply().getEntry().getChunks().size() == 1);
}

TEST_CASE("a change that is sent again is done once and answered the same") {
  for (Crash how : {Crash::kProcess, Crash::kPower}) {
    Rig rig;
    rig.startOsds(3);
    Client c(rig.world);
    REQUIRE(c.openSession().code() == Errc::kOk);
    const uint64_t seq = c.nextSeq;
    auto first = c.create(kRootInode, "f");
    const InodeId ino = inoOf(first);
    // The same number over a new connection, then after a crash.
    c.rpc->disconnect();
    c.nextSeq = seq;
    CHECK(inoOf(c.create(kRootInode, "f")) == ino);
    rig.restartMds(how);
    c.rpc->disconnect();
    c.nextSeq = seq;
    CHECK(inoOf(c.create(kRootInode, "f")) == ino);
    // A new number is a new change.
    CHECK(c.create(kRootInode, "f").code() == Errc::kExists);
    CHECK(rig.state().verify().empty());
  }
}

TEST_CASE("what was answered survives crashes at any moment") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    Rig rig(seed);
    Client c(rig.world);
    REQUIRE(c.openSession().code() == Errc::kOk);
    std::vector<std::string> made;
    for (int round = 0; round < 3; ++round) {
      std::vector<std::shared_ptr<std::optional<Got>>> slots;
      std::vector<std::string> names;
      for (int i = 0; i < 30; ++i) {
        names.push_back("d" + std::to_string(round) + "." + std::to_string(i));
        slots.push_back(std::make_shared<std::optional<Got>>());
        c.start(
            [&](auto r) {
              r.setSession(c.session);
              r.setSeq(c.nextSeq++);
              auto make = r.initMutate().initMake();
              make.setParent(kRootInode.value);
              make.setName(
                  {reinterpret_cast<const kj::byte*>(names.back().data()), names.back().size()});
              make.setMode(0040755);
            },
            slots.back());
      }
      rig.world.run(Duration(rig.world.random().below(3'000'000)));
      rig.restartMds(seed % 2 == 0 ? Crash::kPower : Crash::kProcess);
      rig.world.run(6s);  // calls on a connection that power took end by themselves
      for (size_t i = 0; i < slots.size(); ++i) {
        REQUIRE(slots[i]->has_value());
        if ((*slots[i])->code() == Errc::kOk) made.push_back(names[i]);
      }
      c.rpc->disconnect();  // power took the server's end of it
      for (const auto& name : made) CHECK(c.lookup(kRootInode, name).code() == Errc::kOk);
      CHECK(rig.state().verify().empty());
    }
  }
}

TEST_CASE("an unlinked file lives until its last user closes it") {
  Rig rig;
  rig.startOsds(3);
  Client a(rig.world, "a"), b(rig.world, "b");
  REQUIRE(a.openSession().code() == Errc::kOk);
  REQUIRE(b.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(a.create(kRootInode, "f"));
  CHECK(b.open(ino).code() == Errc::kOk);
  CHECK(b.unlink(kRootInode, "f").code() == Errc::kOk);
  CHECK(a.getattr(ino).reply().getAttr().getNlink() == 0);
  CHECK(b.release(ino).code() == Errc::kOk);
  rig.world.run(1s);
  CHECK(a.getattr(ino).code() == Errc::kOk);
  // Nobody else gets at it any more.
  CHECK(b.open(ino).code() == Errc::kStale);
  CHECK(a.release(ino).code() == Errc::kOk);
  CHECK(rig.until([&] { return !rig.state().inode(ino); }, 2s));
  CHECK(rig.until([&] { return rig.state().counts().garbage == 0; }, 2s));
  CHECK(rig.osds[0]->removed.size() + rig.osds[1]->removed.size() + rig.osds[2]->removed.size() ==
        1);
  CHECK(rig.state().verify().empty());
}

TEST_CASE("a rename over an open file keeps it for those that have it open") {
  Rig rig;
  rig.startOsds(3);
  Client a(rig.world, "a"), b(rig.world, "b");
  REQUIRE(a.openSession().code() == Errc::kOk);
  REQUIRE(b.openSession().code() == Errc::kOk);
  const InodeId victim = inoOf(a.create(kRootInode, "old"));
  const InodeId fresh = inoOf(b.create(kRootInode, "new"));
  CHECK(b.rename(kRootInode, "new", "old").code() == Errc::kOk);
  CHECK(inoOf(a.lookup(kRootInode, "old")) == fresh);
  CHECK(a.getattr(victim).code() == Errc::kOk);
  CHECK(a.release(victim).code() == Errc::kOk);
  CHECK(rig.until([&] { return !rig.state().inode(victim); }, 2s));
}

TEST_CASE("opening and unlinking at once: either the opener has the file, or it is told") {
  int kept = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Rig rig(seed);
    rig.startOsds(3);
    Client a(rig.world, "a"), b(rig.world, "b");
    REQUIRE(a.openSession().code() == Errc::kOk);
    REQUIRE(b.openSession().code() == Errc::kOk);
    const InodeId ino = inoOf(a.create(kRootInode, "f"));
    REQUIRE(a.release(ino).code() == Errc::kOk);
    auto opened = std::make_shared<std::optional<Got>>();
    auto removed = std::make_shared<std::optional<Got>>();
    auto open = [&] {
      b.start(
          [&](auto r) {
            r.setSession(b.session);
            r.initOpen().setIno(ino.value);
          },
          opened);
    };
    auto unlink = [&] {
      a.start(
          [&](auto r) {
            r.setSession(a.session);
            r.setSeq(a.nextSeq++);
            auto remove = r.initMutate().initRemove();
            remove.setParent(kRootInode.value);
            remove.setName({reinterpret_cast<const kj::byte*>("f"), 1});
          },
          removed);
    };
    const bool openFirst = seed % 2 == 0;
    openFirst ? open() : unlink();
    rig.world.run(Duration(rig.world.random().below(300'000)));
    openFirst ? unlink() : open();
    REQUIRE(rig.until([&] { return opened->has_value() && removed->has_value(); }));
    CHECK((*removed)->code() == Errc::kOk);
    rig.world.run(1s);
    if ((*opened)->code() == Errc::kOk) {
      ++kept;
      CHECK(b.getattr(ino).code() == Errc::kOk);
      CHECK(b.release(ino).code() == Errc::kOk);
      CHECK(rig.until([&] { return !rig.state().inode(ino); }, 2s));
    } else {
      ++refused;
      CHECK((*opened)->code() == Errc::kStale);
    }
  }
  CHECK(kept > 0);
  CHECK(refused > 0);
}

TEST_CASE("after a restart nothing is freed that a session may still have open") {
  Rig rig;
  rig.startOsds(3);
  Client a(rig.world, "a"), b(rig.world, "b");
  REQUIRE(a.openSession().code() == Errc::kOk);
  REQUIRE(b.openSession().code() == Errc::kOk);
  const InodeId held = inoOf(a.create(kRootInode, "held"));
  const InodeId closed = inoOf(a.create(kRootInode, "closed"));
  REQUIRE(a.release(closed).code() == Errc::kOk);
  rig.restartMds(Crash::kProcess);
  REQUIRE(b.reclaim({}).code() == Errc::kOk);
  // a has said nothing yet: what it may hold is waited for.
  auto removeHeld = b.startMutate(changes::unlink(kRootInode, "held"));
  auto removeClosed = b.startMutate(changes::unlink(kRootInode, "closed"));
  rig.world.run(1s);
  CHECK_FALSE(removeHeld->has_value());
  CHECK_FALSE(removeClosed->has_value());
  CHECK(rig.state().inode(held).has_value());
  REQUIRE(a.reclaim({held}).code() == Errc::kOk);
  REQUIRE(rig.until([&] { return removeHeld->has_value() && removeClosed->has_value(); }, 1s));
  CHECK((*removeHeld)->code() == Errc::kOk);
  CHECK((*removeClosed)->code() == Errc::kOk);
  CHECK(rig.until([&] { return !rig.state().inode(closed); }, 2s));
  CHECK(a.getattr(held).code() == Errc::kOk);
  CHECK(a.release(held).code() == Errc::kOk);
  CHECK(rig.until([&] { return !rig.state().inode(held); }, 2s));
  CHECK(rig.state().verify().empty());
}

TEST_CASE("a silent session expires, and what it held is freed") {
  Rig rig;
  rig.startOsds(3);
  Client a(rig.world, "a"), b(rig.world, "b");
  REQUIRE(a.openSession().code() == Errc::kOk);
  REQUIRE(b.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(a.create(kRootInode, "f"));
  CHECK(b.unlink(kRootInode, "f").code() == Errc::kOk);
  auto keepalive = [&] { return b.ask([](auto r) { r.initKeepalive(); }).code() == Errc::kOk; };
  for (int i = 0; i < 9; ++i) {
    rig.world.run(1s);
    CHECK(keepalive());
  }
  CHECK(rig.state().inode(ino).has_value());
  for (int i = 0; i < 4; ++i) {
    rig.world.run(1s);
    CHECK(keepalive());
  }
  CHECK_FALSE(rig.state().inode(ino).has_value());
  CHECK(rig.mds->server().sessions().size() == 1);
  // It learns of it, on whatever connection.
  CHECK(a.getattr(kRootInode).code() == Errc::kSessionExpired);
  CHECK(a.makeDirectory(kRootInode, "d").code() == Errc::kSessionExpired);
  // A new mount is welcome.
  a.rpc->setIdentity({schema::Hello::Role::CLIENT, kCluster, 0});
  a.rpc->disconnect();
  CHECK(a.openSession().code() == Errc::kOk);
}

TEST_CASE("no session expires because the server was away") {
  Rig rig;
  Client a(rig.world, "a");
  REQUIRE(a.openSession().code() == Errc::kOk);
  SUBCASE("down") {
    rig.crashMds(Crash::kProcess);
    rig.world.run(60s);
    rig.startMds();
  }
  SUBCASE("stopped") {
    rig.world.pause(*rig.node);
    rig.world.run(60s);
    rig.world.resume(*rig.node);
  }
  rig.world.run(5s);
  CHECK(a.getattr(kRootInode).code() == Errc::kOk);
  rig.world.run(11s);
  CHECK(a.getattr(kRootInode).code() == Errc::kSessionExpired);
}

TEST_CASE("closing a session ends it at once") {
  Rig rig;
  rig.startOsds(3);
  Client a(rig.world, "a"), b(rig.world, "b");
  REQUIRE(a.openSession().code() == Errc::kOk);
  REQUIRE(b.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(a.create(kRootInode, "f"));
  CHECK(b.unlink(kRootInode, "f").code() == Errc::kOk);
  CHECK(a.ask([](auto r) { r.setSessionClose(); }).code() == Errc::kOk);
  CHECK(rig.until([&] { return !rig.state().inode(ino); }, 2s));
  CHECK(a.getattr(kRootInode).code() == Errc::kSessionExpired);
}

TEST_CASE("the log is trimmed while it is written, and a restart replays little") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  std::string value(60'000, 'v');
  for (int i = 0; i < 200; ++i) {  // 12 MB through a log of 4 MB
    auto got = c.mutate([&](auto m) {
      auto x = m.initSetxattr();
      x.setIno(kRootInode.value);
      x.setName({reinterpret_cast<const kj::byte*>("user.x"), 6});
      value[0] = static_cast<char>('a' + i % 26);
      x.setValue({reinterpret_cast<const kj::byte*>(value.data()), value.size()});
    });
    REQUIRE(got.code() == Errc::kOk);
  }
  rig.restartMds(Crash::kPower);
  c.rpc->disconnect();
  auto got = c.ask([&](auto r) {
    auto x = r.initGetxattr();
    x.setIno(kRootInode.value);
    x.setName({reinterpret_cast<const kj::byte*>("user.x"), 6});
  });
  auto bytes = got.reply().getData();
  CHECK(std::string(bytes.asChars().begin(), bytes.size()) == value);
}

TEST_CASE("a log that fails ends the server, and nothing was answered that is not there") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  REQUIRE(c.makeDirectory(kRootInode, "before").code() == Errc::kOk);
  rig.node->machine().disk.faults.writeError = 1;
  CHECK(c.makeDirectory(kRootInode, "lost").code() == Errc::kUnavailable);
  CHECK(rig.mds->failed().isSet());
  CHECK_FALSE(rig.mds->health());
  CHECK(c.makeDirectory(kRootInode, "after").code() == Errc::kUnavailable);
  rig.node->machine().disk.faults.writeError = 0;
  rig.restartMds(Crash::kProcess);
  CHECK(c.lookup(kRootInode, "before").code() == Errc::kOk);
  CHECK(c.lookup(kRootInode, "after").code() == Errc::kNotFound);
}
