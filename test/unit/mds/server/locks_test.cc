// File locks as sessions see them: grants and their order, reclaims, restarts, and what becomes of
// those who are silent.
#include <doctest/doctest.h>

#include <algorithm>

#include "common/locks/lock_ranges.h"
#include "test/unit/mds/server/lease_client.h"

namespace cairn::mds::test {
namespace {

using Outcome = schema::LockReply::Outcome;
constexpr auto kUnlock = schema::LockType::NONE, kRead = schema::LockType::READ,
               kWrite = schema::LockType::WRITE;

// Reclaims what it believes to hold: the test says what that is.
class LockClient : public LeaseClient {
 public:
  using LeaseClient::LeaseClient;
  struct Lock {
    uint64_t ino;
    schema::LockType type;
    uint64_t start, end;
  };
  std::vector<Lock> locks;
  // The serials of the probes that came, and of those that are still to be answered.
  std::vector<uint64_t> probes, unanswered;
  bool answersProbes = true;
  std::function<void()> beforeProbed;  // runs before a probe is answered
  void answerProbe(InodeId ino) {
    const uint64_t serial = unanswered.front();
    unanswered.erase(unanswered.begin());
    node.spawn(sayProbed(ino.value, serial));
  }
  // Pushes, and answers to lock and lockCancel, in the order in which they came.
  std::vector<std::string> heard;

  static void fill(schema::FileLock::Builder out, const Lock& lock) {
    out.setIno(lock.ino);
    out.setOwner(1);
    out.setSpace(schema::LockSpace::RANGE);
    out.setType(lock.type);
    out.setStart(lock.start);
    out.setEnd(lock.end);
    out.setPid(42);
  }
  static Fill asking(InodeId ino, schema::LockType type, uint64_t start, uint64_t end,
                     uint64_t wait) {
    return [=](schema::MdsRequest::Builder r) {
      auto lock = r.initLock();
      fill(lock.initLock(), {ino.value, type, start, end});
      lock.setWait(wait != 0);
      lock.setId(wait);
    };
  }
  Got lock(InodeId ino, schema::LockType type, uint64_t start = 0, uint64_t end = kLastLockByte,
           uint64_t wait = 0) {
    return ask(asking(ino, type, start, end, wait));
  }
  Outcome outcome(InodeId ino, schema::LockType type, uint64_t wait = 0) {
    return lock(ino, type, 0, kLastLockByte, wait).reply().getLock().getOutcome();
  }
  Got test(InodeId ino, schema::LockType type) {
    return ask([=](auto r) { fill(r.initLockTest(), {ino.value, type, 0, kLastLockByte}); });
  }
  Got cancel(uint64_t wait) {
    return ask([=](auto r) { r.setLockCancel(wait); });
  }
  [[nodiscard]] bool granted(uint64_t wait) const {
    return std::ranges::count(heard, "granted " + std::to_string(wait)) == 1;
  }

 protected:
  void onLockGranted(schema::LockGrant::Reader grant) override {
    heard.push_back("granted " + std::to_string(grant.getId()));
  }
  void onLockProbe(schema::LockProbe::Reader probe) override {
    probes.push_back(probe.getSerial());
    unanswered.push_back(probe.getSerial());
    if (!answersProbes) return;
    if (beforeProbed) beforeProbed();
    answerProbe(InodeId{probe.getIno()});
  }
  void onAnswer(schema::MdsRequest::Reader request, const Got& got) override {
    LeaseClient::onAnswer(request, got);
    if (request.isLock()) heard.emplace_back("answer");
    if (request.isLockCancel()) heard.emplace_back("canceled");
  }
  void addToReclaim(schema::Reclaim::Builder reclaim) override {
    auto list = reclaim.initLocks(static_cast<uint32_t>(locks.size()));
    for (uint32_t i = 0; i < list.size(); ++i) fill(list[i], locks[i]);
  }

