// Many clients at a few inodes, with broken connections, dead clients and restarts: whoever holds a
// lease knows what is true.
#include <algorithm>

#include "test/unit/mds/server/lease_client.h"

namespace cairn::mds::test::lease_race_test {

using sim::Crash;

// A client that does whatever comes to its mind, and sends a change again until it is answered.
class Mind : public LeaseClient {
 public:
  Mind(sim::SimWorld& world, const std::string& host, std::vector<InodeId> dirs)
      : LeaseClient(world, host), stop(node.reactor()), dirs_(std::move(dirs)) {}

  Task<void> run() {
    while (!stop.isSet()) {
      co_await step();
      (void)co_await stop.waitFor(Duration(world.random().below(2'000'000)));
    }
    finished = true;
  }

  // What is wrong with what it believes: its cache, as far as it may use it. Changes of its own
  // that are under way may have been done.
  std::string lie(StateMachine& state, uint64_t& checked) {
    if (changing_ != 0) return {};
    for (auto& [ino, h] : held) {
      auto inode = state.inode(ino);
      if (!inode) continue;  // nobody can ask for it any more
      if (h.version) {
        ++checked;
        if (*h.version != inode->changeVersion)
          return "inode " + std::to_string(ino.value) + " is at " +
                 std::to_string(inode->changeVersion) + ", not " + std::to_string(*h.version);
      }
      for (auto& [name, child] : h.names) {
        ++checked;
        auto found = state.lookup(ino, name);
        if ((found ? found->ino : InodeId{}) != child)
          return "name " + name + " of inode " + std::to_string(ino.value);
      }
    }
    return {};
  }

  Event stop;
  bool finished = false;
  uint64_t changes = 0, queries = 0, granted = 0, lost = 0;
  std::string complaint;

 private:
  InodeId anyDir() { return dirs_[world.random().below(dirs_.size())]; }
  std::string anyName() { return std::string(1, static_cast<char>('a' + world.random().below(4))); }
  InodeId anyKnown() {
    if (held.empty()) return kRootInode;
    auto it = held.begin();
    std::advance(it, static_cast<ptrdiff_t>(world.random().below(held.size())));
    return it->first;
  }

  // What we change we no longer claim to know.
  void forget() {
    for (auto& [ino, h] : held) {
      h.version.reset();
      h.names.clear();
    }
  }

  Task<Got> insist(Peer::Fill fill) {
    while (true) {
      auto slot = startAsk(fill);
      while (!slot->has_value()) co_await sleepFor(env.reactor, 100us);
      if ((*slot)->result || !(*slot)->result.error().retryable()) co_return std::move(**slot);
      co_await sleepFor(env.reactor, 10ms);
    }
  }

  Task<void> change(Change fill) {
    ++changes;
    ++changing_;
    const uint64_t seq = nextSeq++;
    Got got = co_await insist([fill, seq](auto r) {
      r.setSeq(seq);
      fill(r.initMutate());
    });
    if (got.code() == Errc::kLeaseLost) {
      ++lost;
      complaint = got.result.error().text();
    }
    // What the answer says is newer than what we forget here; it is asked for again.
    forget();
    --changing_;
  }

  Task<void> step() {
    const InodeId dir = anyDir(), dir2 = anyDir();
    const std::string name = anyName(), name2 = anyName();
    switch (world.random().below(12)) {
      case 0:
        co_await change(changes::create(dir, name));
        break;
      case 1:
        co_await change(changes::unlink(dir, name));
        break;
      case 2:
        co_await change(changes::rename(dir, name, dir2, name2,
                                        static_cast<uint32_t>(world.random().below(3))));
        break;
      case 3:
        co_await change(changes::link(anyKnown(), dir, name));
        break;
      case 4:
        co_await change(changes::chmod(anyKnown(), 0600));
        break;
      case 5:
      case 6: {
        ++queries;
        const InodeId ino = anyKnown();
        (void)co_await insist([ino](auto r) { r.setGetattr(ino.value); });
        break;
      }
      case 7:
      case 8:
        ++queries;
        (void)co_await insist([dir, name](auto r) {
          auto l = r.initLookup();
          l.setParent(dir.value);
          l.setName({reinterpret_cast<const kj::byte*>(name.data()), name.size()});
        });
        break;
      default:
        co_await write(anyKnown());
        break;
    }
  }

