// Scenarios: random work on a whole cluster while the world does its worst. README.md says what
// each must survive, and how to replay a seed.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <string>

#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"
#include "test/sim/shared_locks.h"

namespace cairn::sim::test {
namespace {

struct TailFile {
  InodeId ino;
  std::shared_ptr<client::Handle> handle;
};

// A file of one synced block, with more written behind it, also into the next chunk.
Task<void> writeBehindEnd(Env& env, client::Filesystem& fs, TailFile& out) {
  auto made = co_await fs.create(kRootInode, "f", 0644, {}, O_RDWR | O_CREAT);
  if (!made) co_return;
  out = {made->attr.ino, made->handle};
  Buffer data = env.buffers.get(kBlockSize);
  std::ranges::fill(data.bytes(), 'x');
  (void)co_await fs.write(out.handle, 0, data);
  (void)co_await fs.fsync(out.handle);
  (void)co_await fs.write(out.handle, kChunkSize + kBlockSize, data);
  (void)co_await fs.write(out.handle, 2 * kBlockSize, data);
}

// The file is made longer; how many of its bytes behind the first block are not zeros.
Task<Result<size_t>> bytesAfterExtending(client::Filesystem& fs, InodeId ino) {
  auto before = co_await fs.getattr(ino);
  CO_TRY(before);
  if (before->size != kBlockSize) co_return fail(Errc::kInvalid, "the size was committed");
  client::AttrChange change;
  change.size = kChunkSize + 4 * kBlockSize;
  CO_TRY(co_await fs.setattr(ino, change));
  auto opened = co_await fs.open(ino, O_RDONLY);
  CO_TRY(opened);
  size_t wrong = 0;
  for (uint64_t at : {kBlockSize, kChunkSize}) {
    auto parts = co_await fs.read(opened->handle, at, 3 * kBlockSize);
    CO_TRY(parts);
    for (const Buffer& b : *parts)
      wrong +=
          static_cast<size_t>(std::ranges::count_if(b.bytes(), [](uint8_t c) { return c != 0; }));
  }
  co_await fs.release(opened->handle);
  co_return wrong;
}

}  // namespace

TEST_CASE("cluster: what a dead mount wrote behind the end of a file does not come back") {
  SimCluster c(1, {});
  c.mount(0);
  TailFile file;
  REQUIRE(c.world.await(c.clientNode(0), writeBehindEnd(c.clientEnv(0), c.fs(0), file)));
  // Killed between the data and the size.
  const bool stored = c.world.runUntil(
      [&] {
        for (size_t i = 0; i < c.osds(); ++i) {
          auto list = c.osd(i).store().list(ChunkId{}, 2);
          if (!list || list->size() != 2) return false;
          if (list->front().info.blocks != 2 || list->back().info.blocks != 1) return false;
        }
        return true;
      },
      10s);
  REQUIRE(stored);
  file.handle.reset();
  c.killMounts();
  c.mount(0);
  auto wrong = c.world.await(c.clientNode(0), bytesAfterExtending(c.fs(0), file.ino));
  REQUIRE(wrong.has_value());
  REQUIRE_MESSAGE(wrong->has_value(), wrong->error().text());
  CHECK(**wrong == 0);
}

TEST_CASE("cluster: every result is that of a local filesystem") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 2));
    run.begin(120);
    run.finish();
    run.check(Equality::kExact);
  });
}

