// Leases, seen from several sessions: who waits for whom, and what everybody is told. Where
// something fails: lease_failure_test.cc.
#include "test/unit/mds/server/lease_world.h"

namespace cairn::mds::test::leases_test {

using World = LeaseWorld;
using sim::Crash;

constexpr auto kNone = LeaseMode::kNone, kRead = LeaseMode::kRead, kWrite = LeaseMode::kWrite;

// ---- the table of LEASES.md ----

struct Row {
  const char* what;
  std::function<Client::Slot(World&)> run;  // by a
};

void fillName(schema::XattrName::Builder x, InodeId ino, const char* name) {
  x.setIno(ino.value);
  x.setName({reinterpret_cast<const kj::byte*>(name), strlen(name)});
}

const std::vector<Row>& queries() {
  static const std::vector<Row> rows{
      {"getattr",
       [](World& w) { return w.a.startAsk([&](auto r) { r.setGetattr(w.file.value); }); }},
      {"lookup",
       [](World& w) {
         return w.a.startAsk([&](auto r) {
           auto l = r.initLookup();
           l.setParent(w.dir.value);
           l.setName({reinterpret_cast<const kj::byte*>("file"), 4});
         });
       }},
      {"getxattr",
       [](World& w) {
         return w.a.startAsk([&](auto r) { fillName(r.initGetxattr(), w.file, "user.x"); });
       }},
      {"listxattr",
       [](World& w) { return w.a.startAsk([&](auto r) { r.setListxattr(w.file.value); }); }},
      {"resolve",
       [](World& w) { return w.a.startAsk([&](auto r) { r.setResolve("/dir/file"); }); }},
      {"open",
       [](World& w) { return w.a.startAsk([&](auto r) { r.initOpen().setIno(w.file.value); }); }},
      {"lease read", [](World& w) { return w.a.startLease(w.file, false); }},
  };
  return rows;
}

const std::vector<Row>& changesOfFile() {
  static const std::vector<Row> rows{
      {"setattr", [](World& w) { return w.a.startMutate(changes::chmod(w.file, 0600)); }},
      {"setxattr",
       [](World& w) { return w.a.startMutate(changes::setxattr(w.file, "user.x", "2")); }},
      {"removexattr",
       [](World& w) { return w.a.startMutate(changes::removexattr(w.file, "user.x")); }},
      {"link", [](World& w) { return w.a.startMutate(changes::link(w.file, w.other, "l")); }},
      {"unlink", [](World& w) { return w.a.startMutate(changes::unlink(w.dir, "file")); }},
      {"rename of it",
       [](World& w) { return w.a.startMutate(changes::rename(w.dir, "file", w.other, "f")); }},
      {"lease write", [](World& w) { return w.a.startLease(w.file, true); }},
  };
  return rows;
}

const std::vector<Row>& changesOfNames() {
  static const std::vector<Row> rows{
      {"create", [](World& w) { return w.a.startMutate(changes::create(w.dir, "new")); }},
      {"mkdir", [](World& w) { return w.a.startMutate(changes::makeDirectory(w.dir, "new")); }},
      {"unlink", [](World& w) { return w.a.startMutate(changes::unlink(w.dir, "file")); }},
      {"link", [](World& w) { return w.a.startMutate(changes::link(w.file, w.dir, "l")); }},
      {"rename in it",
       [](World& w) { return w.a.startMutate(changes::rename(w.dir, "file", w.dir, "f")); }},
      {"rename out of it",
       [](World& w) { return w.a.startMutate(changes::rename(w.dir, "file", w.other, "f")); }},
      {"rename into it",
       [](World& w) {
         return w.a.startMutate(changes::rename(kRootInode, "other", w.dir, "sub"));
       }},
      {"its attributes", [](World& w) { return w.a.startMutate(changes::chmod(w.dir, 0700)); }},
  };
  return rows;
}

// Row by row: b holds `mode` on `ino`; what a does waits until b has given up down to `keep`.
void checkWaits(const std::vector<Row>& rows, InodeId World::* which, LeaseMode mode,
                LeaseMode keep) {
  for (const Row& row : rows) {
    CAPTURE(row.what);
    World w;
    const InodeId ino = w.*which;
    REQUIRE(w.b.lease(ino, mode == kWrite).code() == Errc::kOk);
    w.b.answers = false;
    auto done = row.run(w);
    const bool waits = mode > keep;
    CHECK(w.answered(done) == !waits);
    REQUIRE(w.b.recalls.size() == (waits ? 1 : 0));
    if (waits) {
      CHECK(w.b.recalls[0].ino == ino);
      CHECK(w.b.recalls[0].toRead == (keep == kRead));
      CHECK(w.b.recalls[0].serial == w.b.held[ino].serial);
      CHECK(w.b.giveBack(ino, keep == kRead).code() == Errc::kOk);
      REQUIRE(w.answered(done));
    }
    CHECK((*done)->code() == Errc::kOk);
    CHECK(w.held(w.b, ino) == std::min(mode, keep));
    CHECK(w.rig.mds->server().leases().claims().size() == 0);
  }
}

TEST_CASE("a query waits for who writes, and for nobody else") {
  checkWaits(queries(), &World::file, kWrite, kRead);
  checkWaits(queries(), &World::file, kRead, kRead);
}

TEST_CASE("a change of an inode, and a write lease, wait for everybody who holds anything on it") {
  checkWaits(changesOfFile(), &World::file, kWrite, kNone);
  checkWaits(changesOfFile(), &World::file, kRead, kNone);
}

TEST_CASE("a change of names waits for everybody who knows the directory") {
  checkWaits(changesOfNames(), &World::dir, kRead, kNone);
}

TEST_CASE("whoever changes something keeps its own lease, and waits for nobody") {
  for (const auto& rows : {changesOfFile(), changesOfNames()}) {
    for (const Row& row : rows) {
      CAPTURE(row.what);
      World w;
      REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
      REQUIRE(w.a.lease(w.dir, false).code() == Errc::kOk);
      w.a.answers = false;
      auto done = row.run(w);
      REQUIRE(w.answered(done));
      CHECK((*done)->code() == Errc::kOk);
      CHECK(w.a.recalls.empty());
      CHECK(w.held(w.a, w.dir) == kRead);
      if (w.rig.state().inode(w.file)) CHECK(w.held(w.a, w.file) == kWrite);
    }
  }
}

TEST_CASE(
    "a rename waits for the holders of all it touches: victim, or what it is exchanged with") {
  uint32_t flags = 0;
  SUBCASE("victim") {}
  SUBCASE("exchange") {
    flags = 2;
  }
  World w;
  REQUIRE(w.a.mutate(changes::makeDirectory(w.other, "victim")).code() == Errc::kOk);
  const InodeId moved = inoOf(w.a.makeDirectory(w.dir, "moved"));
  const InodeId victim = inoOf(w.a.lookup(w.other, "victim"));
  const std::vector<InodeId> all{w.dir, w.other, moved, victim};
  for (InodeId ino : all) {
    (void)w.a.giveBack(ino);
    REQUIRE(w.b.lease(ino, false).code() == Errc::kOk);
  }
  w.b.answers = false;
  auto done = w.a.startMutate(changes::rename(w.dir, "moved", w.other, "victim", flags));
  for (InodeId ino : all) {
    CHECK_FALSE(w.answered(done, 50ms));
    CHECK(w.b.giveBack(ino).code() == Errc::kOk);
  }
  REQUIRE(w.answered(done));
  CHECK((*done)->code() == Errc::kOk);
  CHECK(w.b.recalls.size() == 4);
  CHECK(w.rig.state().verify().empty());
}

// ---- grants ----

TEST_CASE("leases come along by the way, each reply with a larger serial") {
  World w;
  uint64_t last = 0;
  auto larger = [&last](const Got& got) {
    const uint64_t serial = got.reply().getLeaseSerial();
    const bool ok = serial > last;
    last = serial;
    return ok;
  };
  auto got = w.a.getattr(w.file);
  CHECK(leaseIn(got) == schema::Lease::READ);
  CHECK(larger(got));
  got = w.b.lookup(w.dir, "file");
  CHECK(leaseIn(got) == schema::Lease::READ);
  CHECK(got.reply().getDirLease());
  CHECK(larger(got));
  got = w.b.lookup(w.dir, "nothing");
  CHECK(got.reply().isNone());
  CHECK(got.reply().getDirLease());
  CHECK(larger(got));
  got = w.a.openFor(w.file, true);  // b reads
  CHECK(leaseIn(got) == schema::Lease::READ);
  CHECK(larger(got));
  CHECK(w.b.giveBack(w.file).code() == Errc::kOk);
  got = w.a.openFor(w.file, true);
  CHECK(leaseIn(got) == schema::Lease::WRITE);
  CHECK(larger(got));
  CHECK(leaseIn(w.a.getattr(w.file)) == schema::Lease::WRITE);  // never less than it holds
  CHECK(leaseIn(w.a.openFor(w.file, false)) == schema::Lease::WRITE);
  CHECK(leaseIn(w.a.create(w.dir, "new")) == schema::Lease::WRITE);
  CHECK(leaseIn(w.a.makeDirectory(w.other, "d")) == schema::Lease::READ);
  CHECK(leaseIn(w.a.mutate(changes::chmod(w.other, 0711))) == schema::Lease::READ);
  // What was said is what the table says.
  for (LeaseClient* client : {&w.a, &w.b})
    for (auto& [ino, h] : client->held) CHECK(w.held(*client, ino) == h.mode);
}

TEST_CASE("a listing with attributes leaves out files that others write") {
  World w;
  const InodeId second = inoOf(w.c.create(w.dir, "second"));
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  (void)w.c.giveBack(second);
  auto got = w.a.readdirPlus(w.dir);
  CHECK(got.reply().getDirLease());
  size_t known = 0, unknown = 0;
  for (auto e : got.reply().getReaddir().getEntries()) {
    if (InodeId{e.getIno()} == w.file) {
      CHECK(e.getAttr().getIno() == 0);
      ++unknown;
    } else {
      CHECK(e.getAttr().getIno() == e.getIno());
      CHECK(e.getAttr().getLease() == schema::Lease::READ);
      ++known;
    }
  }
  CHECK(known == 3);
  CHECK(unknown == 1);
  CHECK(w.b.recalls.empty());
  CHECK(w.held(w.a, second) == kRead);
}

TEST_CASE("while something waits to be done to an inode, nobody else is granted a lease on it") {
  World w;
  REQUIRE(w.b.lease(w.file, false).code() == Errc::kOk);
  w.b.answers = false;
  auto write = w.a.startLease(w.file, true);
  CHECK_FALSE(w.answered(write, 100ms));
  // Queries are answered meanwhile, of the file and of its neighbours.
  CHECK(leaseIn(w.c.getattr(w.file)) == schema::Lease::NONE);
  CHECK(leaseIn(w.b.getattr(w.file)) == schema::Lease::NONE);
  CHECK(w.held(w.b, w.file) == kRead);  // nothing was taken either
  CHECK(leaseIn(w.c.getattr(w.dir)) == schema::Lease::READ);
  CHECK(w.b.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.answered(write));
  CHECK(leaseIn(**write) == schema::Lease::WRITE);
}

TEST_CASE("a lease is for files that are there, and writing for regular ones") {
  World w;
  CHECK(w.a.lease(w.dir, true).code() == Errc::kInvalid);
  CHECK(w.a.lease(InodeId{4711}, false).code() == Errc::kStale);
  CHECK(leaseIn(w.a.lease(w.dir, false)) == schema::Lease::READ);
  auto got = w.a.lease(w.file, true);
  CHECK(leaseIn(got) == schema::Lease::WRITE);
  CHECK(got.reply().getEntry().getChunks().size() == 1);
  CHECK(w.a.unlink(w.dir, "file").code() == Errc::kOk);
  CHECK(w.a.lease(w.file, false).code() == Errc::kStale);
  CHECK(w.held(w.a, w.file) == kNone);
}

TEST_CASE("a session whose writer was another is told that the tail is unclean once it may write") {
  World w;
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.a.mutate(changes::commit(w.file, 1000)).code() == Errc::kOk);
  CHECK_FALSE(w.a.getattr(w.file).reply().getAttr().getTailUnclean());
  CHECK_FALSE(w.b.getattr(w.file).reply().getAttr().getTailUnclean());  // it may not write
  auto got = w.b.lease(w.file, true);
  CHECK(got.reply().getEntry().getAttr().getTailUnclean());
  CHECK(w.b.getattr(w.file).reply().getAttr().getTailUnclean());
  REQUIRE(w.b.mutate([&](auto m) {
               auto t = m.initTailCleaned();
               t.setIno(w.file.value);
               t.setSize(1000);
             })
              .code() == Errc::kOk);
  CHECK_FALSE(w.b.getattr(w.file).reply().getAttr().getTailUnclean());
}

