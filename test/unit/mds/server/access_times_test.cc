// Times of last access, seen from several sessions: what becomes a command, who is told, and that
// nobody has to give anything back.
#include <sys/stat.h>

#include "mds/server/admission.h"
#include "test/unit/mds/server/lease_client.h"

namespace cairn::mds::test::access_times_test {

using Inodes = std::vector<InodeId>;

struct World {
  World() : a(rig.world, "a"), b(rig.world, "b"), c(rig.world, "c") {
    rig.startOsds(3);
    for (LeaseClient* client : {&a, &b, &c}) REQUIRE(client->openSession().code() == Errc::kOk);
    file = inoOf(c.create(kRootInode, "file"));
    other = inoOf(c.create(kRootInode, "other"));
    for (InodeId ino : {file, other, kRootInode}) (void)c.giveBack(ino);
    rig.world.run(1s);
  }
  int64_t now() { return a.env.reactor.wallNow(); }
  int64_t atime(InodeId ino) { return rig.state().inode(ino)->atimeNs; }
  uint64_t commands() { return rig.state().applied().value; }
  // Those that the answer says have another time.
  static Inodes different(const Got& got) {
    Inodes out;
    for (uint64_t ino : got.reply().getAccessed()) out.emplace_back(ino);
    return out;
  }
  void settle() { rig.world.run(100ms); }

  Rig rig;
  LeaseClient a, b, c;
  InodeId file, other;
};

TEST_CASE("an access recalls nothing: others who hold leases are told, once") {
  World w;
  for (LeaseClient* client : {&w.a, &w.b, &w.c})
    REQUIRE(client->lease(w.file, false).code() == Errc::kOk);
  REQUIRE(w.c.lease(w.other, false).code() == Errc::kOk);
  const int64_t at = w.now();
  CHECK(w.different(w.a.mutate(changes::accessed({w.file, w.other}, at))).empty());
  CHECK(w.atime(w.file) == at);
  CHECK(w.atime(w.other) == at);
  w.settle();
  CHECK(w.a.readByOthers.empty());
  CHECK(w.b.readByOthers == Inodes{w.file});
  CHECK(w.c.readByOthers == Inodes{w.file, w.other});
  // The other readers of the same hour change nothing: no command, and no message.
  const uint64_t before = w.commands();
  w.rig.world.run(10ms);
  CHECK(w.different(w.b.mutate(changes::accessed({w.file}, w.now()))) == Inodes{w.file});
  CHECK(w.commands() == before);
  CHECK(w.atime(w.file) == at);
  w.settle();
  CHECK(w.a.readByOthers.empty());
  CHECK(w.c.readByOthers.size() == 2);
  for (LeaseClient* client : {&w.a, &w.b, &w.c}) {
    CHECK(client->recalls.empty());
    CHECK(client->mode(w.file) == LeaseMode::kRead);
  }
}

TEST_CASE("whoever writes the file keeps the write lease, and nobody waits for it") {
  World w;
  REQUIRE(w.b.lease(w.file, true).code() == Errc::kOk);
  w.b.answers = false;
  const int64_t at = w.now();
  auto done = w.a.startMutate(changes::accessed({w.file}, at));
  REQUIRE(w.rig.until([&] { return done->has_value(); }, 300ms));
  CHECK((*done)->code() == Errc::kOk);
  CHECK(w.atime(w.file) == at);
  w.settle();
  CHECK(w.b.recalls.empty());
  CHECK(w.b.readByOthers == Inodes{w.file});
  // What the writer commits says what has become of it.
  auto got = w.b.mutate(changes::commit(w.file, 10));
  CHECK(got.reply().getAttr().getAtimeNs() == at);
}

TEST_CASE("an access goes on while others wait for the inode") {
  World w;
  REQUIRE(w.b.lease(w.file, false).code() == Errc::kOk);
  w.b.answers = false;
  auto waits = w.c.startMutate(changes::chmod(w.file, 0600));
  w.settle();
  REQUIRE_FALSE(waits->has_value());
  CHECK(w.different(w.a.mutate(changes::accessed({w.file}, w.now()))).empty());
  CHECK(w.b.giveBack(w.file).code() == Errc::kOk);
  CHECK(w.rig.until([&] { return waits->has_value(); }, 1s));
}

TEST_CASE("an access that is told again after an explicit time does not come after it") {
  World w;
  const uint64_t seq = w.a.nextSeq;
  auto change = changes::accessed({w.file}, w.now());
  REQUIRE(w.a.mutate(change).code() == Errc::kOk);
  REQUIRE(w.b.mutate([&](auto m) {
               auto s = m.initSetattr();
               s.setIno(w.file.value);
               s.setSetAtime(true);
               s.setAtimeNs(5);
             })
              .code() == Errc::kOk);
  CHECK(w.different(w.a.mutate(change, seq)) == Inodes{w.file});
  CHECK(w.atime(w.file) == 5);
}

TEST_CASE("what is not as it was said is told: gone, or ahead of the server's clock") {
  World w;
  const int64_t ahead = w.now() + 3'600'000'000'000;
  const InodeId gone{4711};
  CHECK(w.different(w.a.mutate(changes::accessed({w.file, gone}, ahead))) == Inodes{w.file, gone});
  CHECK(w.atime(w.file) <= w.now());
}

TEST_CASE("listings and symbolic links come with the times that say whether they count") {
  World w;
  auto made = w.a.mutate([](auto m) {
    auto make = m.initMake();
    make.setParent(kRootInode.value);
    make.setName({reinterpret_cast<const kj::byte*>("link"), 4});
    make.setMode(S_IFLNK | 0777);
    make.setTarget({reinterpret_cast<const kj::byte*>("to"), 2});
  });
  const InodeId link = inoOf(made);
  auto readlink = [&] { return w.a.ask([&](auto r) { r.setReadlink(link.value); }); };
  auto list = [&](uint64_t cookie) {
    return w.a.ask([&](auto r) {
      auto d = r.initReaddir();
      d.setIno(kRootInode.value);
      d.setCookie(cookie);
      d.setLimit(100);
    });
  };
  auto matches = [&](InodeId ino, const Got& got) {
    const auto inode = *w.rig.state().inode(ino);
    auto times = got.reply().getTimes();
    return times.getAtimeNs() == inode.atimeNs && times.getMtimeNs() == inode.mtimeNs &&
           times.getCtimeNs() == inode.ctimeNs;
  };
  w.settle();
  REQUIRE(w.different(w.a.mutate(changes::accessed({link, kRootInode}, w.now()))).empty());
  w.settle();
  REQUIRE(w.a.makeDirectory(kRootInode, "d").code() == Errc::kOk);
  REQUIRE(w.a.mutate(changes::link(link, kRootInode, "link2")).code() == Errc::kOk);
  for (InodeId ino : {link, kRootInode}) {  // no two are the same
    const auto inode = *w.rig.state().inode(ino);
    REQUIRE(inode.atimeNs != inode.mtimeNs);
    REQUIRE(inode.atimeNs != inode.ctimeNs);
  }
  CHECK(matches(link, readlink()));
  CHECK(matches(kRootInode, list(0)));
  CHECK(matches(kRootInode, list(2)));
}

TEST_CASE("too many accesses at once are refused") {
  World w;
  CHECK(w.a.mutate(changes::accessed(Inodes(kMaxAccesses, w.file), w.now())).code() == Errc::kOk);
  CHECK(w.a.mutate(changes::accessed(Inodes(kMaxAccesses + 1, w.file), w.now())).code() ==
        Errc::kTooBig);
}

}  // namespace cairn::mds::test::access_times_test