 private:
  Task<void> sayProbed(uint64_t ino, uint64_t serial) {
    OutMessage m;
    auto r = m.body<schema::MdsRequest>();
    r.setSession(session);
    auto probed = r.initLockProbed();
    probed.setIno(ino);
    probed.setSerial(serial);
    (void)co_await rpc->call(std::move(m), 5s);
  }
};

// A metadata server, three mounts, and a file that all know.
struct LockRig : Rig {
  LockRig() {
    startOsds(3);
    for (LockClient* c : {&a, &b, &c}) REQUIRE(c->openSession().code() == Errc::kOk);
    ino = inoOf(a.create(kRootInode, "f"));
    a.opens.insert(ino);
  }
  InodeId ino;
  LockClient a{world, "a"}, b{world, "b"}, c{world, "c"};
};

}  // namespace

TEST_CASE("locks: a grant is pushed behind the answer that said to wait") {
  LockRig rig;
  REQUIRE(rig.a.outcome(rig.ino, kWrite) == Outcome::GRANTED);
  REQUIRE(rig.b.outcome(rig.ino, kRead) == Outcome::CONFLICT);
  rig.b.heard.clear();
  // Both are under way at once: the unlock right behind the request.
  auto waits = rig.b.startAsk(LockClient::asking(rig.ino, kRead, 0, kLastLockByte, 7));
  auto unlocked = rig.a.startAsk(LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0));
  REQUIRE(rig.until([&] { return waits->has_value() && unlocked->has_value(); }));
  if ((*waits)->reply().getLock().getOutcome() == Outcome::WAITING) {
    REQUIRE(rig.until([&] { return rig.b.granted(7); }));
    CHECK(rig.b.heard.back() == "granted 7");
  }
  CHECK(rig.a.outcome(rig.ino, kWrite) == Outcome::CONFLICT);
  const Got held = rig.a.test(rig.ino, kWrite);
  CHECK(held.reply().getLockHeld().getType() == kRead);
  CHECK(held.reply().getLockHeld().getPid() == 0);  // of another session
  CHECK(rig.b.test(rig.ino, kWrite).reply().getLockHeld().getType() == kUnlock);
}

TEST_CASE("locks: whoever cancels knows with the answer whether it came too late") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  REQUIRE(rig.b.cancel(1).code() == Errc::kOk);
  rig.a.outcome(rig.ino, kUnlock);
  rig.world.run(1s);
  CHECK_FALSE(rig.b.granted(1));
  size_t late = 0;
  for (uint64_t id = 2; id < 60; ++id) {
    REQUIRE(rig.a.outcome(rig.ino, kWrite) == Outcome::GRANTED);
    REQUIRE(rig.b.outcome(rig.ino, kWrite, id) == Outcome::WAITING);
    rig.b.heard.clear();
    // Closely one after the other, now this one first, now that one.
    Client::Slot unlocked, canceled;
    for (bool unlocks : {id % 2 == 0, id % 2 != 0}) {
      if (unlocks)
        unlocked = rig.a.startAsk(LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0));
      else
        canceled = rig.b.startAsk([id](auto r) { r.setLockCancel(id); });
      rig.world.run(1us * (id / 2));
    }
    REQUIRE(rig.until([&] { return canceled->has_value(); }));
    const bool had = rig.b.granted(id);
    late += had ? 1 : 0;
    REQUIRE(rig.until([&] { return unlocked->has_value(); }));
    rig.world.run(10ms);
    REQUIRE(rig.b.granted(id) == had);  // nothing comes behind the answer
    REQUIRE((rig.a.outcome(rig.ino, kWrite) == Outcome::CONFLICT) == had);
    rig.b.outcome(rig.ino, kUnlock);
    rig.a.outcome(rig.ino, kUnlock);
  }
  CHECK(late > 0);
  CHECK(late < 58);
}