TEST_CASE("cluster: daemons are killed and restarted, and applications see nothing of it") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, fewOsds(seed));
    run.begin(100);
    while (run.go(upTo(run.cluster.world, 1500ms))) killDaemon(run);
    run.cluster.waitForService();
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: partitions, resets, slow links and pauses") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, fewOsds(seed));
    run.begin(100);
    while (run.go(upTo(run.cluster.world, 1s))) disturb(run, 3s);
    run.finish();
    run.cluster.world.run(5s);  // whatever was disturbed last is over
    run.cluster.waitForService();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: everything at once, but for power") {
  forSeeds(6, [](uint64_t seed) {
    Run run(seed, fewOsds(seed));
    run.begin(80);
    SimWorld& world = run.cluster.world;
    while (run.go(upTo(world, 1s))) world.chance(0.5) ? killDaemon(run) : disturb(run, 2s);
    run.finish();
    world.run(5s);
    run.cluster.waitForService();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: power is lost everywhere; what was acknowledged is there") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, seed / 2 % 2));
    SimCluster& c = run.cluster;
    for (int round = 0; round < 3; ++round) {
      run.begin(1000);
      run.go(upTo(c.world, 4s));
      if (c.world.chance(0.3)) {
        killDaemon(run);
        run.go(upTo(c.world, 300ms));
      }
      if (c.world.chance(0.8)) untilStaged(run);
      c.losePower();
      run.judge();
      c.startDaemons();
      run.mountAgain();
      run.verify();
    }
    run.begin(40);
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: mounts are killed; what was acknowledged is there") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, fewOsds(seed));
    SimCluster& c = run.cluster;
    for (int round = 0; round < 3; ++round) {
      run.begin(1000);
      run.go(upTo(c.world, 4s));
      c.killMounts();
      run.judge();
      c.world.run(10s);  // what they had sent has been done, or never will be
      run.mountAgain();
      run.verify();
    }
    run.begin(40);
    run.finish();
    c.world.run(70s);  // the sessions of the dead have expired: their open files can go
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: all mounts write the same files") {
  forSeeds(12, [](uint64_t seed) {
    SharedRun run(seed, fewOsds(seed));
    SimWorld& world = run.cluster.world;
    run.begin(60);
    // Connections break, too: what is recalled then is recalled again.
    while (run.go(upTo(world, 2s)))
      if (world.chance(0.5))
        world.network().reset(SimCluster::clientHost(world.random().below(2)),
                              SimCluster::mdsHost());
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("cluster: all mounts lock the same file, while connections, MDS and mounts fail") {
  SharedLocks::Seen all;
  forSeeds(12, [&](uint64_t seed) {
    constexpr size_t kMounts = 3;
    constexpr uint64_t kSteps = 60;
    SimCluster c(seed, {.osds = 3, .replicas = 2, .clients = kMounts});
    SimWorld& world = c.world;
    for (size_t m = 0; m < kMounts; ++m) c.mount(m);
    SharedLocks shared(seed ^ 0x10c45);
    REQUIRE(world.await(c.clientNode(0), shared.prepare(c.fs(0))));
    auto begin = [&](size_t agent, uint64_t steps) {
      const size_t m = agent % kMounts;
      c.clientNode(m).spawn(shared.run(agent, c.clientEnv(m), c.fs(m), steps));
    };
    for (size_t i = 0; i < SharedLocks::kAgents; ++i) begin(i, kSteps);
    world.run(1ms);
    const TimePoint begun = world.now();
    while (!shared.done() && shared.failure().empty() && world.now() < begun + 1h) {
      if (world.runUntil([&] { return shared.done(); }, upTo(world, 2s))) break;
      if (!shared.failure().empty()) break;
      if (world.chance(0.5)) {
        world.network().reset(SimCluster::clientHost(world.random().below(kMounts)),
                              SimCluster::mdsHost());
      } else if (world.chance(0.3)) {
        world.kill(c.mdsNode());
        c.endMds();
        world.runUntil([&] { return shared.done(); }, upTo(world, 1s));
        c.startMds();
      } else if (world.chance(0.2)) {
        // Others wait for what it had until it is expired.
        const size_t m = world.random().below(kMounts);
        std::vector<size_t> dead;
        for (size_t i = m; i < SharedLocks::kAgents; i += kMounts)
          if (shared.running(i)) dead.push_back(i);
        for (size_t i : dead) shared.killed(i);
        c.killMount(m);
        c.mount(m);
        for (size_t i : dead) begin(i, kSteps / 4);
        world.run(1ms);
      }
    }
    REQUIRE_MESSAGE(shared.failure().empty(), shared.failure());
    REQUIRE_MESSAGE(shared.done(), "somebody waits for ever");
    const auto& seen = shared.seen();
    all.granted += seen.granted;
    all.waited += seen.waited;
    all.refused += seen.refused;
    all.deadlocks += seen.deadlocks;
    all.interrupted += seen.interrupted;
    for (size_t m = 0; m < kMounts; ++m) c.unmount(m);
    c.world.run(70s);  // and the sessions of the dead have expired
    CHECK(c.mds().server().locks().table().size() == 0);
    CHECK(c.mds().server().locks().table().waiting() == 0);
  });
  if (numberOf("CAIRN_SEED")) return;  // of one run, some may be missing
  for (size_t n : {all.granted, all.waited, all.refused, all.deadlocks, all.interrupted})
    CHECK(n > 0);
}

TEST_CASE("cluster: the same seed gives the same run") {
  forSeeds(3, [](uint64_t seed) {
    auto hashOf = [seed] {
      Run run(seed, fewOsds(seed));
      run.begin(60);
      SimWorld& world = run.cluster.world;
      while (run.go(upTo(world, 1s))) world.chance(0.5) ? killDaemon(run) : disturb(run, 2s);
      run.finish();
      return std::pair(world.traceHash(), world.events());
    };
    CHECK((hashOf() == hashOf()));
  });
}

}  // namespace cairn::sim::test
