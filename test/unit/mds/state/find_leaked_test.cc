// What is taken for leaked (mds/server/leaks.h) while everything else goes on between the pages of
// the look. Beside the state machine, because what is at stake is its invariant.
#include <set>

#include "common/cluster/mix64.h"
#include "common/reactor/pulse.h"
#include "mds/server/leaks.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Found = std::optional<Result<Leaked>>;

Task<void> look(Reactor& reactor, Mds& mds, std::vector<Suspect> suspects, const Caller& caller,
                size_t page, Found& out) {
  out = co_await findLeaked(reactor, *mds.operator->(), std::move(suspects), caller, page);
}

// Whenever the look gives others their turn.
Task<void> meanwhile(Reactor& reactor, std::function<void()> change, const Found& until) {
  while (!until) {
    change();
    co_await yield(reactor);
  }
}

std::vector<Suspect> everyId(Mds& mds) {
  std::vector<Suspect> all;
  for (uint64_t id = 0; id < mds->nextChunk().value + 10; ++id)
    all.push_back({ChunkId(id), PoolId(1)});
  return all;
}

// Files that come, grow, shrink and go, some while they are open; their chunks are freed and
// forgotten now and then.
class Churn {
 public:
  explicit Churn(uint64_t seed) : random_(seed), session_(mds.session()) {
    for (int i = 0; i < 100; ++i) step();
  }

  void step() {
    const std::string name = "f" + std::to_string(below(6));
    const auto found = mds->lookup(kRootInode, name);
    if (!found) {
      mds.file(name);
      return;
    }
    const InodeId ino = found->ino;
    switch (below(9)) {
      case 0:
      case 1:
        CHECK(mds.alloc(ino, below(20), 1 + below(5)).ok());
        break;
      case 2:
        CHECK(mds.alloc(ino, 100, 70).ok());  // more than an unlink frees at once
        break;
      case 3:
        CHECK(mds.truncate(ino, below(20) * kChunkSize).ok());
        break;
      case 4:
        CHECK(mds.removeChunks(ino, below(20), 3).ok());
        break;
      case 5:
        CHECK(mds.unlink(name, {.openBy = below(2) == 0 ? std::vector<uint64_t>{session_}
                                                        : std::vector<uint64_t>{}})
                  .ok());
        break;
      case 6:
        CHECK(mds.rename(kRootInode, name, kRootInode, "f" + std::to_string(below(6))).ok());
        break;
      case 7:
        for (const Orphan& o : mds.orphans()) {
          if (!o.holders.empty())
            CHECK(mds.releaseOrphan(o.ino, session_).ok());
          else
            CHECK(mds.purge(o.ino, 1 + below(40)).ok());
        }
        break;
      default:
        forget(1 + below(60));
    }
  }
  // The OSDs have removed the first of what is in the queue.
  void forget(size_t count) {
    auto queue = mds.garbage();
    queue.resize(std::min(queue.size(), count));
    for (const Garbage& g : queue) gone.insert(g.chunk.value);
    CHECK(mds.run([&](auto m) {
               auto list = m.initGarbageDone(static_cast<uint32_t>(queue.size()));
               for (uint32_t i = 0; i < queue.size(); ++i) list.set(i, queue[i].id);
             })
              .ok());
  }
  // Every id that something names now.
  std::set<uint64_t> named() {
    std::set<uint64_t> ids;
    const auto chunks = mds->fileChunks({}, 0, SIZE_MAX);
    REQUIRE(chunks.has_value());
    for (const FileChunk& c : *chunks) ids.insert(c.chunk.id.value);
    for (const Garbage& g : mds.garbage()) ids.insert(g.chunk.value);
    return ids;
  }

  Mds mds;
  std::set<uint64_t> gone;  // given out once, and nowhere any more

 private:
  uint32_t below(uint64_t n) { return static_cast<uint32_t>((random_ = mix64(random_)) % n); }

  uint64_t random_;
  const uint64_t session_;
};

Answer queue(Mds& mds, const Leaked& leaked) {
  return mds.run([&](auto m) {
    auto l = m.initChunksLeaked();
    l.setBelow(leaked.below.value);
    auto list = l.initChunks(static_cast<uint32_t>(leaked.chunks.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setChunk(leaked.chunks[i].chunk.value);
      list[i].setPool(leaked.chunks[i].pool.value);
    }
  });
}

}  // namespace

TEST_CASE("findLeaked: whatever is going on, what is leaked is found, and nothing else ever") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Churn churn(seed);
    ManualReactor reactor;
    const Caller caller;
    const std::set<uint64_t> before = churn.gone;
    const ChunkId below = churn.mds->nextChunk();
    Found found;
    size_t steps = 0;
    reactor.start(look(reactor, churn.mds, everyId(churn.mds), caller, 20 + seed, found));
    reactor.start(meanwhile(
        reactor,
        [&] {
          churn.step();
          ++steps;
        },
        found));
    reactor.settle();
    REQUIRE(found);
    REQUIRE(found->has_value());
    CHECK(steps > 2);
    const Leaked& leaked = **found;
    CHECK(leaked.below == below);
    std::set<uint64_t> ids;
    for (const Suspect& s : leaked.chunks) ids.insert(s.chunk.value);
    for (uint64_t id : before) CHECK(ids.contains(id));
    for (uint64_t id : ids) CHECK(churn.gone.contains(id));
    // Later, too.
    for (int i = 0; i < 50; ++i) churn.step();
    for (uint64_t id : churn.named()) CHECK_FALSE(ids.contains(id));
    const auto kept = churn.named();
    CHECK(queue(churn.mds, leaked).ok());
    CHECK(churn.mds->verify().empty());
    CHECK(churn.named().size() == kept.size() + ids.size());
    // What is in the queue now is not leaked.
    found.reset();
    reactor.start(look(reactor, churn.mds, everyId(churn.mds), caller, 50, found));
    reactor.settle();
    for (const Suspect& s : (*found)->chunks) CHECK_FALSE(ids.contains(s.chunk.value));
  }
}

TEST_CASE("findLeaked: what nobody can know, or nobody could remove, is not taken for leaked") {
  Churn churn(1);
  churn.forget(SIZE_MAX);
  ManualReactor reactor;
  const Caller caller;
  const uint64_t lost = *churn.gone.begin();
  const uint64_t next = churn.mds->nextChunk().value;
  Found found;
  const PoolId pool(1), none(77);
  reactor.start(look(reactor, churn.mds,
                     {{ChunkId(next), pool},
                      {ChunkId(UINT64_MAX), pool},
                      {ChunkId(0), pool},
                      {ChunkId(*std::next(churn.gone.begin())), none},
                      {ChunkId(lost), pool},
                      {ChunkId(lost), pool}},
                     caller, 10, found));
  reactor.settle();
  REQUIRE((*found)->chunks.size() == 1);
  CHECK((*found)->chunks[0].chunk.value == lost);
}

TEST_CASE("findLeaked: for somebody who has left nobody goes on looking") {
  Churn churn(1);
  ManualReactor reactor;
  Caller caller;
  Found found;
  size_t turns = 0;
  reactor.start(look(reactor, churn.mds, everyId(churn.mds), caller, 1, found));
  reactor.start(meanwhile(
      reactor,
      [&] {
        if (++turns == 3) caller.leave();
      },
      found));
  reactor.settle();
  REQUIRE(found);
  CHECK(found->error().code == Errc::kUnavailable);
  CHECK(turns <= 4);
}
