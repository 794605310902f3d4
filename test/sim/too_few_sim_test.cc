// With fewer OSDs than the data needs nothing is served, neither read nor written, and all of it is
// there again when they return.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>

#include "test/sim/failures.h"
#include "test/sim/redundancy.h"
#include "test/sim/seeds.h"

namespace cairn::sim::test {
namespace {

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

TEST_CASE("OSDs: with too few of them nothing is served, and all is there again") {
  forSeeds(4, [](uint64_t seed) {
    Run run(seed, copiesOrShards(seed, 0));  // all OSDs are in every group
    SimCluster& c = run.cluster;
    SimWorld& world = c.world;
    client::Filesystem& fs = c.fs(0);
    auto file = world.await(c.clientNode(0), makeFile(c.clientEnv(0), fs));
    REQUIRE(file.has_value());
    REQUIRE_MESSAGE(file->has_value(), file->error().text());
    run.begin(100);
    const size_t needed = c.options().striped ? c.options().striped->data : 1;
    for (char written : {'b', 'c'}) {
      run.go(upTo(world, 1500ms));
      const auto which = someOsds(c, c.osds() - world.random().below(needed));
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
