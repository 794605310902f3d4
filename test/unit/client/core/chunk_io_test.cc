// In whose name data requests go out, and what becomes of them when that session is over.
#include "client/core/chunk_io.h"

#include <fcntl.h>

#include <doctest/doctest.h>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

// Counts what the OSDs are asked, by session, and refuses the one that is fenced.
struct Watch {
  explicit Watch(FakeCluster& c) {
    c.eachOsd([this](FakeOsd& o) {
      o.refuse = [this](schema::OsdRequest::Reader r) {
        ++(r.isWrite() ? writes : others)[r.getSession()];
        return fenced != 0 && r.getSession() == fenced ? Errc::kSessionExpired : Errc::kOk;
      };
    });
  }
  std::map<uint64_t, size_t> writes, others;
  uint64_t fenced = 0;
};

}  // namespace

TEST_CASE("chunk io: every data request names the session") {
  FakeCluster c;
  Watch watch(c);
  auto h = c.create("f", O_RDWR | O_DIRECT);
  REQUIRE(c.write(h, 0, pattern(4096, 1)));
  CHECK(c.read(h, 0, 4096) == pattern(4096, 1));
  CHECK(watch.writes == std::map<uint64_t, size_t>{{c.mds.lastSession, 1}});
  CHECK(watch.others == std::map<uint64_t, size_t>{{c.mds.lastSession, 1}});
}

TEST_CASE("chunk io: a write of an expired session is not sent in the next one") {
  FakeCluster c;
  Watch watch(c);
  auto h = c.create("f"), other = c.create("other");
  const uint64_t old = c.mds.lastSession;
  REQUIRE(c.write(h, 0, pattern(3 * kMiB, 1)));
  c.holdWrites();
  c.world.run(1s);
  const size_t sent = watch.writes[old];
  REQUIRE(sent != 0);
  c.mds.expire(old);
  REQUIRE(c.run(c.fs->lookup(kRootInode, "other")));
  REQUIRE(c.mds.lastSession == old + 1);
  c.letWrites();
  CHECK_FALSE(c.run(c.fs->fsync(h)));
  c.world.run(5s);
  CHECK(watch.writes == std::map<uint64_t, size_t>{{old, sent}});
  // Told once, and on it goes.
  CHECK(c.run(c.fs->fsync(h)));
  REQUIRE(c.write(h, 0, "kept"));
  CHECK(c.run(c.fs->fsync(h)));
  CHECK(watch.writes == std::map<uint64_t, size_t>{{old, sent}, {old + 1, 1}});
}

TEST_CASE("chunk io: who learns from an OSD that its session is fenced asks the MDS at once") {
  FakeCluster c;
  Watch watch(c);
  auto h = c.create("f", O_RDWR | O_DIRECT);
  REQUIRE(c.write(h, 0, pattern(4096, 1)));
  const uint64_t old = c.mds.lastSession;
  c.mds.expire(old);
  watch.fenced = old;
  watch.writes.clear();
  const TimePoint before = c.world.now();
  SUBCASE("a write is lost with the session, and not repeated") {
    CHECK_FALSE(c.write(h, 0, pattern(4096, 2)));
    CHECK(watch.writes == std::map<uint64_t, size_t>{{old, 1}});
    CHECK(c.mds.lastSession == old + 1);
    CHECK(c.read(h, 0, 4096) == pattern(4096, 1));
  }
  SUBCASE("a read goes on in the next session") {
    CHECK(c.read(h, 0, 4096) == pattern(4096, 1));
    CHECK(c.mds.lastSession == old + 1);
  }
  CHECK(c.world.now() - before < 1s);
  REQUIRE(c.write(h, 0, pattern(4096, 3)));
  CHECK(c.read(h, 0, 4096) == pattern(4096, 3));
}
