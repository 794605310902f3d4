// Scenarios in which the disks of OSDs are full. Who writes is told; what was acknowledged stays,
// what was refused has changed nothing or is there, and room that is given back can be used again.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "common/reactor/clock.h"
#include "common/reactor/reactor.h"
#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {
namespace {

constexpr uint32_t kStretch = 16 * kBlockSize;  // what is written at once
constexpr size_t kStretches = 160;

// An application that writes past all caches and knows what each block may hold.
class Filler {
 public:
  Filler(Env& env, client::Filesystem& fs, size_t number, uint64_t seed)
      : env_(env), fs_(fs), name_("full" + std::to_string(number)), random_(seed) {}

  Task<void> run(uint64_t steps) {
    auto made = co_await fs_.create(kRootInode, name_, 0644, {}, O_RDWR | O_CREAT | O_DIRECT);
    if (!made) {
      failure_ = "create: " + made.error().text();
    } else {
      ino_ = made->attr.ino;
      for (uint64_t i = 0; i < steps && failure_.empty(); ++i) {
        if (refusedInTurn_ == 8)
          co_await empty();
        else if (random_.chance(2, 3))
          co_await write(made->handle, random_.below(kStretches));
        else
          co_await read(made->handle, random_.below(kStretches));
      }
      for (size_t at = 0; at < kStretches && failure_.empty(); ++at)
        co_await read(made->handle, at);
      if (failure_.empty()) co_await empty();
      co_await fs_.release(made->handle);
    }
    done_ = true;
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] size_t refused() const { return refused_; }

 private:
  // Numbers, each of which fills a block; 0 is a hole.
  struct Block {
    uint64_t now = 0;
    std::optional<uint64_t> orElse = {};  // a write of it was refused
  };

  Task<void> write(std::shared_ptr<client::Handle> h, size_t stretch) {
    const uint64_t number = ++written_;
    Buffer data = env_.buffers.get(kStretch);
    for (size_t at = 0; at < kStretch; at += 8) std::memcpy(data.data() + at, &number, 8);
    auto done = co_await fs_.write(h, stretch * kStretch, data);
    if (!done && done.error().code != Errc::kNoSpace) {
      failure_ = "write: " + done.error().text();
      co_return;
    }
    if (done) {
      std::fill_n(&blocks_[stretch * 16], 16, Block{number});
      refusedInTurn_ = 0;
      co_return;
    }
    ++refused_;
    ++refusedInTurn_;
    // Read at once, so that each block has two possible contents at the most.
    for (size_t i = 0; i < 16; ++i) blocks_[stretch * 16 + i].orElse = number;
    co_await read(h, stretch);
  }

  Task<void> read(std::shared_ptr<client::Handle> h, size_t stretch) {
    auto parts = co_await fs_.read(h, stretch * kStretch, kStretch);
    if (!parts) {
      failure_ = "read: " + parts.error().text();
      co_return;
    }
    std::string got;
    for (const Buffer& b : *parts) got.append(reinterpret_cast<const char*>(b.data()), b.size());
    got.resize(kStretch, '\0');  // the end of the file
    for (size_t i = 0; i < 16; ++i) {
      Block& block = blocks_[stretch * 16 + i];
      uint64_t number = 0;
      std::memcpy(&number, got.data() + i * kBlockSize, 8);
      bool whole = true;
      for (size_t at = 0; at < kBlockSize; at += 8)
        whole &= std::memcmp(got.data() + i * kBlockSize + at, &number, 8) == 0;
      if (!whole || (number != block.now && number != block.orElse)) {
        failure_ = name_ + ": block " + std::to_string(stretch * 16 + i) + " holds " +
                   std::to_string(number) + (whole ? "" : ", in part") + ", not " +
                   std::to_string(block.now);
        co_return;
      }
      block = {number};
    }
  }

  Task<void> empty() {
    client::AttrChange change;
    change.size = 0;
    if (auto done = co_await fs_.setattr(ino_, change); !done)
      failure_ = "truncate: " + done.error().text();
    blocks_.assign(blocks_.size(), {});
    refusedInTurn_ = 0;
    co_await sleepFor(env_.reactor, 1s);  // in which room is given back
  }

  Env& env_;
  client::Filesystem& fs_;
  const std::string name_;
  SeededRandom random_;
  InodeId ino_;
  std::vector<Block> blocks_ = std::vector<Block>(kStretches * 16);
  uint64_t written_ = 0;
  size_t refused_ = 0, refusedInTurn_ = 0;
  bool done_ = false;
  std::string failure_;
};

class FullRun : public Load {
 public:
  FullRun(uint64_t seed, ClusterOptions options) : Load(cluster_), cluster_(seed, options) {
    mountAll();
    for (size_t i = 0; i < 4; ++i)
      fillers_.push_back(std::make_unique<Filler>(cluster.clientEnv(i % 2), cluster.fs(i % 2), i,
                                                  cluster.world.random().next()));
  }
  void begin(uint64_t steps) {
    for (size_t i = 0; i < fillers_.size(); ++i)
      cluster.clientNode(i % 2).spawn(fillers_[i]->run(steps));
  }
  void check() {
    unmountAll();
    checkAtRest(Equality::kBelowSize);
  }
  [[nodiscard]] size_t refused() const {
    size_t n = 0;
    for (const auto& f : fillers_) n += f->refused();
    return n;
  }

 private:
  [[nodiscard]] bool done() const override {
    return std::ranges::all_of(fillers_, [](const auto& f) { return f->done(); });
  }
  [[nodiscard]] const std::string& failure() const override {
    for (const auto& f : fillers_)
      if (!f->failure().empty()) return f->failure();
    return none_;
  }

  const std::string none_;
  std::vector<std::unique_ptr<Filler>> fillers_;
  SimCluster cluster_;
};

}  // namespace

TEST_CASE("full: writes are refused, nothing else is wrong, and room comes back") {
  size_t refused = 0;
  forSeeds(4, [&](uint64_t seed) {
    ClusterOptions options = copiesOrShards(seed, seed / 2 % 2);
    options.storeBytes = options.striped ? 16 * kMiB : 24 * kMiB;
    FullRun run(seed, options);
    SimCluster& c = run.cluster;
    run.begin(200);
    const bool calm = c.world.chance(0.3);
    while (run.go(upTo(c.world, 2s)))
      if (!calm) c.world.chance(0.5) ? killDaemon(run) : disturb(run, 2s);
    run.finish();
    refused += run.refused();
    c.world.run(5s);
    c.waitForService();
    run.check();
  });
  if (!numberOf("CAIRN_SEED")) CHECK(refused > 0);
}

}  // namespace cairn::sim::test
