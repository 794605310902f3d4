// The store on a real file, io_uring and LevelDB on the host: a short walk through everything.
#include <doctest/doctest.h>
#include <cstring>

#include <cstring>
#include <filesystem>

#include "common/crc/crc32c.h"
#include "common/disk/uring_disk.h"
#include "common/kv/kv.h"
#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/net/uring_network.h"
#include "osd/store.h"
#include "test/unit/common/disk/scratch_dir.h"
#include "test/unit/common/reactor/make_reactor.h"

using namespace cairn;
using namespace cairn::osd;

namespace {

struct Host {
  BufferPool buffers;
  std::unique_ptr<UringReactor> reactor = makeReactor();
  Log log{reactor->clock(), 2, "test"};
  MetricsRegistry metrics;
  SeededRandom random{99};
  UringNetwork network{*reactor};
  UringDisk disk{*reactor};
  std::unique_ptr<KvFactory> kv = makeLevelKvFactory();
  Env env{*reactor, random, network, disk, *kv, buffers, log, metrics};
  ScratchDir dir;

  StoreOptions options() {
    StoreOptions o;
    o.directory = dir.path("osd/deep");
    o.sizeBytes = 64 * kMiB;
    o.walBytes = 4 * kMiB;
    return o;
  }
  Buffer data(uint64_t seed, size_t blocks) {
    Buffer b = buffers.get(blocks * kBlockSize);
    SeededRandom r(seed);
    for (size_t at = 0; at < b.size(); at += 8) {
      uint64_t v = r.next();
      std::memcpy(b.data() + at, &v, 8);
    }
    return b;
  }
};

Task<Result<void>> writeOne(Host& h, Store& store, uint64_t chunk, uint64_t seed, size_t blocks) {
  Buffer data = h.data(seed, blocks);
  auto crcs = blockCrcs(0, data.bytes());
  co_return co_await store.write(ChunkId(chunk), 0, data, std::move(crcs),
                                 {{PoolId(1), PgIndex(0)}, ChunkVersion(seed), {}});
}

Task<void> checkOne(Host& h, Store& store, uint64_t chunk, uint64_t seed, size_t blocks) {
  auto got = co_await store.read(ChunkId(chunk), 0, static_cast<uint32_t>(blocks * kBlockSize));
  REQUIRE_MESSAGE(got, got.error().text());
  Buffer expected = h.data(seed, blocks);
  REQUIRE(got->data.size() == expected.size());
  CHECK(std::memcmp(got->data.data(), expected.data(), expected.size()) == 0);
}

Task<void> body(Host& h) {
  auto made = co_await Store::create(h.env, h.options(), Uuid{5, 6});
  REQUIRE_MESSAGE(made, made.error().text());
  CHECK((co_await Store::create(h.env, h.options(), Uuid{5, 6})).error().code == Errc::kExists);
  for (uint64_t round = 1; round <= 3; ++round) {
    auto store = co_await Store::open(h.env, h.options());
    REQUIRE_MESSAGE(store, store.error().text());
    CHECK((co_await Store::open(h.env, h.options())).error().code == Errc::kBusy);
    if (round > 1)
      for (uint64_t c = 1; c <= 40; ++c)
        co_await checkOne(h, **store, c, (round - 1) * 100 + c, c % 3 == 0 ? 200 : c % 15 + 1);
    std::vector<Task<Result<void>>> writes;
    for (uint64_t c = 1; c <= 40; ++c)
      writes.push_back(writeOne(h, **store, c, round * 100 + c, c % 3 == 0 ? 200 : c % 15 + 1));
    for (auto& r : co_await whenAll(*h.reactor, std::move(writes))) CHECK(r);
    // Many small ones, so that the log goes round with checkpoints.
    for (uint64_t i = 0; i < 600; ++i)
      CHECK((co_await writeOne(h, **store, 100 + i % 7, i + 1, 1)));
    for (uint64_t c = 1; c <= 40; ++c)
      co_await checkOne(h, **store, c, round * 100 + c, c % 3 == 0 ? 200 : c % 15 + 1);
    co_await (*store)->close();
  }
  auto checked = co_await checkStore(h.env, h.options(), [](const std::string&) {});
  REQUIRE(checked);
  CHECK(checked->clean());
  CHECK(checked->chunks == 47);
}

Task<void> failingBody(Host& h) {
  auto options = h.options();
  options.sizeBytes = uint64_t{1} << 50;  // more than any test machine has
  auto made = co_await Store::create(h.env, options, Uuid{5, 6});
  REQUIRE(!made);
  CHECK((made.error().code == Errc::kNoSpace || made.error().code == Errc::kTooBig));
}

}  // namespace

TEST_CASE("store: on io_uring and the host's LevelDB") {
  Host h;
  h.reactor->run(body(h));
}

TEST_CASE("store: a create that failed leaves no file on the host") {
  Host h;
  h.reactor->run(failingBody(h));
  CHECK(!std::filesystem::exists(h.dir.path("osd/deep")));
}