// ---- turns ----

TEST_CASE("writers take turns in the order in which they came, and nobody starves") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  auto first = w.a.startLease(w.file, true);
  w.rig.world.run(20ms);
  auto second = w.c.startLease(w.file, true);
  w.rig.world.run(20ms);
  auto third = w.b.startMutate(changes::chmod(w.file, 0600));  // behind both, though it holds it
  CHECK_FALSE(w.answered(first, 100ms));
  w.a.answers = w.c.answers = false;
  CHECK(w.b.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.answered(first));
  CHECK_FALSE(w.answered(second, 100ms));
  CHECK(w.held(w.a, w.file) == kWrite);
  // It may do something before it gives it up: the holder's commands wait for nobody.
  CHECK(w.a.mutate(changes::commit(w.file, 10)).code() == Errc::kOk);
  CHECK(w.a.mutate(changes::truncate(w.file, 5)).code() == Errc::kOk);
  CHECK(w.a.recalls.size() == 1);
  CHECK(w.a.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.answered(second));
  CHECK((*second)->reply().getEntry().getAttr().getSize() == 5);
  CHECK_FALSE(third->has_value());
  CHECK(w.c.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.answered(third));
  CHECK((*third)->code() == Errc::kOk);
}

TEST_CASE("a reader of a file that two write gets its turn as well") {
  World w;
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  w.a.answers = false;
  auto write = w.b.startLease(w.file, true);
  w.rig.world.run(20ms);
  auto query = w.c.startAsk([&](auto r) { r.setGetattr(w.file.value); });
  w.rig.world.run(20ms);
  CHECK(w.a.mutate(changes::commit(w.file, 7)).code() == Errc::kOk);
  CHECK(w.a.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.answered(write));
  w.b.answers = true;
  REQUIRE(w.answered(query));
  CHECK((*query)->reply().getAttr().getSize() == 7);
  CHECK(leaseIn(**query) == schema::Lease::READ);
  CHECK(w.held(w.b, w.file) == kRead);
}

