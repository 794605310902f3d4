// Many clients at the same few names at once, with crashes: whoever was told that it has a file
// open has it, until it closes it.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;
using sim::Crash;

namespace {

kj::ArrayPtr<const kj::byte> asData(const std::string& text) {
  return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}

// A mount that keeps the protocol: it sends a change again until it is answered, and reclaims over
// every new connection.
class Mount {
 public:
  Mount(sim::SimWorld& world, const std::string& host)
      : node(world.addNode(host)), env(node.env()), stop(node.reactor()), random_(world.random()) {
    RpcClient::Options o;
    o.to = {"mds", kPort};
    o.self = {schema::Hello::Role::CLIENT, {}, 0};
    o.silenceTimeout = 1s;
    o.onConnect = [this](RpcClient& rpc) { return reclaim(rpc); };
    rpc_ = std::make_unique<RpcClient>(env, std::move(o));
  }

  Task<void> run() {
    while (session_ == 0 && !stop.isSet()) {
      OutMessage m;
      m.body<schema::MdsRequest>().initMutate().initSessionOpen();
      auto got = co_await rpc_->call(std::move(m), 1s);
      if (got) {
        session_ = got->body<schema::MdsReply>().getId();
        rpc_->setIdentity({schema::Hello::Role::CLIENT, kCluster, session_});
      } else {
        (void)co_await stop.waitFor(50ms);
      }
    }
    while (!stop.isSet()) {
      co_await step();
      (void)co_await stop.waitFor(Duration(random_.below(500'000)));
    }
    const std::set<InodeId> rest = open_;
    for (InodeId ino : rest) co_await close(ino);
    co_await rpc_->close();
  }

  sim::SimNode& node;
  Env env;
  Event stop;
  uint64_t opened = 0, lost = 0;
  std::string complaint;

 private:
  std::string anyName() { return std::string(1, static_cast<char>('a' + random_.below(3))); }

  Task<Result<void>> reclaim(RpcClient& rpc) {
    if (session_ == 0) co_return Result<void>{};
    OutMessage m;
    auto r = m.body<schema::MdsRequest>();
    r.setSession(session_);
    auto reclaim = r.initReclaim();
    reclaim.setLast(true);
    auto list = reclaim.initOpen(static_cast<uint32_t>(open_.size()));
    uint32_t i = 0;
    for (InodeId ino : open_) list.set(i++, ino.value);
    auto got = co_await rpc.callNow(std::move(m), 1s);
    CO_TRY(got);
    co_return Result<void>{};
  }

  // Until it is answered for good.
  Task<Result<InMessage>> insist(Peer::Fill fill) {
    while (true) {
      OutMessage m;
      auto r = m.body<schema::MdsRequest>();
      r.setSession(session_);
      fill(r);
      auto got = co_await rpc_->call(std::move(m), 1s);
      if (got || !got.error().retryable()) co_return got;
      co_await sleepFor(env.reactor, 20ms);
    }
  }

  Task<void> close(InodeId ino) {
    open_.erase(ino);
    (void)co_await insist([ino](auto r) { r.initRelease(1).set(0, ino.value); });
  }

  Task<void> step() {
    const std::string name = anyName(), other = anyName();
    const uint64_t seq = nextSeq_;
    switch (random_.below(5)) {
      case 0: {
        ++nextSeq_;
        auto got = co_await insist([name, seq](auto r) {
          r.setSeq(seq);
          auto make = r.initMutate().initMake();
          make.setParent(kRootInode.value);
          make.setName(asData(name));
          make.setMode(0100644);
          make.setOpen(true);
        });
        if (got) noteOpen(*got);
        break;
      }
      case 1: {
        auto found = co_await insist([name](auto r) {
          r.initLookup().setParent(kRootInode.value);
          r.getLookup().setName(asData(name));
        });
        if (!found) break;
        const uint64_t ino = found->template body<schema::MdsReply>().getEntry().getAttr().getIno();
        auto got = co_await insist([ino](auto r) { r.initOpen().setIno(ino); });
        if (got) noteOpen(*got);
        break;
      }
      case 2: {
        ++nextSeq_;
        (void)co_await insist([name, seq](auto r) {
          r.setSeq(seq);
          auto remove = r.initMutate().initRemove();
          remove.setParent(kRootInode.value);
          remove.setName(asData(name));
        });
        break;
      }
      case 3: {
        ++nextSeq_;
        (void)co_await insist([name, other, seq](auto r) {
          r.setSeq(seq);
          auto rename = r.initMutate().initRename();
          rename.setParent(kRootInode.value);
          rename.setName(asData(name));
          rename.setNewParent(kRootInode.value);
          rename.setNewName(asData(other));
        });
        break;
      }
      default:
        if (open_.size() > 2) co_await close(*open_.begin());
        break;
    }
    // What it has open is there.
    for (InodeId ino : std::set<InodeId>(open_)) {
      auto got = co_await insist([ino](auto r) { r.setGetattr(ino.value); });
      if (got) continue;
      ++lost;
      complaint = "inode " + std::to_string(ino.value) + ": " + got.error().text();
      open_.erase(ino);
    }
  }

  void noteOpen(const InMessage& answer) {
    ++opened;
    open_.insert(InodeId{answer.body<schema::MdsReply>().getEntry().getAttr().getIno()});
  }

  Random& random_;
  std::unique_ptr<RpcClient> rpc_;
  uint64_t session_ = 0, nextSeq_ = 1;
  std::set<InodeId> open_;
};

}  // namespace

TEST_CASE("an open file is never lost, whatever others do to its name at the same time") {
  for (uint64_t seed = 1; seed <= 9; ++seed) {
    CAPTURE(seed);
    Rig rig(seed);
    rig.startOsds(3);
    std::vector<std::unique_ptr<Mount>> mounts;
    for (int i = 0; i < 4; ++i) {
      mounts.push_back(std::make_unique<Mount>(rig.world, "m" + std::to_string(i)));
      mounts.back()->node.spawn(mounts.back()->run());
    }
    for (int round = 0; round < 3; ++round) {
      rig.world.run(Duration(rig.world.random().below(300'000'000)));
      if (seed % 3 != 0) rig.restartMds(seed % 3 == 1 ? Crash::kPower : Crash::kProcess);
    }
    rig.world.run(3s);
    uint64_t opened = 0;
    for (auto& m : mounts) {
      m->stop.set();
      REQUIRE(rig.world.drain(m->node, 60s));
      CHECK_MESSAGE(m->lost == 0, m->complaint);
      opened += m->opened;
    }
    CHECK(opened > 100);
    // Everything was closed: only what has a name is left, and no space is held for the rest.
    CHECK(rig.until([&] { return rig.state().counts().garbage == 0; }, 10s));
    rig.world.run(2s);
    auto orphans = rig.state().orphans({}, 10);
    REQUIRE(orphans);
    CHECK(orphans->empty());
    CHECK(rig.state().verify().empty());
  }
}
