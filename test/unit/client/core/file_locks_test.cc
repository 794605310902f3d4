// File locks as a mount keeps them, against an MDS that answers what a test says.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>

#include "common/reactor/pulse.h"
#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

using Outcome = schema::LockReply::Outcome;
using Asked = FakeMds::AskedLock;
constexpr uint64_t kOwner = 11, kOther = 12;

LockRequest range(LockType type, uint64_t start = 0, uint64_t end = kLastLockByte,
                  uint64_t owner = kOwner) {
  return {LockSpace::kRange, owner, {start, end, type, 42}};
}
LockRequest whole(LockType type) {
  return {LockSpace::kFlock, kOwner, {0, kLastLockByte, type, 42}};
}
constexpr auto kUnlock = LockType::kNone, kRead = LockType::kRead, kWrite = LockType::kWrite;

// "flock 11 w0-", "range 11 r5-9": sorted, last bytes left out.
std::string show(const std::vector<Asked>& locks) {
  std::string out;
  for (const Asked& l : locks) {
    if (!out.empty()) out += ", ";
    out += l.space == schema::LockSpace::FLOCK ? "flock " : "range ";
    out += std::to_string(l.owner) + " " + "-rw"[static_cast<int>(l.type)];
    out += std::to_string(l.start) + "-";
    if (l.end != kLastLockByte) out += std::to_string(l.end);
  }
  return out;
}

struct Locker {
  FakeCluster c;
  std::shared_ptr<Handle> h = c.create("f");
  InodeId ino{c.mds.names.at("f")};

  Errc lock(const LockRequest& what) { return lock(h, what); }
  Errc lock(const std::shared_ptr<Handle>& handle, const LockRequest& what) {
    auto r = c.run(c.fs->lock(handle, what, nullptr));
    return r ? Errc::kOk : r.error().code;
  }
  // One that waits.
  struct Waiting {
    std::shared_ptr<LockWait> wait;
    std::optional<Errc> result;
  };
  std::shared_ptr<Waiting> start(const LockRequest& what, bool patient = true) {
    auto w = std::make_shared<Waiting>();
    w->wait = std::make_shared<LockWait>(c.env.reactor, patient);
    c.spawn(waitFor(*c.fs, h, what, w));
    return w;
  }
  static Task<void> waitFor(Filesystem& fs, std::shared_ptr<Handle> h, LockRequest what,
                            std::shared_ptr<Waiting> w) {
    auto r = co_await fs.lock(h, what, w->wait);
    w->result = r ? Errc::kOk : r.error().code;
  }
  bool ends(const std::shared_ptr<Waiting>& w, Duration limit = 5s) {
    return c.world.runUntil([&] { return w->result.has_value(); }, limit);
  }
  // The connection breaks, and another is there.
  void reconnect() {
    bool once = true;
    c.mds.fault = [&](schema::MdsRequest::Reader) {
      return std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
    };
    REQUIRE(c.run(c.fs->lookup(kRootInode, "f")));
    c.mds.fault = nullptr;
  }
  std::string reclaimed() {
    reconnect();
    return show(c.mds.reclaimedLocks);
  }
};

}  // namespace

TEST_CASE("locks: what is granted is reclaimed, piece by piece, and nothing else is") {
  Locker l;
  CHECK(l.reclaimed().empty());
  CHECK(l.lock(range(kWrite, 0, 99)) == Errc::kOk);
  CHECK(l.lock(range(kRead, 10, 19)) == Errc::kOk);
  CHECK(l.lock(range(kRead, 200, 299, kOther)) == Errc::kOk);
  CHECK(l.lock(whole(kWrite)) == Errc::kOk);
  l.c.mds.onLock = [](const Asked&) { return Outcome::CONFLICT; };
  CHECK(l.lock(range(kWrite)) == Errc::kWouldBlock);
  l.c.mds.onLock = [](const Asked&) { return Outcome::DEADLOCK; };
  auto w = l.start(range(kWrite));
  REQUIRE(l.ends(w));
  CHECK(w->result == Errc::kDeadlock);
  CHECK(l.reclaimed() ==
        "flock 11 w0-, range 11 w0-9, range 11 r10-19, range 11 w20-99, range 12 r200-299");
  l.c.mds.onLock = nullptr;
  CHECK(l.lock(range(kUnlock, 5, 50)) == Errc::kOk);
  CHECK(l.lock(whole(kUnlock)) == Errc::kOk);
  CHECK(l.reclaimed() == "range 11 w0-4, range 11 w51-99, range 12 r200-299");
}