TEST_CASE("changes of several inodes and leases on each of them do not wait in a circle") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    World w(seed);
    for (int i = 0; i < 6; ++i) {
      REQUIRE(w.c.makeDirectory(w.dir, "d" + std::to_string(i)).code() == Errc::kOk);
      REQUIRE(w.c.makeDirectory(w.other, "o" + std::to_string(i)).code() == Errc::kOk);
    }
    std::vector<Client::Slot> slots;
    for (int i = 0; i < 6; ++i) {
      const std::string n = std::to_string(i);
      slots.push_back(w.a.startMutate(changes::rename(w.dir, "d" + n, w.other, "x" + n)));
      slots.push_back(w.c.startLease(w.dir, false));
      slots.push_back(w.b.startMutate(changes::rename(w.other, "o" + n, w.dir, "y" + n)));
      slots.push_back(w.a.startLease(w.other, false));
      slots.push_back(w.b.startLease(w.dir, false));
      w.rig.world.run(Duration(w.rig.world.random().below(1'000'000)));
    }
    for (auto& slot : slots) {
      REQUIRE(w.answered(slot, 2s));
      CHECK((*slot)->code() == Errc::kOk);
    }
    CHECK(w.rig.state().verify().empty());
  }
}

// ---- the holder's commands ----

TEST_CASE("what only a writer may do is refused without its lease") {
  World w;
  REQUIRE(w.a.lease(w.file, false).code() == Errc::kOk);
  CHECK(w.a.mutate(changes::commit(w.file, 1)).code() == Errc::kLeaseLost);
  CHECK(w.a.mutate(changes::truncate(w.file, 1)).code() == Errc::kLeaseLost);
  CHECK(w.a.allocate(w.file, 2).code() == Errc::kLeaseLost);
  CHECK(w.b.mutate([&](auto m) {
             auto c = m.initRemoveChunks();
             c.setIno(w.file.value);
             c.setCount(1);
           })
            .code() == Errc::kLeaseLost);
  CHECK(w.b.mutate([&](auto m) { m.initTailCleaned().setIno(w.file.value); }).code() ==
        Errc::kLeaseLost);
  CHECK(w.b.mutate(changes::commit(InodeId{4711}, 1)).code() == Errc::kStale);
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  CHECK(w.a.mutate(changes::commit(w.file, 1)).code() == Errc::kOk);
  CHECK(w.a.mutate(changes::truncate(w.file, 9)).code() == Errc::kOk);
  CHECK(w.a.allocate(w.file, 2).code() == Errc::kOk);
}

