#include "client/core/session.h"

#include <fcntl.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

TEST_CASE("session: a mutation whose answer was lost is not done twice") {
  FakeCluster c;
  int drops = 3;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isMutate() && drops-- > 0 ? Fault::kDropAfter : Fault::kNone;
  };
  auto made = c.run(c.fs->mkdir(kRootInode, "a", 0755, {}));
  REQUIRE(made);  // and not kExists
  CHECK(c.mds.executed["make"] == 1);
  CHECK(c.mds.received["repeated"] == 3);
}

TEST_CASE("session: a request that never arrived is sent again") {
  FakeCluster c;
  int drops = 3;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isMutate() && drops-- > 0 ? Fault::kDropBefore : Fault::kNone;
  };
  CHECK(c.run(c.fs->mkdir(kRootInode, "a", 0755, {})));
  CHECK(c.mds.executed["make"] == 1);
}

TEST_CASE("session: after a reconnect the open files are told before anything else") {
  FakeCluster c;
  auto h = c.create("f");
  uint64_t ino = c.mds.names["f"];
  c.mds.reclaims.clear();
  size_t before = c.events.size();
  int drops = 1;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isLookup() && drops-- > 0 ? Fault::kDropBefore : Fault::kNone;
  };
  CHECK(c.run(c.fs->lookup(kRootInode, "f")));
  auto other = c.open("f");
  REQUIRE(c.mds.reclaims.size() == 1);
  CHECK(c.mds.reclaims[0] == std::set<uint64_t>{ino});
  CHECK(c.indexOf("mds reclaim", before) < c.indexOf("mds open", before));
}

TEST_CASE("session: a file that was created across a reconnect is open at the MDS") {
  FakeCluster c;
  int drops = 1;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isMutate() && r.getMutate().isMake() && drops-- > 0 ? Fault::kDropAfter : Fault::kNone;
  };
  size_t before = c.events.size();
  auto h = c.create("f");
  CHECK(c.indexOf("mds open", c.indexOf("mds reclaim 0", before)) != SIZE_MAX);
}

TEST_CASE("session: what was answered is acknowledged") {
  FakeCluster c;
  for (int i = 0; i < 5; ++i) REQUIRE(c.run(c.fs->mkdir(kRootInode, std::to_string(i), 0755, {})));
  CHECK(c.mds.ackedBelow == 5);
}

TEST_CASE("session: final answers reach the caller") {
  FakeCluster c;
  REQUIRE(c.run(c.fs->mkdir(kRootInode, "a", 0755, {})));
  CHECK(c.run(c.fs->mkdir(kRootInode, "a", 0755, {})).error().code == Errc::kExists);
  CHECK(c.run(c.fs->lookup(kRootInode, "b")).error().code == Errc::kNotFound);
}

TEST_CASE("session: an expired session loses dirty data aloud, and the mount goes on") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto dirty = c.create("dirty"), other = c.open("dirty"), clean = c.create("clean");
  REQUIRE(c.write(dirty, 0, "lost"));
  uint64_t old = c.mds.lastSession;
  c.mds.expire(old);
  REQUIRE(c.run(c.fs->lookup(kRootInode, "clean")));
  CHECK(c.mds.lastSession == old + 1);
  CHECK(c.run(c.fs->fsync(dirty)).error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(dirty)));  // once
  CHECK(c.run(c.fs->fsync(other)).error().code == Errc::kIo);
  CHECK(c.run(c.fs->fsync(clean)));
  // Both inodes are open in the new session, and work.
  CHECK(c.mds.reclaims.back() == std::set<uint64_t>{c.mds.names["dirty"], c.mds.names["clean"]});
  REQUIRE(c.write(dirty, 0, "kept"));
  CHECK(c.run(c.fs->fsync(dirty)));
  CHECK(c.stored("dirty") == "kept");
  bool seen = false;
  c.eachOsd([&](FakeOsd& o) { seen = seen || o.clientSession == old + 1; });
  CHECK(seen);
}

TEST_CASE("session: keepalives go on while nothing happens, and bring the map") {
  FakeCluster c;
  uint64_t beats = 0;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    beats += r.isKeepalive();
    return Fault::kNone;
  };
  c.world.run(10s);
  CHECK(beats >= 18);  // a quarter of the lease of 2 s
  CHECK(beats <= 21);
}

TEST_CASE("session: a mount fails within its patience when nobody answers, with the reason") {
  FakeCluster c(1, {}, false);
  c.options.mds = {{"nowhere", 1}};
  auto before = c.world.now();
  auto mounted = c.run(Filesystem::mount(c.env, c.options, {}));
  REQUIRE_FALSE(mounted);
  CHECK(mounted.error().code == Errc::kUnavailable);
  CHECK(mounted.error().message.find("nowhere:1") != std::string::npos);
  CHECK(c.world.now() - before < 15s);
}

TEST_CASE("session: of several addresses the one that answers is used") {
  FakeCluster c(1, {}, false);
  c.options.mds = {{"nowhere", 1}, {"mds", 6000}};
  auto mounted = c.run(Filesystem::mount(c.env, c.options, {}));
  REQUIRE(mounted);
  CHECK(c.run((*mounted)->unmount()));
  CHECK(c.count("mds session closed") == 1);
}

TEST_CASE("session: with a request timeout operations fail rather than wait for ever") {
  FakeCluster c(1, {.mds = {}, .requestTimeout = 2s});
  c.mds.fault = [](schema::MdsRequest::Reader) { return Fault::kRefuse; };
  auto before = c.world.now();
  CHECK(c.run(c.fs->lookup(kRootInode, "a")).error().code == Errc::kIo);
  CHECK(c.world.now() - before < 4s);
}

TEST_CASE("session: abandoning ends operations that wait") {
  FakeCluster c;
  c.mds.fault = [](schema::MdsRequest::Reader) { return Fault::kRefuse; };
  std::optional<Result<Attr>> got;
  struct Runner {
    static Task<void> lookup(Filesystem& fs, std::optional<Result<Attr>>& out) {
      out = co_await fs.lookup(kRootInode, "a");
    }
  };
  c.spawn(Runner::lookup(*c.fs, got));
  c.world.run(5s);
  CHECK_FALSE(got);
  c.run(c.fs->abandon());
  REQUIRE(got);
  CHECK(got->error().code == Errc::kCanceled);
  CHECK(c.run(c.fs->lookup(kRootInode, "a")).error().code == Errc::kCanceled);
}