  // As a client does it: the lease is used, and given back when nothing runs under it.
  Task<void> write(InodeId ino) {
    Got got = co_await insist([ino](auto r) {
      auto lease = r.initLease();
      lease.setIno(ino.value);
      lease.setWrite(true);
    });
    if (!got.result || mode(ino) != LeaseMode::kWrite) co_return;
    ++granted;
    uses(ino, +1);
    co_await change(changes::commit(ino, world.random().below(1000)));
    co_await change(changes::truncate(ino, world.random().below(1000)));
    uses(ino, -1);
  }

  std::vector<InodeId> dirs_;
  int changing_ = 0;
};

struct Outcome {
  uint64_t changes = 0, queries = 0, granted = 0, checked = 0, recalls = 0;
};

Outcome play(uint64_t seed, bool breaks, bool restarts) {
  Rig rig(seed);
  rig.startOsds(3);
  std::vector<InodeId> dirs{kRootInode};
  {
    Client maker(rig.world, "maker");
    REQUIRE(maker.openSession().code() == Errc::kOk);
    dirs.push_back(inoOf(maker.makeDirectory(kRootInode, "sub1")));
    dirs.push_back(inoOf(maker.makeDirectory(kRootInode, "sub2")));
    REQUIRE(maker.ask([](auto r) { r.setSessionClose(); }).code() == Errc::kOk);
  }
  std::vector<std::unique_ptr<Mind>> minds;
  for (int i = 0; i < 4; ++i) {
    minds.push_back(std::make_unique<Mind>(rig.world, "m" + std::to_string(i), dirs));
    REQUIRE(minds.back()->openSession().code() == Errc::kOk);
    minds.back()->node.spawn(minds.back()->run());
  }
  Outcome out;
  const TimePoint end = rig.world.now() + 3s;
  TimePoint nextBreak = rig.world.now(), nextRestart = rig.world.now() + 700ms;
  while (rig.world.now() < end) {
    rig.world.run(Duration(rig.world.random().below(500'000)));
    for (auto& mind : minds) {
      const std::string lie = mind->lie(rig.state(), out.checked);
      REQUIRE_MESSAGE(lie.empty(), lie);
    }
    if (breaks && rig.world.now() > nextBreak) {
      nextBreak = rig.world.now() + Duration(rig.world.random().below(100'000'000));
      minds[rig.world.random().below(minds.size())]->rpc->disconnect();
    }
    if (restarts && rig.world.now() > nextRestart) {
      nextRestart = rig.world.now() + 1s;
      rig.restartMds(rig.world.chance(0.5) ? Crash::kPower : Crash::kProcess);
      for (auto& mind : minds) mind->rpc->disconnect();
    }
  }
  for (auto& mind : minds) mind->stop.set();
  REQUIRE(rig.until(
      [&] { return std::all_of(minds.begin(), minds.end(), [](auto& m) { return m->finished; }); },
      20s));
  for (auto& mind : minds) {
    CHECK_MESSAGE(mind->lost == 0, mind->complaint);
    out.changes += mind->changes;
    out.queries += mind->queries;
    out.granted += mind->granted;
    out.recalls += mind->recalls.size();
  }
  // All that waited was answered, and nobody was expired.
  CHECK(rig.mds->server().leases().claims().size() == 0);
  CHECK(rig.mds->server().sessions().size() == 4);
  CHECK(rig.state().map().fence.below == SessionId{});
  for (auto& mind : minds)
    for (auto& [ino, h] : mind->held)
      if (rig.state().inode(ino))
        CHECK(rig.mds->server().leases().held(SessionId{mind->session}, ino) >= h.mode);
  CHECK(rig.state().verify().empty());
  return out;
}

TEST_CASE("whoever holds a lease knows what is true, whatever others do and whatever breaks") {
  Outcome all;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    const Outcome one = play(seed, seed % 3 != 0, seed % 3 == 2);
    all.changes += one.changes;
    all.queries += one.queries;
    all.granted += one.granted;
    all.checked += one.checked;
    all.recalls += one.recalls;
  }
  CHECK(all.changes > 1000);
  CHECK(all.granted > 100);
  CHECK(all.recalls > 300);
  CHECK(all.checked > 3000);
}

}  // namespace cairn::mds::test::lease_race_test
