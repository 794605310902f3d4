// A store in a simulated process, for tests: open, crash, open again.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/crc/crc32c.h"
#include "common/sim/sim_world.h"
#include "osd/store.h"

namespace cairn::osd::test {

inline constexpr Uuid kStoreCluster{0xc1, 0x05};
inline const char* const kDirectory = "/osd";
inline const char* const kHost = "host";

inline StoreOptions smallStore() {
  StoreOptions o;
  o.directory = kDirectory;
  o.sizeBytes = 64 * kMiB;
  o.walBytes = 4 * kMiB;
  o.cacheBytes = 256 * kKiB;
  o.reserveBytes = kMiB;
  return o;
}

// Where a mutation is put that does not say it.
inline constexpr GroupId kGroup{PoolId(1), PgIndex(0)};
inline constexpr GroupId kOther{PoolId(1), PgIndex(1)};

inline Stamp stampOf(uint64_t version, GroupId group = kGroup, uint64_t committed = 0) {
  return {group, ChunkVersion(version), ChunkVersion(committed)};
}

inline std::vector<uint32_t> crcsOf(const Buffer& data) {
  std::vector<uint32_t> crcs;
  for (size_t at = 0; at < data.size(); at += kBlockSize)
    crcs.push_back(crc32c(data.bytes().subspan(at, kBlockSize)));
  return crcs;
}

// The bytes of a block that carries `tag`; of tag 0, zeros.
inline void fillBlock(uint64_t tag, MutBytes block) {
  uint64_t x = tag;
  for (size_t at = 0; at < block.size(); at += 8) {
    std::memcpy(block.data() + at, &x, 8);
    if (tag != 0) x = x * 0x9e3779b97f4a7c15u + tag;
  }
}

inline uint64_t tagOf(Bytes block) {
  uint64_t tag = 0;
  std::memcpy(&tag, block.data(), 8);
  uint8_t expected[kBlockSize];
  fillBlock(tag, expected);
  CHECK(std::memcmp(expected, block.data(), kBlockSize) == 0);
  return tag;
}

// Blocks with tags from `tag` on.
inline Buffer tagged(BufferPool& pool, uint64_t tag, size_t blocks) {
  Buffer data = pool.get(blocks * kBlockSize);
  for (size_t i = 0; i < blocks; ++i)
    fillBlock(tag + i, data.bytes().subspan(i * kBlockSize, kBlockSize));
  return data;
}

class StoreHost {
 public:
  explicit StoreHost(uint64_t seed, StoreOptions o = smallStore()) : world(seed), options(o) {
    restart();
  }
  ~StoreHost() {
    if (store && node->alive()) world.kill(*node);
    stop();
  }

  // A new process, without a store yet. The old one has ended.
  void restart() {
    node = &world.addNode(kHost);
    env_ = std::make_unique<Env>(node->env());
  }
  Errc create() {
    Env& env = *env_;
    auto made = world.await(*node, Store::create(env, options, kStoreCluster));
    REQUIRE(made);
    if (!*made) error = made->error();
    return *made ? Errc::kOk : made->error().code;
  }
  Errc open() {
    Env& env = *env_;
    auto opened = world.await(*node, Store::open(env, options));
    REQUIRE(opened);
    if (!*opened) {
      error = opened->error();
      return opened->error().code;
    }
    store = std::move(**opened);
    return Errc::kOk;
  }
  void mustOpen() {
    Errc code = open();
    REQUIRE_MESSAGE(code == Errc::kOk, error.text());
  }
  void createAndOpen() {
    REQUIRE(create() == Errc::kOk);
    mustOpen();
  }
  // Ends the store's tasks, cleanly if the process is alive, and frees it.
  void stop() {
    if (store) CHECK(world.await(*node, store->close()));
    CHECK(world.drain(*node));
    store.reset();
  }
  void crash(sim::Crash how) {
    world.crash(*node, how);
    stop();
    restart();
  }
  void reopen() {
    stop();
    restart();
    mustOpen();
  }
  CheckResult check(std::vector<std::string>* lines = nullptr) {
    Env& env = *env_;
    auto result = world.await(*node, checkStore(env, options, [lines](const std::string& line) {
      if (lines) lines->push_back(line);
    }));
    REQUIRE(result);
    REQUIRE_MESSAGE(*result, result->error().text());
    return **result;
  }