TEST_CASE("locks: a session that is silent loses them to those who wait, and to nobody else") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.die();
  rig.world.run(6s);
  CHECK(rig.mds->server().sessions().alive(SessionId{rig.a.session}));
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  const TimePoint asked = rig.world.now();
  REQUIRE(rig.until([&] { return rig.b.granted(1); }));
  CHECK(rig.world.now() - asked < 2s);  // it was silent for long enough already
  CHECK_FALSE(rig.mds->server().sessions().alive(SessionId{rig.a.session}));
  CHECK(rig.state().fenceEpoch() != MapEpoch{});
  // Who is refused may be lucky the next time.
  rig.b.die();
  const TimePoint died = rig.world.now();
  while (rig.c.outcome(rig.ino, kRead) == Outcome::CONFLICT) rig.world.run(100ms);
  CHECK(rig.world.now() - died < 5s);
  CHECK(rig.world.now() - died > 2s);
}

TEST_CASE("locks: those of a session that ends are free") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  REQUIRE(rig.c.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  REQUIRE(rig.a.ask([](auto r) { r.setSessionClose(); }).code() == Errc::kOk);
  REQUIRE(rig.until([&] { return rig.b.granted(1); }));
  REQUIRE(rig.b.ask([](auto r) { r.setSessionClose(); }).code() == Errc::kOk);
  REQUIRE(rig.until([&] { return rig.c.granted(1); }));
}

TEST_CASE("locks: a reclaim replaces what the session held, and ends its waits") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  rig.a.locks = {{rig.ino.value, kWrite, 0, 9}};
  rig.a.rpc->disconnect();
  REQUIRE(rig.a.ask([](auto r) { r.initKeepalive(); }).code() == Errc::kOk);
  CHECK(rig.c.lock(rig.ino, kRead, 10, 19).reply().getLock().getOutcome() == Outcome::GRANTED);
  CHECK(rig.c.lock(rig.ino, kRead, 9, 9).reply().getLock().getOutcome() == Outcome::CONFLICT);
  rig.c.outcome(rig.ino, kUnlock);
  rig.b.rpc->disconnect();
  REQUIRE(rig.b.ask([](auto r) { r.initKeepalive(); }).code() == Errc::kOk);
  rig.a.outcome(rig.ino, kUnlock);
  rig.world.run(1s);
  CHECK_FALSE(rig.b.granted(1));
  CHECK(rig.c.outcome(rig.ino, kWrite) == Outcome::GRANTED);
}

TEST_CASE("locks: who claims what others hold is expired") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.b.locks = {{rig.ino.value, kRead, 0, 9}};
  rig.b.rpc->disconnect();
  (void)rig.b.ask([](auto r) { r.initKeepalive(); });
  REQUIRE(rig.until([&] { return !rig.mds->server().sessions().alive(SessionId{rig.b.session}); }));
  CHECK(rig.c.outcome(rig.ino, kRead) == Outcome::CONFLICT);
}

TEST_CASE("locks: after a restart nothing is granted before everybody has reclaimed") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.locks = {{rig.ino.value, kWrite, 0, kLastLockByte}};
  rig.b.locks = {};
  // What was held is reclaimed late, but in time.
  rig.world.network().cut("a", "mds");
  rig.restartMds(sim::Crash::kProcess);
  auto asked = rig.b.startAsk(LockClient::asking(rig.ino, kRead, 0, 9, 0));
  auto tested = rig.c.startAsk(
      [&](auto r) { LockClient::fill(r.initLockTest(), {rig.ino.value, kRead, 0, 9}); });
  // What is given up needs nobody's word.
  CHECK(rig.c.outcome(rig.ino, kUnlock) == Outcome::GRANTED);
  rig.world.run(1s);
  CHECK_FALSE(asked->has_value());
  CHECK_FALSE(tested->has_value());
  rig.world.network().healAll();
  REQUIRE(rig.until([&] { return asked->has_value() && tested->has_value(); }));
  CHECK((*asked)->reply().getLock().getOutcome() == Outcome::CONFLICT);
  CHECK((*tested)->reply().getLockHeld().getType() == kWrite);
}

