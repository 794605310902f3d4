// Scenarios of an erasure-coded pool: OSDs go, as many at once as there is parity, come back, are
// lost and replaced, and data moves. Applications see nothing but delays, and in the end the shards
// of every chunk are a word of the code, each on the one member that holds it.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <array>

#include "test/sim/scenario.h"

namespace cairn::sim::test {
namespace {

// 4+2, or 2+1, or 3+2, whose last stripe is cut off by the end of the chunk. In half of the seeds
// changes are taken with just what the data needs.
StripedPool poolOf(uint64_t seed) {
  constexpr std::array<StripedPool, 6> kCodes{{{4, 2, 8 * kKiB, 0},
                                               {4, 2, 16 * kKiB, 0},
                                               {2, 1, 8 * kKiB, 0},
                                               {4, 2, 4 * kKiB, 0},
                                               {3, 2, 8 * kKiB, 0},
                                               {4, 2, 8 * kKiB, 0}}};
  StripedPool pool = kCodes.at(seed / 2 % kCodes.size());
  pool.minSize = static_cast<uint16_t>(pool.data + seed % 2);
  return pool;
}

// `more` OSDs than there are shards.
ClusterOptions striped(uint64_t seed, size_t more, Duration outAfter = 10min) {
  const StripedPool pool = poolOf(seed);
  return {.osds = size_t{pool.data} + pool.parity + more,
          .replicas = 3,
          .clients = 2,
          .outAfter = outAfter,
          .striped = pool};
}

// What a client has asked while nothing was served.
struct Asked {
  bool done = false;
  std::string failure;
};

constexpr uint32_t kAskedBytes = 128 * kKiB;

Buffer pattern(Env& env, char c) {
  Buffer data = env.buffers.get(kAskedBytes);
  std::ranges::fill(data.bytes(), static_cast<uint8_t>(c));
  return data;
}

// A file whose first part is written, past all caches.
Task<Result<std::shared_ptr<client::Handle>>> makeFile(Env& env, client::Filesystem& fs) {
  auto made = co_await fs.create(kRootInode, "asked", 0644, {}, O_RDWR | O_CREAT | O_DIRECT);
  CO_TRY(made);
  CO_TRY(co_await fs.write(made->handle, 0, pattern(env, 'a')));
  CO_TRY(co_await fs.fsync(made->handle));
  co_return made->handle;
}

Task<void> askWrite(Env& env, client::Filesystem& fs, std::shared_ptr<client::Handle> h, char what,
                    std::shared_ptr<Asked> out) {
  auto written = co_await fs.write(h, kAskedBytes, pattern(env, what));
  if (!written) out->failure = written.error().text();
  out->done = true;
}

Task<void> askRead(client::Filesystem& fs, std::shared_ptr<client::Handle> h, uint64_t at,
                   char wanted, std::shared_ptr<Asked> out) {
  auto parts = co_await fs.read(h, at, kAskedBytes);
  size_t right = 0;
  if (!parts)
    out->failure = parts.error().text();
  else
    for (const Buffer& part : *parts) right += std::ranges::count(part.bytes(), wanted);
  if (parts && right != kAskedBytes)
    out->failure = std::to_string(right) + " bytes are as they should be";
  out->done = true;
}

Task<void> release(client::Filesystem& fs, std::shared_ptr<client::Handle> h) {
  co_await fs.release(std::move(h));
}

}  // namespace

TEST_CASE("stripes: every result is that of a local filesystem") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, seed % 2));
    run.begin(120);
    run.finish();
    run.check(Equality::kExact);
  });
}

