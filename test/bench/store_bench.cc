// What the chunk store does on a real disk: durable 4 KiB writes, large writes and reads, random
// reads, new small chunks. Makes a store in DIR, which must be on a file system with direct I/O,
// and removes it afterwards.
//
//   store_bench DIR [SECONDS]
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "common/crc/crc32c.h"
#include "common/disk/uring_disk.h"
#include "common/kv/kv.h"
#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/net/uring_network.h"
#include "common/reactor/uring_reactor.h"
#include "osd/store.h"

using namespace cairn;
using namespace cairn::osd;

namespace {

using Wall = std::chrono::steady_clock;
constexpr uint64_t kChunks = 32;  // 2 GiB of data
constexpr uint64_t kStoreBytes = 6 * kGiB;

[[noreturn]] void fatal(const std::string& why) {
  std::fprintf(stderr, "store_bench: %s\n", why.c_str());
  std::exit(1);
}

double cpuSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

class Bench {
 public:
  using Op = Task<Result<void>> (*)(Bench&, uint64_t);

  Bench(Env& env, Store& store, double seconds) : env_(env), store_(store), seconds_(seconds) {
    data_ = env.buffers.get(kMiB);
    for (uint64_t at = 0; at < kMiB; at += 8) {
      uint64_t v = env.random.next();
      std::memcpy(data_.data() + at, &v, 8);
    }
    for (uint64_t at = 0; at < kMiB; at += kBlockSize)
      crcs_.push_back(crc32c(data_.bytes().subspan(at, kBlockSize)));
  }

  // `depth` at a time until the time is over, or `most` operations.
  Task<void> run(const char* what, size_t depth, uint64_t bytes, uint64_t most, Op op) {
    latenciesUs_.clear();
    next_ = 0;
    most_ = most;
    const auto from = Wall::now();
    const double cpuFrom = cpuSeconds();
    end_ =
        from + std::chrono::duration_cast<Wall::duration>(std::chrono::duration<double>(seconds_));
    std::vector<Task<void>> workers;
    for (size_t i = 0; i < depth; ++i) workers.push_back(worker(op));
    co_await whenAll(env_.reactor, std::move(workers));
    const double spent = std::chrono::duration<double>(Wall::now() - from).count();
    const auto n = static_cast<double>(latenciesUs_.size());
    std::ranges::sort(latenciesUs_);
    std::printf(
        "%-34s depth %2zu  %8.0f /s  %7.1f MiB/s  p50 %6.0f us  p99 %6.0f us  %5.1f us CPU\n", what,
        depth, n / spent, n * static_cast<double>(bytes) / spent / kMiB,
        latenciesUs_[latenciesUs_.size() / 2], latenciesUs_[latenciesUs_.size() * 99 / 100],
        (cpuSeconds() - cpuFrom) * 1e6 / n);
    std::fflush(stdout);
  }

  static Task<Result<void>> overwrite4k(Bench& b, uint64_t) {
    return b.write(b.anyChunk(), b.anyBlock(), 1);
  }
  static Task<Result<void>> sequential1m(Bench& b, uint64_t i) {
    return b.write(ChunkId(1 + i / 64 % kChunks), i % 64 * 256, 256);
  }
  static Task<Result<void>> newChunk4k(Bench& b, uint64_t) {
    return b.write(ChunkId(b.newChunk_++), 0, 1);
  }
  static Task<Result<void>> read4k(Bench& b, uint64_t) {
    return b.read(b.anyChunk(), b.anyBlock(), 1);
  }
  static Task<Result<void>> read1m(Bench& b, uint64_t i) {
    return b.read(ChunkId(1 + i / 64 % kChunks), i % 64 * 256, 256);
  }

 private:
  ChunkId anyChunk() { return ChunkId(1 + env_.random.below(kChunks)); }
  uint64_t anyBlock() { return env_.random.below(kBlocksPerChunk); }

  Task<void> worker(Op op) {
    while (Wall::now() < end_ && next_ < most_) {
      const uint64_t i = next_++;
      const auto from = Wall::now();
      if (auto done = co_await op(*this, i); !done) fatal(done.error().text());
      latenciesUs_.push_back(std::chrono::duration<double, std::micro>(Wall::now() - from).count());
    }
  }

