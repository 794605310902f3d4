// Times of last access as a mount keeps them: what it shows at once, and what it tells the MDS
// when.
#include "client/core/access_times.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

constexpr auto kNever = AccessPolicy::When::kNever, kAlways = AccessPolicy::When::kAlways;

// A file whose data is stored and committed.
std::shared_ptr<Handle> stored(FakeCluster& c, const std::string& name) {
  auto h = c.create(name);
  REQUIRE(c.write(h, 0, "some data"));
  REQUIRE(c.run(c.fs->fsync(h)));
  c.world.run(10ms);
  return h;
}

int64_t shown(FakeCluster& c, const std::string& name) {
  auto attr = c.run(c.fs->getattr(inoOf(c, name)));
  REQUIRE(attr);
  return attr->atimeNs;
}

int64_t now(FakeCluster& c) {
  return c.env.reactor.wallNow();
}

bool told(FakeCluster& c, uint64_t times) {
  return c.world.runUntil([&] { return c.mds.executed["accessed"] == times; }, 5s);
}

Result<Attr> setAtime(FakeCluster& c, const std::string& name, int64_t ns) {
  AttrChange change;
  change.atime = AttrChange::Time{false, ns};
  return c.run(c.fs->setattr(inoOf(c, name), change));
}

}  // namespace

TEST_CASE("access times: shown at once, told soon, all in one message; then only if due again") {
  FakeCluster c;
  std::map<std::string, int64_t> at;
  std::map<std::string, std::shared_ptr<Handle>> handles;
  for (const char* name : {"a", "b", "c"}) handles[name] = stored(c, name);
  for (auto& [name, h] : handles) {
    const int64_t before = now(c);
    CHECK(c.read(h, 0, 100) == "some data");
    at[name] = shown(c, name);
    CHECK(at[name] >= before);
    CHECK(at[name] <= now(c));
  }
  CHECK(c.mds.executed["accessed"] == 0);
  REQUIRE(told(c, 1));
  CHECK(c.count("mds accessed 3") == 1);
  size_t asked = 0;
  c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (r.isGetattr()) ++asked;
    return Fault::kNone;
  };
  c.world.run(10ms);
  for (auto& [name, h] : handles) {
    CHECK(c.mds.file(name).atimeNs == at[name]);
    CHECK(shown(c, name) == at[name]);
    CHECK(c.read(h, 0, 100) == "some data");
    CHECK(shown(c, name) == at[name]);
  }
  CHECK(asked == 0);  // what was told is known
  c.world.run(5s);
  CHECK(c.mds.executed["accessed"] == 1);
  REQUIRE(c.write(handles["a"], 0, "more"));
  REQUIRE(c.run(c.fs->fsync(handles["a"])));
  CHECK(c.read(handles["a"], 0, 4) == "more");
  CHECK(shown(c, "a") > at["a"]);
  REQUIRE(told(c, 2));
}