TEST_CASE("locks: a flock that is not converted is lost") {
  Locker l;
  CHECK(l.lock(whole(kRead)) == Errc::kOk);
  l.c.mds.onLock = [](const Asked&) { return Outcome::CONFLICT; };
  CHECK(l.lock(whole(kWrite)) == Errc::kWouldBlock);
  CHECK(l.reclaimed().empty());
}

TEST_CASE("locks: a close ends the closer's ranges, a release what was locked through the handle") {
  Locker l;
  auto g = l.c.open("f");
  CHECK(l.lock(range(kRead, 0, 9)) == Errc::kOk);
  CHECK(l.lock(g, range(kRead, 20, 29, kOther)) == Errc::kOk);
  CHECK(l.lock(g, whole(kWrite)) == Errc::kOk);
  l.c.mds.asked.clear();
  l.c.run(l.c.fs->unlockRanges(g, kOwner));  // any handle of the inode
  CHECK(show(l.c.mds.asked) == "range 11 -0-");
  CHECK(l.reclaimed() == "flock 11 w0-, range 12 r20-29");
  l.c.mds.asked.clear();
  l.c.run(l.c.fs->unlockRanges(g, kOwner));
  CHECK(l.lock(range(kUnlock, 0, 9)) == Errc::kOk);
  l.c.run(l.c.fs->release(std::exchange(l.h, nullptr)));
  CHECK(l.c.mds.asked.empty());  // nothing is there, and nobody is asked
  l.c.run(l.c.fs->release(std::exchange(g, nullptr)));
  CHECK(show(l.c.mds.asked) == "flock 11 -0-, range 12 -0-");
}

TEST_CASE("locks: a probe is answered when what closed files held is unlocked") {
  Locker l;
  auto probed = [&](uint64_t serial) {
    l.c.mds.probeLocks("f", serial);
    return l.c.world.runUntil([&] { return std::ranges::count(l.c.mds.probed, serial) == 1; }, 30s);
  };
  CHECK(l.lock(whole(kWrite)) == Errc::kOk);
  CHECK(l.lock(range(kWrite)) == Errc::kOk);
  l.c.mds.asked.clear();
  REQUIRE(probed(1));
  CHECK(l.c.mds.asked.empty());  // it stands
  l.c.fs->onHearCloses = [&](InodeId ino) -> Task<void> {
    CHECK(ino == l.ino);
    l.c.spawn(l.c.fs->release(std::exchange(l.h, nullptr)));
    co_await yield(l.c.env.reactor);  // the release has begun
  };
  // The first unlock is not answered: it is sent again.
  bool once = true;
  l.c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isLock() && std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
  };
  REQUIRE(probed(2));
  l.c.fs->onHearCloses = {};
  CHECK(show(l.c.mds.asked) == "flock 11 -0-, range 11 -0-");
  CHECK(l.c.mds.askedWhenProbed == 2);
  // What is to be unlocked on other files is not waited for.
  l.h = l.c.open("f");
  auto g = l.c.create("g");
  CHECK(l.lock(g, whole(kWrite)) == Errc::kOk);
  l.c.mds.fault = [](schema::MdsRequest::Reader r) {
    return r.isLock() ? Fault::kRefuse : Fault::kNone;
  };
  l.c.spawn(l.c.fs->release(std::exchange(g, nullptr)));
  REQUIRE(probed(3));
  l.c.mds.fault = nullptr;
}

TEST_CASE("locks: the number of a closed file comes again before its release") {
  Locker l;
  CHECK(l.lock(whole(kWrite)) == Errc::kOk);
  CHECK(l.lock(range(kRead, 0, 9)) == Errc::kOk);
  auto next = l.c.open("f");
  l.c.mds.asked.clear();
  size_t heard = 0;
  l.c.fs->onHearCloses = [&](InodeId) -> Task<void> {
    ++heard;
    if (l.h) l.c.spawn(l.c.fs->release(std::exchange(l.h, nullptr)));
    co_await yield(l.c.env.reactor);  // the release has begun
  };
  CHECK(l.lock(next, range(kRead, 20, 29)) == Errc::kOk);
  CHECK(l.lock(next, whole(kWrite)) == Errc::kOk);
  CHECK(heard == 1);
  CHECK(show(l.c.mds.asked) == "flock 11 -0-, range 11 -0-, range 11 r20-29, flock 11 w0-");
  CHECK(l.reclaimed() == "flock 11 w0-, range 11 r20-29");
  l.c.fs->onHearCloses = {};
}