TEST_CASE("locks: after a restart those who stay silent are waited for no longer than needed") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.die();
  rig.restartMds(sim::Crash::kProcess);
  const TimePoint started = rig.world.now();
  auto asked = rig.b.startAsk(LockClient::asking(rig.ino, kRead, 0, 9, 0));
  REQUIRE(rig.until([&] { return asked->has_value(); }));
  CHECK((*asked)->reply().getLock().getOutcome() == Outcome::GRANTED);
  CHECK(rig.world.now() - started > 2s);
  CHECK(rig.world.now() - started < 5s);
}

TEST_CASE("locks: nobody is refused for a lock that its holder is just giving up") {
  LockRig rig;
  REQUIRE(rig.a.outcome(rig.ino, kWrite) == Outcome::GRANTED);
  CHECK(rig.b.outcome(rig.ino, kRead) == Outcome::CONFLICT);
  CHECK(rig.b.test(rig.ino, kRead).reply().getLockHeld().getType() == kWrite);
  CHECK(rig.a.probes.size() == 2);
  rig.a.beforeProbed = [&] {
    rig.a.startAsk(LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0));
  };
  CHECK(rig.b.outcome(rig.ino, kRead) == Outcome::GRANTED);
  CHECK(rig.a.probes.size() == 3);
  CHECK(rig.c.outcome(rig.ino, kRead) == Outcome::GRANTED);
  rig.b.beforeProbed = [&] {
    rig.b.startAsk(LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0));
  };
  rig.c.beforeProbed = [&] {
    rig.c.startAsk(LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0));
  };
  CHECK(rig.a.test(rig.ino, kWrite).reply().getLockHeld().getType() == kUnlock);
  CHECK(rig.b.probes.size() == 1);
  CHECK(rig.c.probes.size() == 1);
}

TEST_CASE("locks: what was asked for by somebody who is gone is not had by anybody") {
  LockRig rig;
  REQUIRE(rig.a.outcome(rig.ino, kWrite) == Outcome::GRANTED);
  rig.a.answersProbes = false;
  auto asked = rig.b.startAsk(LockClient::asking(rig.ino, kWrite, 0, 9, 0));
  rig.world.run(100ms);
  REQUIRE(rig.a.probes.size() == 1);
  CHECK_FALSE(asked->has_value());
  rig.b.startAsk([&](auto r) {
    LockClient::asking(rig.ino, kUnlock, 0, kLastLockByte, 0)(r);
    r.getLock().setGone(true);
  });
  REQUIRE(rig.until([&] { return asked->has_value(); }));
  CHECK((*asked)->reply().getLock().getOutcome() == Outcome::CONFLICT);
  rig.a.outcome(rig.ino, kUnlock);
  rig.a.answerProbe(rig.ino);
  CHECK(rig.c.outcome(rig.ino, kWrite) == Outcome::GRANTED);
  CHECK(rig.b.probes.empty());
}

TEST_CASE("locks: what is free, or is waited for, costs no probe") {
  LockRig rig;
  REQUIRE(rig.a.outcome(rig.ino, kWrite) == Outcome::GRANTED);
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  rig.a.outcome(rig.ino, kUnlock);
  REQUIRE(rig.until([&] { return rig.b.granted(1); }));
  CHECK(rig.b.test(rig.ino, kWrite).reply().getLockHeld().getType() == kUnlock);
  CHECK(rig.a.probes.empty());
  CHECK(rig.b.probes.empty());
}