TEST_CASE("a change that is repeated after its lease was returned gets its answer, and no lease") {
  World w;
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  const uint64_t seq = w.a.nextSeq;
  REQUIRE(w.a.mutate(changes::commit(w.file, 100)).code() == Errc::kOk);
  CHECK(w.a.giveBack(w.file).code() == Errc::kOk);
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.b.mutate(changes::commit(w.file, 200)).code() == Errc::kOk);
  w.b.answers = false;
  auto again = w.a.mutate(changes::commit(w.file, 100), seq);
  CHECK(again.code() == Errc::kOk);
  CHECK(leaseIn(again) == schema::Lease::NONE);
  CHECK(again.reply().getLeaseSerial() == 0);
  CHECK(w.b.recalls.empty());
  CHECK(w.rig.state().inode(w.file)->size == 200);
  // What is granted with a repeated answer is with attributes of now.
  w.b.answers = true;
  CHECK(w.b.giveBack(w.file).code() == Errc::kOk);
  again = w.a.mutate(changes::commit(w.file, 100), seq);
  CHECK(leaseIn(again) == schema::Lease::READ);
  CHECK(again.reply().getAttr().getSize() == 200);
}

// ---- sessions without leases ----

TEST_CASE(
    "a session that answers no recalls is granted nothing, and is no danger to those that do") {
  World w;
  Client old(w.rig.world, "old");
  REQUIRE(old.openSession().code() == Errc::kOk);
  CHECK(leaseIn(old.getattr(w.dir)) == schema::Lease::NONE);
  CHECK(old.lookup(w.dir, "nothing").code() == Errc::kNotFound);
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  CHECK(old.mutate(changes::commit(w.file, 9)).code() == Errc::kOk);
  CHECK(w.a.recalls.size() == 1);
  CHECK(w.a.mutate(changes::commit(w.file, 1)).code() == Errc::kLeaseLost);
  CHECK(w.table().heldBy(SessionId{old.session}) == 0);
  auto lease = old.ask([&](auto r) { r.initLease().setIno(w.file.value); });
  CHECK(lease.code() == Errc::kInvalid);
}