TEST_CASE("stripes: OSDs are away for longer than their lease, as many as there is parity") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, seed % 2));
    run.begin(120);
    while (run.go(upTo(run.cluster.world, 1s))) {
      longAbsence(run, poolOf(seed).parity);
      run.cluster.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("stripes: OSDs are away for long, while the network and the other daemons fail too") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, seed % 2));
    run.begin(100);
    SimWorld& world = run.cluster.world;
    while (run.go(upTo(world, 1s))) {
      switch (world.random().below(3)) {
        case 0:
          longAbsence(run, poolOf(seed).parity);
          break;
        case 1:
          untilStaged(run);
          killDaemon(run);
          break;
        default:
          disturb(run, 4s);
      }
    }
    run.finish();
    world.run(5s);
    run.cluster.waitForService();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("stripes: disks are lost, and what they held is made from the others") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, 1, 3s));
    SimCluster& c = run.cluster;
    run.begin(120);
    for (int round = 0; round < 2; ++round) {
      run.go(upTo(c.world, 2s));
      // As many as the rest can replace at once, or as many as the code can do without.
      const bool one = c.world.chance(0.5);
      const auto lost = someOsds(c, one ? 1 : poolOf(seed).parity);
      untilStaged(run);
      std::vector<OsdId> gone;
      for (size_t i : lost) {
        gone.push_back(c.osd(i).id());
        c.loseOsd(i);
      }
      c.world.run(6s);  // down, then out
      run.judge();
      if (one)
        REQUIRE_MESSAGE(c.world.runUntil([&] { return c.whole(); }, 120s),
                        "what was lost is not made again");
      // Groups that take no changes without them keep them in mind.
      for (OsdId id : gone) removeOsd(c, id, !one);
      for (size_t i : lost) c.startOsd(i);  // a new disk
      c.waitForService();
    }
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("stripes: OSDs are put out and in while there is work, and fail meanwhile") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, 1));
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    run.begin(100);
    size_t out = c.options().osds;
    while (run.go(upTo(world, 1500ms))) {
      if (out == c.options().osds) {
        out = world.random().below(c.options().osds);
        putIn(c, c.osd(out).id(), false);
      } else {
        putIn(c, c.osd(std::exchange(out, c.options().osds)).id(), true);
      }
      if (world.chance(0.5))
        world.chance(0.5) ? longAbsence(run, poolOf(seed).parity) : disturb(run, 2s);
    }
    run.finish();
    world.run(5s);
    c.waitForService();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE("stripes: power is lost everywhere; what was acknowledged is there") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, seed % 2));
    SimCluster& c = run.cluster;
    for (int round = 0; round < 3; ++round) {
      run.begin(1000);
      run.go(upTo(c.world, 3s));
      if (c.world.chance(0.3)) {
        killDaemon(run);
        run.go(upTo(c.world, 300ms));
      }
      if (c.world.chance(0.8)) untilStaged(run);
      c.losePower();
      run.judge();
      c.startDaemons();
      run.mountAll();
      run.breakLock();
      run.verify();
    }
    run.begin(40);
    run.finish();
    run.check(Equality::kBelowSize);
  });
}

TEST_CASE(
    "stripes: with more away than there is parity nothing is served, and all is there again") {
  forSeeds(2, [](uint64_t seed) {
    Run run(seed, striped(seed, 0));  // all OSDs are in every group
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    client::Filesystem& fs = c.fs(0);
    auto file = world.await(c.clientNode(0), makeFile(c.clientEnv(0), fs));
    REQUIRE(file.has_value());
    REQUIRE_MESSAGE(file->has_value(), file->error().text());
    run.begin(100);
    for (char written : {'b', 'c'}) {
      run.go(upTo(world, 1500ms));
      const size_t most = c.options().osds - poolOf(seed).parity - 1;
      const auto which = someOsds(c, poolOf(seed).parity + 1 + world.random().below(most + 1));
      auto write = std::make_shared<Asked>(), read = std::make_shared<Asked>();
      if (world.chance(0.7)) untilStaged(run);
      sendAway(c, which, [&] {
        const bool noticed = world.runUntil(
            [&] {
              const auto& osds = c.mds().state().map().osds;
              return static_cast<size_t>(std::ranges::count_if(
                         osds, [](const auto& o) { return !o.second.up; })) == which.size();
            },
            10s);
        REQUIRE_MESSAGE(noticed, "the MDS does not see who is away");
        world.run(2s);  // and the others know
        c.clientNode(0).spawn(askWrite(c.clientEnv(0), fs, **file, written, write));
        c.clientNode(0).spawn(askRead(fs, **file, 0, 'a', read));
        world.run(2s + upTo(world, 8s));
        CHECK_FALSE(write->done);
        CHECK_FALSE(read->done);
      });
      c.waitForService();
      REQUIRE_MESSAGE(world.runUntil([&] { return write->done && read->done; }, 60s),
                      "what was asked meanwhile is never answered");
      CHECK_MESSAGE(write->failure.empty(), write->failure);
      CHECK_MESSAGE(read->failure.empty(), read->failure);
      auto back = std::make_shared<Asked>();
      REQUIRE(world.await(c.clientNode(0), askRead(fs, **file, kAskedBytes, written, back)));
      CHECK_MESSAGE(back->failure.empty(), back->failure);
    }
    run.finish();
    REQUIRE(world.await(c.clientNode(0), release(fs, std::move(**file))));
    file.reset();
    run.check(Equality::kBelowSize);
  });
}

}  // namespace cairn::sim::test