TEST_CASE("locks: one probe is under way, and those that come meanwhile share the next") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.answersProbes = false;
  std::vector<Client::Slot> first, later;
  auto answered = [](const std::vector<Client::Slot>& all) {
    return std::ranges::count_if(all, [](auto& slot) { return slot->has_value(); });
  };
  first.push_back(rig.b.startAsk(LockClient::asking(rig.ino, kRead, 0, 9, 0)));
  rig.world.run(100ms);
  for (int i = 0; i < 10; ++i)
    for (LockClient* c : {&rig.b, &rig.c})
      later.push_back(c->startAsk(LockClient::asking(rig.ino, kRead, 0, 9, 0)));
  rig.world.run(100ms);
  REQUIRE(rig.a.probes.size() == 1);
  rig.a.answerProbe(rig.ino);
  rig.world.run(100ms);
  CHECK(answered(first) == 1);
  CHECK(answered(later) == 0);  // they came after it was sent
  REQUIRE(rig.a.probes.size() == 2);
  rig.a.outcome(rig.ino, kUnlock);
  CHECK(answered(later) == 0);
  rig.a.answerProbe(rig.ino);
  REQUIRE(rig.until([&] { return answered(later) == 20; }));
  for (auto& slot : later) CHECK((*slot)->reply().getLock().getOutcome() == Outcome::GRANTED);
  CHECK(rig.a.probes.size() == 2);
}

TEST_CASE("locks: a holder that is heard but answers no probe is waited for once") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.answersProbes = false;
  TimePoint asked = rig.world.now();
  CHECK(rig.b.outcome(rig.ino, kRead) == Outcome::CONFLICT);
  CHECK(rig.world.now() - asked > 2s);
  CHECK(rig.world.now() - asked < 4s);
  asked = rig.world.now();
  CHECK(rig.c.outcome(rig.ino, kRead) == Outcome::CONFLICT);
  CHECK(rig.world.now() - asked < 100ms);
  CHECK(rig.mds->server().sessions().alive(SessionId{rig.a.session}));
  CHECK(rig.a.probes.size() == 1);
  // From its answer on it is asked again.
  rig.a.answerProbe(rig.ino);
  rig.world.run(10ms);
  rig.a.answersProbes = true;
  CHECK(rig.c.outcome(rig.ino, kRead) == Outcome::CONFLICT);
  CHECK(rig.a.probes.size() == 2);
}

TEST_CASE("locks: a probe is sent again over a new connection") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  rig.a.locks = {{rig.ino.value, kWrite, 0, kLastLockByte}};
  rig.a.answersProbes = false;
  auto asked = rig.b.startAsk(LockClient::asking(rig.ino, kRead, 0, 9, 0));
  rig.world.run(100ms);
  REQUIRE(rig.a.probes.size() == 1);
  rig.a.answersProbes = true;
  rig.a.rpc->disconnect();
  REQUIRE(rig.until([&] { return asked->has_value(); }, 1s));
  CHECK((*asked)->reply().getLock().getOutcome() == Outcome::CONFLICT);
  CHECK(rig.a.probes == std::vector<uint64_t>(2, rig.a.probes.front()));
}

TEST_CASE("locks: requests that make no sense are refused") {
  LockRig rig;
  CHECK(rig.a.lock(rig.ino, kWrite, 5, 4).code() == Errc::kInvalid);
  CHECK(rig.a.lock(rig.ino, kWrite, 0, kLastLockByte + 1).code() == Errc::kInvalid);
  CHECK(rig.a.lock(rig.ino, kUnlock, 0, 9, 1).code() == Errc::kInvalid);
  CHECK(rig.a.test(rig.ino, kUnlock).code() == Errc::kInvalid);
  CHECK(rig.a.lock(InodeId{987654}, kWrite).code() != Errc::kOk);
  rig.b.outcome(rig.ino, kWrite);
  REQUIRE(rig.a.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  CHECK(rig.a.lock(rig.ino, kWrite, 3, 3, 1).code() == Errc::kInvalid);
}

TEST_CASE("locks: on an inode that is gone there are none") {
  LockRig rig;
  rig.a.outcome(rig.ino, kWrite);
  REQUIRE(rig.b.outcome(rig.ino, kWrite, 1) == Outcome::WAITING);
  rig.a.unlink(kRootInode, "f");
  rig.a.opens.clear();
  rig.a.release(rig.ino);
  REQUIRE(rig.until([&] { return rig.mds->server().locks().table().size() == 0; }));
  CHECK(rig.mds->server().locks().table().waiting() == 0);
}

}  // namespace cairn::mds::test