TEST_CASE("access times: noatime and O_NOATIME record nothing, strictatime every read") {
  FakeCluster c;
  auto h = stored(c, "f");
  const int64_t before = shown(c, "f");
  c.fs->recordAccesses({.when = kNever});
  CHECK(c.read(h, 0, 100) == "some data");
  c.fs->recordAccesses({});
  REQUIRE(c.run(c.fs->read(h, 0, 100, {.intoPages = false, .quiet = true})));
  c.world.run(3s);
  CHECK(shown(c, "f") == before);
  CHECK(c.mds.executed["accessed"] == 0);
  c.fs->recordAccesses({.when = kAlways});
  for (uint64_t i = 1; i <= 3; ++i) {
    CHECK(c.read(h, 0, 100) == "some data");
    REQUIRE(told(c, i));
    c.world.run(10ms);
    CHECK(c.mds.file("f").atimeNs == shown(c, "f"));
    CHECK(shown(c, "f") > now(c) - 2'000'000'000);
  }
}

TEST_CASE("access times: of symbolic links, by the times that come with the target") {
  FakeCluster c;
  REQUIRE(c.run(c.fs->symlink(kRootInode, "l", "target", {})));
  const int64_t before = now(c);
  c.world.run(10ms);
  CHECK(*c.run(c.fs->readlink(inoOf(c, "l"))) == "target");
  const int64_t first = shown(c, "l");
  CHECK(first > before);
  c.world.run(10ms);
  CHECK(c.run(c.fs->readlink(inoOf(c, "l"))));
  CHECK(shown(c, "l") == first);  // also before the MDS has heard of it
  REQUIRE(told(c, 1));
  c.world.run(10ms);
  CHECK(c.mds.file("l").atimeNs == first);
  CHECK(c.run(c.fs->readlink(inoOf(c, "l"))));
  c.world.run(3s);
  CHECK(c.mds.executed["accessed"] == 1);
  CHECK(shown(c, "l") == first);
}

TEST_CASE("access times: a time that is set after the read wins") {
  FakeCluster c;
  auto h = stored(c, "f");
  SUBCASE("before the MDS has heard of the read") {
    CHECK(c.read(h, 0, 100) == "some data");
    CHECK(setAtime(c, "f", 5)->atimeNs == 5);
  }
  SUBCASE("while it is on its way, over connections that break") {
    int drops = 3;
    bool sent = false;
    c.mds.fault = [&](schema::MdsRequest::Reader r) {
      if (!r.isMutate() || !r.getMutate().isAccessed()) return Fault::kNone;
      sent = true;
      return drops-- > 0 ? Fault::kDropBefore : Fault::kNone;
    };
    CHECK(c.read(h, 0, 100) == "some data");
    REQUIRE(c.world.runUntil([&] { return sent; }, 5s));
    CHECK(setAtime(c, "f", 5)->atimeNs == 5);
    CHECK(c.mds.executed["accessed"] == 1);
  }
  CHECK(shown(c, "f") == 5);
  c.world.run(5s);
  CHECK(shown(c, "f") == 5);
  CHECK(c.mds.file("f").atimeNs == 5);
  CHECK(c.read(h, 0, 100) == "some data");  // and a read after that counts again
  CHECK(shown(c, "f") > 5);
}

TEST_CASE("access times: a lease that is recalled goes back behind the access") {
  FakeCluster c;
  auto f = stored(c, "f"), g = stored(c, "g");
  CHECK(c.read(f, 0, 100) == "some data");
  CHECK(c.read(g, 0, 100) == "some data");
  const int64_t at = shown(c, "f");
  c.mds.recall("f");
  REQUIRE(c.world.runUntil([&] { return c.mds.leaseReturns == 1; }, 500ms));
  CHECK(c.indexOf("mds accessed") < c.indexOf("mds leases back"));
  CHECK(c.mds.file("f").atimeNs == at);
  c.world.run(3s);
  CHECK(c.mds.executed["accessed"] <= 2);
  CHECK(c.mds.file("g").atimeNs > c.mds.file("g").mtimeNs);
}

TEST_CASE("access times: one of what this mount has written waits until the MDS knows of that") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto h = stored(c, "f");
  c.world.run(10ms);
  REQUIRE(c.write(h, 0, "more"));
  c.world.run(10ms);
  CHECK(c.read(h, 0, 4) == "more");
  const int64_t at = shown(c, "f");
  c.world.run(10s);
  CHECK(c.mds.executed["accessed"] == 0);
  CHECK(shown(c, "f") == at);
  REQUIRE(c.run(c.fs->fsync(h)));
  REQUIRE(told(c, 1));
  CHECK(c.mds.file("f").atimeNs == at);
  CHECK(c.mds.file("f").mtimeNs < at);
}

TEST_CASE("access times: an unmount tells what is left, and waits little for an MDS that is away") {
  FakeCluster c;
  auto h = stored(c, "f");
  CHECK(c.read(h, 0, 100) == "some data");
  const int64_t at = shown(c, "f");
  SUBCASE("there") {
    h.reset();
    c.remount();
    CHECK(c.mds.executed["accessed"] == 1);
    CHECK(shown(c, "f") == at);
  }
  SUBCASE("away") {
    c.mds.fault = [](schema::MdsRequest::Reader) { return Fault::kRefuse; };
    h.reset();
    const TimePoint start = c.env.reactor.now();
    CHECK(c.run(c.fs->unmount()));
    CHECK(c.env.reactor.now() - start < 10s);
    c.fs.reset();
  }
}

TEST_CASE("access times: they go with the session, and nobody is told") {
  FakeCluster c;
  auto h = stored(c, "f");
  const int64_t before = shown(c, "f");
  CHECK(c.read(h, 0, 100) == "some data");
  c.mds.expire(c.mds.lastSession);
  REQUIRE(c.run(c.fs->lookup(kRootInode, "f")));
  CHECK(shown(c, "f") == before);
  c.world.run(3s);
  CHECK(c.mds.executed["accessed"] == 0);
  CHECK(c.run(c.fs->fsync(h)));
}

TEST_CASE("access times: what others have read is asked for again, and our own access is not due") {
  FakeCluster c;
  auto h = stored(c, "f");
  CHECK(c.read(h, 0, 100) == "some data");
  const int64_t theirs = shown(c, "f") - 1;
  c.mds.readByOther("f", theirs);
  c.world.run(10ms);
  CHECK(shown(c, "f") == theirs);
  c.world.run(3s);
  CHECK(c.mds.executed["accessed"] == 0);
  CHECK(c.mds.leaseReturns == 0);
}

TEST_CASE("access times: what the MDS did not take over is not shown any longer") {
  FakeCluster c;
  auto h = stored(c, "f");
  CHECK(c.read(h, 0, 100) == "some data");
  const int64_t theirs = shown(c, "f") + 1;
  c.mds.file("f").atimeNs = theirs;  // the push was lost with a connection
  REQUIRE(told(c, 1));
  c.world.run(10ms);
  CHECK(shown(c, "f") == theirs);
}

TEST_CASE("access times: after a reconnect nothing of them is believed") {
  FakeCluster c;
  auto h = stored(c, "f");
  c.mds.file("f").atimeNs = now(c);
  CHECK(shown(c, "f") < c.mds.file("f").atimeNs);
  bool once = true;
  c.mds.fault = [&](schema::MdsRequest::Reader) {
    return std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
  };
  REQUIRE(c.run(c.fs->mkdir(kRootInode, "d", 0755, {})));
  CHECK(shown(c, "f") == c.mds.file("f").atimeNs);
}