  // ---- One operation, to its end ----
  Errc write(uint64_t chunk, uint32_t block, uint64_t tag, size_t blocks, uint64_t version,
             Store::InParts inParts = Store::InParts::kIfNeeded) {
    Buffer data = tagged(node->buffers(), tag, blocks);
    auto crcs = crcsOf(data);
    return code(world.await(*node, store->write(ChunkId(chunk), block * kBlockSize, data, crcs,
                                                stampOf(version), inParts)));
  }
  Errc zero(uint64_t chunk, uint32_t block, uint32_t blocks, uint64_t version) {
    return code(world.await(*node, store->zero(ChunkId(chunk), block * kBlockSize,
                                               blocks * kBlockSize, stampOf(version))));
  }
  Errc allocate(uint64_t chunk, uint32_t block, uint32_t blocks, uint64_t version) {
    return code(world.await(*node, store->allocate(ChunkId(chunk), block * kBlockSize,
                                                   blocks * kBlockSize, stampOf(version))));
  }
  Errc clone(uint64_t source, uint32_t from, uint64_t target, uint32_t to, uint32_t blocks,
             uint64_t version) {
    return code(
        world.await(*node, store->clone(ChunkId(source), from * kBlockSize, ChunkId(target),
                                        to * kBlockSize, blocks * kBlockSize, stampOf(version))));
  }
  Errc remove(std::vector<uint64_t> chunks, uint64_t version = 1) {
    std::vector<ChunkId> ids;
    for (uint64_t c : chunks) ids.emplace_back(c);
    return code(world.await(*node, store->remove(ids, stampOf(version))));
  }
  Result<ReadData> read(uint64_t chunk, uint32_t block, uint32_t blocks) {
    auto data =
        world.await(*node, store->read(ChunkId(chunk), block * kBlockSize, blocks * kBlockSize));
    REQUIRE(data);
    return std::move(*data);
  }
  // The tags of the blocks; checks the checksums that come with them.
  std::vector<uint64_t> tags(uint64_t chunk, uint32_t block, uint32_t blocks) {
    auto data = read(chunk, block, blocks);
    REQUIRE_MESSAGE(data, data.error().text());
    std::vector<uint64_t> out(blocks);
    if (data->hole) {
      CHECK(data->data.empty());
      CHECK(data->crcs.empty());
      return out;
    }
    REQUIRE(data->data.size() == blocks * kBlockSize);
    REQUIRE(data->crcs.size() == blocks);
    for (uint32_t i = 0; i < blocks; ++i) {
      Bytes bytes = data->data.bytes().subspan(i * kBlockSize, kBlockSize);
      CHECK(crc32c(bytes) == data->crcs[i]);
      out[i] = tagOf(bytes);
    }
    return out;
  }

  std::shared_ptr<sim::StoredFile> blockFile() {
    return world.machine(kHost).disk.find(std::string(kDirectory) + "/block");
  }

  sim::SimWorld world;
  StoreOptions options;
  sim::SimNode* node = nullptr;
  std::unique_ptr<Store> store;
  Error error;  // of the last create() or open() that failed

 private:
  std::unique_ptr<Env> env_;  // outlives what was opened with it
  Errc code(const std::optional<Result<void>>& r) {
    REQUIRE(r);
    if (!*r) error = r->error();
    return *r ? Errc::kOk : r->error().code;
  }
};

inline std::vector<uint64_t> range(uint64_t from, size_t n) {
  std::vector<uint64_t> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = from + i;
  return v;
}

// The offline checker finds nothing; the store is open again afterwards.
inline void checkClean(StoreHost& host) {
  host.stop();
  host.restart();
  std::vector<std::string> lines;
  auto result = host.check(&lines);
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  CHECK_MESSAGE(result.clean(), text);
  host.restart();
  host.mustOpen();
}

inline Errc drop(StoreHost& host, GroupId group) {
  auto done = host.world.await(*host.node, host.store->dropGroup(group));
  REQUIRE(done);
  return *done ? Errc::kOk : done->error().code;
}

inline Changed changed(uint64_t version, uint64_t chunk, bool removed = false) {
  return {ChunkVersion(version), ChunkId(chunk), removed};
}

}  // namespace cairn::osd::test