TEST_CASE("locks: a wait ends with its grant") {
  Locker l;
  l.c.mds.onLock = [](const Asked&) { return Outcome::WAITING; };
  auto w = l.start(range(kWrite, 0, 9));
  CHECK_FALSE(l.ends(w, 1h));
  l.c.mds.grantLock(l.c.mds.asked.at(0).id + 1);  // another's
  CHECK_FALSE(l.ends(w, 1s));
  CHECK(l.reclaimed().empty());
  REQUIRE(l.c.mds.asked.size() == 2);
  CHECK(l.c.mds.asked[1].id != l.c.mds.asked[0].id);
  l.c.mds.grantLock(l.c.mds.asked[0].id);  // of the connection that broke
  CHECK_FALSE(l.ends(w, 1s));
  l.c.mds.grantLock(l.c.mds.asked[1].id);
  REQUIRE(l.ends(w, 100ms));
  CHECK(w->result == Errc::kOk);
  CHECK(l.reclaimed() == "range 11 w0-9");
}

TEST_CASE("locks: a grant on the heels of the answer, or before it was processed") {
  Locker l;
  l.c.mds.onLock = [&](const Asked& a) {
    l.c.spawn([](FakeCluster& c, uint64_t id) -> Task<void> {
      co_await sleepFor(c.env.reactor, 1us);
      c.mds.grantLock(id);
    }(l.c, a.id));
    return Outcome::WAITING;
  };
  auto w = l.start(range(kWrite));
  REQUIRE(l.ends(w, 1s));
  CHECK(w->result == Errc::kOk);
}

TEST_CASE("locks: what an owner's threads do is taken over in the order in which it was done") {
  Locker l;
  uint64_t waits = 0;
  l.c.mds.onLock = [&](const Asked& a) {
    if (a.id != 0) {
      waits = a.id;
      return Outcome::WAITING;
    }
    // The grant was made before this, and goes out before the answer to this.
    l.c.mds.grantLock(waits);
    return Outcome::GRANTED;
  };
  auto w = l.start(range(kWrite, 0, 9));
  REQUIRE(l.c.world.runUntil([&] { return waits != 0; }, 1s));
  CHECK(l.lock(range(kRead, 5, 5)) == Errc::kOk);
  REQUIRE(l.ends(w));
  l.c.mds.onLock = nullptr;
  CHECK(l.reclaimed() == "range 11 w0-4, range 11 r5-5, range 11 w6-9");
}

TEST_CASE("locks: an interrupted wait is canceled, and granted if the grant came first") {
  Locker l;
  l.c.mds.onLock = [](const Asked&) { return Outcome::WAITING; };
  auto w = l.start(range(kWrite));
  CHECK_FALSE(l.ends(w, 1s));
  w->wait->interrupt();
  REQUIRE(l.ends(w, 100ms));
  CHECK(w->result == Errc::kInterrupted);
  CHECK(l.c.mds.canceled == std::vector<uint64_t>{l.c.mds.asked[0].id});
  l.c.mds.onCancel = [&](uint64_t id) { l.c.mds.grantLock(id); };
  auto v = l.start(range(kWrite, 3, 3));
  CHECK_FALSE(l.ends(v, 1s));
  v->wait->interrupt();
  REQUIRE(l.ends(v, 100ms));
  CHECK(v->result == Errc::kOk);
  CHECK(l.reclaimed() == "range 11 w3-3");
}

TEST_CASE("locks: a wait can be interrupted while there is no MDS") {
  Locker l;
  l.c.mds.onLock = [](const Asked&) { return Outcome::WAITING; };
  auto w = l.start(range(kWrite));
  CHECK_FALSE(l.ends(w, 1s));
  bool away = true;
  l.c.mds.fault = [&](schema::MdsRequest::Reader) {
    return away ? Fault::kDropBefore : Fault::kNone;
  };
  w->wait->interrupt();
  REQUIRE(l.ends(w, 1s));
  CHECK(w->result == Errc::kInterrupted);
  // One that was never answered.
  auto v = l.start(range(kWrite));
  CHECK_FALSE(l.ends(v, 3s));
  v->wait->interrupt();
  REQUIRE(l.ends(v, 2s));
  CHECK(v->result == Errc::kInterrupted);
  away = false;
  CHECK(l.reclaimed().empty());
}