  Task<Result<void>> write(ChunkId chunk, uint64_t block, uint64_t blocks) {
    uint64_t from = blocks == 1 ? env_.random.below(256) : 0;
    std::vector<uint32_t> crcs(crcs_.begin() + static_cast<ptrdiff_t>(from),
                               crcs_.begin() + static_cast<ptrdiff_t>(from + blocks));
    co_return co_await store_.write(chunk, static_cast<uint32_t>(block * kBlockSize),
                                    data_.slice(from * kBlockSize, blocks * kBlockSize),
                                    std::move(crcs),
                                    {{PoolId(1), PgIndex(0)}, ChunkVersion(++version_), {}});
  }
  Task<Result<void>> read(ChunkId chunk, uint64_t block, uint64_t blocks) {
    auto data = co_await store_.read(chunk, static_cast<uint32_t>(block * kBlockSize),
                                     static_cast<uint32_t>(blocks * kBlockSize));
    CO_TRY(data);
    co_return Result<void>();
  }

  Env& env_;
  Store& store_;
  const double seconds_;
  Buffer data_;
  std::vector<uint32_t> crcs_;
  std::vector<double> latenciesUs_;
  uint64_t next_ = 0, most_ = 0, version_ = 0, newChunk_ = 1000;
  Wall::time_point end_;
};

Task<Result<void>> measure(Env& env, std::string directory, double seconds) {
  StoreOptions options;
  options.directory = directory;
  options.sizeBytes = kStoreBytes;
  CO_TRY(co_await Store::create(env, options, Uuid{1, 1}));
  auto store = co_await Store::open(env, options);
  CO_TRY(store);
  Bench bench(env, **store, seconds);
  constexpr uint64_t kAll = kChunks * 64;
  co_await bench.run("1 MiB writes, new", 4, kMiB, kAll, Bench::sequential1m);
  co_await bench.run("1 MiB writes, new and over", 4, kMiB, kAll, Bench::sequential1m);
  co_await bench.run("1 MiB writes", 1, kMiB, kAll, Bench::sequential1m);
  for (size_t depth : {1, 8, 32})
    co_await bench.run("4 KiB random overwrites", depth, kBlockSize, UINT64_MAX,
                       Bench::overwrite4k);
  for (size_t depth : {1, 32})
    co_await bench.run("4 KiB new chunks", depth, kBlockSize, 200'000, Bench::newChunk4k);
  for (size_t depth : {1, 16, 32})
    co_await bench.run("4 KiB random reads", depth, kBlockSize, UINT64_MAX, Bench::read4k);
  for (size_t depth : {1, 4}) co_await bench.run("1 MiB reads", depth, kMiB, kAll, Bench::read1m);
  const auto from = Wall::now();
  co_await (*store)->close();
  std::printf("close %.3f s\n", std::chrono::duration<double>(Wall::now() - from).count());
  store->reset();
  const auto again = Wall::now();
  auto reopened = co_await Store::open(env, options);
  CO_TRY(reopened);
  std::printf("open %.3f s\n", std::chrono::duration<double>(Wall::now() - again).count());
  co_await (*reopened)->close();
  co_return Result<void>();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) fatal("usage: store_bench DIR [SECONDS]");
  const std::string directory = std::string(argv[1]) + "/store_bench";
  const double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 3;
  BufferPool buffers(256 * kMiB, 64 * kMiB);
  auto reactor = UringReactor::create();
  if (!reactor) fatal(reactor.error().text());
  (void)(*reactor)->registerArena(buffers.arena());
  Log log((*reactor)->clock(), 2, "bench");
  MetricsRegistry metrics;
  SeededRandom random(1);
  UringNetwork network(**reactor);
  UringDisk disk(**reactor);
  auto kv = makeLevelKvFactory();
  Env env{**reactor, random, network, disk, *kv, buffers, log, metrics};
  auto done = (*reactor)->run(measure(env, directory, seconds));
  std::filesystem::remove_all(directory);
  if (!done) fatal(done.error().text());
  return 0;
}