TEST_CASE("a session is granted only so many leases by the way, and what it asks for beyond them") {
  sim::SimWorld world(1);
  Env env = world.addNode("h").env();
  Sessions sessions(10s);
  const SessionId session{1};
  sessions.addNew(session, env.reactor.now(), true);
  Leases leases(env, sessions, [](const Recall&) {});
  Caller caller;
  Inode inode;
  inode.mode = 0100644;
  auto ask = [&](uint64_t ino, const Leases::Claim* claim) {
    OutMessage m;
    auto attr = m.body<schema::MdsReply>().initAttr();
    inode.ino = InodeId{ino};
    Leases::Grants(leases, session).attr(inode, attr, kRead, claim);
    return attr.getLease();
  };
  for (uint64_t i = 1; i <= Leases::kMaxLeasesPerSession; ++i)
    if (ask(i, nullptr) != schema::Lease::READ) FAIL("not granted: ", i);
  const uint64_t more = Leases::kMaxLeasesPerSession + 1;
  CHECK(ask(more, nullptr) == schema::Lease::NONE);
  CHECK(ask(7, nullptr) == schema::Lease::READ);  // it has that one
  Leases::Claim claim(leases, caller, session, ClaimKind::kAcquireRead, {InodeId{more}});
  REQUIRE(claim.ready());
  CHECK(ask(more, &claim) == schema::Lease::READ);
  CHECK(leases.table().heldBy(session) == more);
}

TEST_CASE("status and metrics say what is held") {
  World w;
  REQUIRE(w.a.lease(w.file, true).code() == Errc::kOk);
  REQUIRE(w.a.lease(w.dir, false).code() == Errc::kOk);
  (void)w.b.getattr(w.file);
  auto got = w.c.ask([](auto r) { r.setStatus(); });
  std::map<uint64_t, uint32_t> leases;
  for (auto client : got.reply().getStatus().getClients())
    leases[client.getId()] = client.getLeases();
  CHECK(leases.at(w.a.session) == 2);
  CHECK(leases.at(w.b.session) == 1);
  CHECK(leases.at(w.c.session) == 0);
  const std::string metrics = w.rig.env->metrics.render();
  CHECK(metrics.find("cairn_mds_leases 3\n") != std::string::npos);
  CHECK(metrics.find("cairn_mds_recalls_total 1\n") != std::string::npos);
  CHECK(metrics.find("cairn_mds_recall_seconds{quantile=\"0.5\"} 0.") != std::string::npos);
}

}  // namespace cairn::mds::test::leases_test