TEST_CASE("locks: a request that does not wait can be given up while there is no MDS") {
  Locker l;
  bool away = true;
  l.c.mds.fault = [&](schema::MdsRequest::Reader) {
    return away ? Fault::kDropBefore : Fault::kNone;
  };
  auto w = l.start(range(kWrite), false);
  CHECK_FALSE(l.ends(w, 3s));
  w->wait->interrupt();
  REQUIRE(l.ends(w, 2s));
  CHECK(w->result == Errc::kInterrupted);
  away = false;
  CHECK(l.reclaimed().empty());
  CHECK(l.c.mds.asked.empty());
  // It does not wait.
  l.c.mds.onLock = [](const Asked& a) { return a.id != 0 ? Outcome::WAITING : Outcome::CONFLICT; };
  w = l.start(range(kWrite), false);
  REQUIRE(l.ends(w, 1s));
  CHECK(w->result == Errc::kWouldBlock);
}

TEST_CASE("locks: what is granted to somebody who is gone is unlocked, and no probe waits for it") {
  Locker l;
  CHECK(l.lock(range(kWrite, 0, 9)) == Errc::kOk);
  CHECK(l.lock(range(kWrite, 0, 9, kOther)) == Errc::kOk);
  l.c.mds.asked.clear();
  l.c.mds.delay = 2s;
  auto w = l.start(range(kWrite, 20, 29), false);
  auto v = l.start(range(kWrite, 30, 39, kOther), false);
  CHECK_FALSE(l.ends(w, 100ms));
  l.c.mds.delay = {};
  w->wait->interrupt();
  v->wait->interrupt();
  // One closes it, the other one's descriptor was the last.
  l.c.run(l.c.fs->unlockRanges(l.h, kOther));
  l.c.spawn(l.c.fs->release(std::exchange(l.h, nullptr)));
  l.c.mds.probeLocks("f", 1);
  REQUIRE(l.c.world.runUntil([&] { return !l.c.mds.probed.empty(); }, 1s));
  CHECK_FALSE(w->result.has_value());
  CHECK(l.c.mds.askedWhenProbed >= 2);
  CHECK(std::ranges::count_if(l.c.mds.asked, [](auto& a) { return a.gone; }) >= 2);
  REQUIRE(l.ends(w));
  REQUIRE(l.ends(v));
  REQUIRE(l.c.world.runUntil([&] { return l.c.mds.asked.size() == 7; }, 5s));
  std::string all = show(l.c.mds.asked);
  CHECK_MESSAGE(all.ends_with("range 11 -0-, range 12 -0-"), all);
  CHECK(l.reclaimed().empty());
}

TEST_CASE("locks: an unlock that nobody waits for is done, and before the owner's next request") {
  Locker l;
  CHECK(l.lock(range(kWrite, 0, 9)) == Errc::kOk);
  CHECK(l.lock(whole(kWrite)) == Errc::kOk);
  l.c.mds.asked.clear();
  bool refuses = true;  // unlocks; everything else would overtake them
  l.c.mds.fault = [&](schema::MdsRequest::Reader r) {
    const bool unlock = r.isLock() && r.getLock().getLock().getType() == schema::LockType::NONE;
    return refuses && unlock ? Fault::kRefuse : Fault::kNone;
  };
  auto ranges = l.start(range(kUnlock, 0, 9), false);
  auto flock = l.start(whole(kUnlock), false);
  CHECK_FALSE(l.ends(ranges, 1s));
  ranges->wait->interrupt();
  flock->wait->interrupt();
  auto again = l.start(range(kRead, 0, 4), false);
  auto other = l.start(range(kRead, 20, 29, kOther), false);
  REQUIRE(l.ends(other, 1s));
  CHECK_FALSE(l.ends(again, 10s));
  CHECK_FALSE(l.ends(ranges, 1s));
  CHECK(show(l.c.mds.asked) == "range 12 r20-29");
  refuses = false;
  REQUIRE(l.ends(again));
  REQUIRE(l.ends(flock));
  CHECK(again->result == Errc::kOk);
  CHECK(ranges->result == Errc::kOk);
  CHECK(l.reclaimed() == "range 11 r0-4, range 12 r20-29");
}

TEST_CASE("locks: of what is unanswered the reclaim lists the weaker, and the rest is got back") {
  Locker l;
  CHECK(l.lock(range(kWrite, 0, 9)) == Errc::kOk);
  CHECK(l.lock(range(kRead, 20, 29)) == Errc::kOk);
  std::string seen;
  bool once = true;
  l.c.mds.fault = [&](schema::MdsRequest::Reader r) {
    if (r.isReclaim()) return Fault::kNone;
    return r.isLock() && std::exchange(once, false) ? Fault::kDropAfter : Fault::kNone;
  };
  size_t number = 0;
  l.c.mds.onLock = [&](const Asked&) {
    if (number++ == 0) return Outcome::GRANTED;  // the answer is lost
    if (number == 2) seen = show(l.c.mds.reclaimedLocks);
    return number == 2 ? Outcome::CONFLICT : Outcome::GRANTED;
  };
  // Reading where it writes, over what it does not have.
  CHECK(l.lock(range(kRead, 5, 25)) == Errc::kWouldBlock);
  CHECK(seen == "range 11 w0-4, range 11 r5-9, range 11 r20-29");
  REQUIRE(l.c.mds.asked.size() == 5);
  CHECK(show({l.c.mds.asked[4]}) == "range 11 w5-9");
  CHECK(l.reclaimed() == "range 11 w0-9, range 11 r20-29");

  // Somebody else has it by now: the handle is of no use any more.
  once = true;
  number = 0;
  l.c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isLock() && std::exchange(once, false) ? Fault::kDropAfter : Fault::kNone;
  };
  l.c.mds.onLock = [&](const Asked&) { return Outcome::CONFLICT; };
  CHECK(l.lock(range(kRead, 5, 25)) == Errc::kIo);
  CHECK(l.c.write(l.h, 0, "x").error().code == Errc::kIo);
}

TEST_CASE("locks: an unlock that is unanswered is not reclaimed") {
  Locker l;
  CHECK(l.lock(range(kWrite, 0, 9)) == Errc::kOk);
  std::vector<std::string> seen;
  bool once = true;
  l.c.mds.fault = [&](schema::MdsRequest::Reader r) {
    return r.isLock() && std::exchange(once, false) ? Fault::kDropBefore : Fault::kNone;
  };
  l.c.mds.onLock = [&](const Asked&) {
    seen.push_back(show(l.c.mds.reclaimedLocks));
    return Outcome::GRANTED;
  };
  CHECK(l.lock(range(kUnlock, 4, 5)) == Errc::kOk);
  CHECK(seen == std::vector<std::string>{"range 11 w0-3, range 11 w6-9"});
  CHECK(l.reclaimed() == "range 11 w0-3, range 11 w6-9");
}

TEST_CASE("locks: those of a session that expired are lost, and the handles know it") {
  Locker l;
  auto other = l.c.open("f");
  CHECK(l.lock(range(kWrite, 0, 9)) == Errc::kOk);
  l.c.mds.onLock = [](const Asked& a) { return a.id != 0 ? Outcome::WAITING : Outcome::GRANTED; };
  auto w = l.start(range(kWrite, 50, 59));
  CHECK_FALSE(l.ends(w, 1s));
  l.c.mds.expire(l.c.mds.lastSession);
  REQUIRE(l.ends(w, 5s));
  CHECK(w->result == Errc::kIo);
  CHECK(l.lock(range(kWrite)) == Errc::kIo);
  CHECK(l.lock(range(kUnlock)) == Errc::kIo);
  CHECK(l.c.run(l.c.fs->testLock(l.h, range(kRead))).error().code == Errc::kIo);
  CHECK(l.c.write(l.h, 0, "x").error().code == Errc::kIo);
  CHECK(l.c.run(l.c.fs->read(l.h, 0, 10)).error().code == Errc::kIo);
  CHECK(l.c.run(l.c.fs->fallocate(l.h, 0, 0, 10)).error().code == Errc::kIo);
  // Those through which nothing was locked are as they were.
  CHECK(l.c.write(other, 0, "x"));
  CHECK(l.lock(other, range(kWrite, 0, 9, kOther)) == Errc::kOk);
  l.c.run(l.c.fs->release(std::exchange(l.h, nullptr)));
  CHECK(l.reclaimed() == "range 12 w0-9");
}

TEST_CASE("locks: a write that waits for its lease is not done when the locks are lost meanwhile") {
  Locker l;
  CHECK(l.lock(range(kWrite)) == Errc::kOk);
  l.c.mds.recall("f");
  REQUIRE(l.c.world.runUntil([&] { return !l.c.mds.leases.contains(l.ino.value); }, 5s));
  l.c.mds.expire(l.c.mds.lastSession);
  CHECK(l.c.write(l.h, 0, "late").error().code == Errc::kIo);
  CHECK(l.c.mds.file("f").size == 0);
}

TEST_CASE("locks: the end of the mount ends a wait") {
  Locker l;
  l.c.mds.onLock = [](const Asked&) { return Outcome::WAITING; };
  auto w = l.start(range(kWrite));
  CHECK_FALSE(l.ends(w, 1s));
  l.c.run(l.c.fs->abandon());
  REQUIRE(w->result.has_value());
  CHECK(w->result != Errc::kOk);
}
