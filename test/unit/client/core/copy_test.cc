// copy_file_range: what is cloned by the OSDs and what is moved, and that both read right.
#include <fcntl.h>
#include <linux/falloc.h>

#include <doctest/doctest.h>

#include <algorithm>

#include "test/unit/client/core/fake_cluster.h"

using namespace cairn;
using namespace cairn::client;
using namespace cairn::client::test;

namespace {

using HandlePtr = std::shared_ptr<Handle>;

Result<uint64_t> copy(FakeCluster& c, const HandlePtr& in, uint64_t from, const HandlePtr& out,
                      uint64_t to, uint64_t length) {
  return c.run(c.fs->copyRange(in, from, out, to, length));
}

// As cp(1): until nothing more comes.
uint64_t copyAll(FakeCluster& c, const HandlePtr& in, uint64_t from, const HandlePtr& out,
                 uint64_t to, uint64_t length) {
  uint64_t done = 0;
  while (done < length) {
    auto n = copy(c, in, from + done, out, to + done, length - done);
    REQUIRE_MESSAGE(n, (n ? "" : n.error().text()));
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

uint64_t written(const FakeCluster& c) {
  uint64_t bytes = 0;
  for (const auto& e : c.events)
    if (e.starts_with("osd write ")) bytes += std::stoull(e.substr(e.rfind(' ')));
  return bytes;
}

// Some of a file's bytes here and there, in three chunks and a bit.
void scatter(FakeCluster& c, const HandlePtr& h, uint64_t seed) {
  for (uint64_t at :
       {uint64_t{0}, kChunkSize - 100'000, 2 * kChunkSize + 500'000, 3 * kChunkSize + 12'345})
    REQUIRE(c.write(h, at, pattern(300'000, seed + at)));
}

std::string sparseRead(FakeCluster& c, const HandlePtr& h) {
  std::string out;
  for (uint64_t at :
       {uint64_t{0}, kChunkSize - 200'000, 2 * kChunkSize + 400'000, 3 * kChunkSize - 100'000})
    for (uint32_t i = 0; i < 5; ++i) out += c.read(h, at + i * 100'000, 100'000);
  return out;
}

}  // namespace

TEST_CASE("copy: a file is cloned chunk by chunk, and only the end of its last block moves") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  scatter(c, from, 1);
  REQUIRE(c.run(c.fs->fsync(from)));
  const uint64_t size = c.mds.file("from").size;
  c.events.clear();
  CHECK(copyAll(c, from, 0, to, 0, 1 << 30) == size);
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK(c.count("osd clone") == 4);
  CHECK(written(c) == size % kBlockSize);
  CHECK(c.mds.file("to").size == size);
  CHECK(c.mds.executed["replaced"] <= 1);  // the chunk that create() made, before it held anything
  CHECK(c.storage.reads <= 1);             // the last block
  for (int round = 0; round < 2; ++round) {
    CHECK((sparseRead(c, to) == sparseRead(c, from)));
    CHECK((c.stored("to") == c.stored("from")));
    c.remount();
    from = c.open("from");
    to = c.open("to");
  }
  // And apart.
  REQUIRE(c.write(from, 5000, "from"));
  REQUIRE(c.write(to, 5000, "to"));
  REQUIRE(c.run(c.fs->fsync(from)));
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK(c.read(from, 5000, 4) == "from");
  CHECK(c.read(to, 5000, 2) == "to");
}

TEST_CASE("copy: what the source has not flushed is copied, over what the target has not flushed") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto from = c.create("from"), to = c.create("to");
  const std::string data = pattern(700'000, 1);
  REQUIRE(c.write(from, 0, data));
  REQUIRE(c.write(to, 0, std::string(300'000, 'x')));
  REQUIRE(c.write(to, 800'000, "behind"));
  c.events.clear();
  CHECK(copyAll(c, from, 0, to, 0, 700'000) == 700'000);
  CHECK(c.read(to, 0, 700'000) == data);
  CHECK(c.read(to, 700'000, 100'006) == std::string(100'000, '\0') + "behind");
  REQUIRE(c.run(c.fs->fsync(to)));
  std::string all = data + std::string(100'000, '\0') + "behind";
  CHECK((c.stored("to") == all));
}

TEST_CASE("copy: what was read of the target before is forgotten") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, pattern(2 * kMiB, 1)));
  CHECK(copyAll(c, from, 0, to, 0, 2 * kMiB) == 2 * kMiB);
  CHECK(c.read(to, 0, kMiB) == pattern(2 * kMiB, 1).substr(0, kMiB));
  REQUIRE(c.write(from, 0, pattern(2 * kMiB, 2)));
  c.events.clear();
  CHECK(copyAll(c, from, 0, to, 0, 2 * kMiB) == 2 * kMiB);
  CHECK(c.count("osd clone") == 1);  // its chunk is in the right group now
  CHECK(c.read(to, 0, kMiB) == pattern(2 * kMiB, 2).substr(0, kMiB));
}

TEST_CASE("copy: edges inside blocks move, the blocks between are cloned") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  const std::string data = pattern(1'000'000, 1);
  REQUIRE(c.write(from, 0, data));
  REQUIRE(c.write(to, 0, "#"));
  REQUIRE(c.run(c.fs->fsync(from)));
  c.events.clear();
  CHECK(copyAll(c, from, 1000, to, kChunkSize + 1000, 900'000) == 900'000);
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK(c.count("osd clone") == 1);
  CHECK(written(c) <= 2 * kBlockSize + 1);
  CHECK((c.read(to, kChunkSize + 1000, 900'000) == data.substr(1000, 900'000)));
  CHECK(c.read(to, kChunkSize, 1000) == std::string(1000, '\0'));
  CHECK(c.mds.file("to").size == kChunkSize + 901'000);
}

TEST_CASE("copy: to another place of the chunk, or less than is worth it, bytes are moved") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  const std::string data = pattern(1'000'000, 1);
  REQUIRE(c.write(from, 0, data));
  c.events.clear();
  CHECK(copyAll(c, from, 0, to, 4096, 1'000'000) == 1'000'000);
  CHECK(copyAll(c, from, 0, to, 2 * kChunkSize, 50'000) == 50'000);
  CHECK((c.read(to, 4096, 1'000'000) == data));
  CHECK((c.read(to, 2 * kChunkSize, 50'000) == data.substr(0, 50'000)));
  CHECK(c.count("osd clone") == 0);
}

TEST_CASE("copy: within one file, from chunk to chunk") {
  FakeCluster c;
  auto h = c.create("f");
  const std::string data = pattern(500'000, 1);
  REQUIRE(c.write(h, 100, data));
  CHECK(copyAll(c, h, 0, h, 2 * kChunkSize, 500'100) == 500'100);
  CHECK(c.count("osd clone") == 1);
  CHECK((c.read(h, 2 * kChunkSize, 500'100) == std::string(100, '\0') + data));
  CHECK((c.read(h, 100, 500'000) == data));
  CHECK(copy(c, h, 0, h, 4096, 100'000).error().code == Errc::kInvalid);
}

TEST_CASE("copy: a chunk of the target that lies elsewhere stays when the file shows it") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto from = c.create("from"), to = c.create("to");
  const auto& pool = c.mds.map.pools[kPool];
  REQUIRE(pool.pgOf(ChunkId{c.mds.file("from").chunks[0]}) !=
          pool.pgOf(ChunkId{c.mds.file("to").chunks[0]}));
  const std::string data = pattern(2 * kMiB, 1);
  REQUIRE(c.write(from, 0, data));
  // The MDS knows of no size yet.
  REQUIRE(c.write(to, 1 * kMiB + 500, pattern(2 * kMiB, 2)));
  c.world.run(1s);
  REQUIRE(c.mds.file("to").size == 0);
  const uint64_t chunk = c.mds.file("to").chunks[0];
  CHECK(copyAll(c, from, 0, to, 0, kMiB) == kMiB);
  CHECK(c.mds.file("to").chunks[0] == chunk);
  CHECK(c.count("osd clone") == 0);
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK((c.stored("to") == data.substr(0, kMiB) + std::string(500, '\0') + pattern(2 * kMiB, 2)));
}

TEST_CASE("copy: data that only this client knows of is never in a chunk that is replaced") {
  // The MDS believes both chunks of the target to lie behind its end.
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, pattern(kMiB, 1)));
  REQUIRE(c.write(from, kChunkSize, pattern(kMiB, 2)));
  REQUIRE(c.run(c.fs->fsync(from)));
  REQUIRE(c.write(to, kChunkSize + 3 * kMiB, pattern(2 * kMiB, 3)));
  c.world.run(1s);
  REQUIRE(c.mds.file("to").size == 0);
  CHECK(copyAll(c, from, 0, to, 0, kChunkSize + kMiB) == kChunkSize + kMiB);
  CHECK((c.read(to, kChunkSize + 3 * kMiB, kMiB) == pattern(2 * kMiB, 3).substr(0, kMiB)));
  REQUIRE(c.run(c.fs->fsync(to)));
  auto stored = c.stored("to");
  CHECK((stored.substr(kChunkSize + 3 * kMiB) == pattern(2 * kMiB, 3)));
  CHECK((stored.substr(0, kMiB) == pattern(kMiB, 1)));
  CHECK((stored.substr(kChunkSize, kMiB) == pattern(kMiB, 2)));
}

TEST_CASE(
    "copy: holes of the source are holes of the target, also a chunk that was never written") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 2 * kChunkSize + kMiB, pattern(kMiB, 1)));  // 0 was made, 1 never
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(c.write(to, i * kChunkSize + 1000, pattern(kMiB, 5)));
  REQUIRE(c.write(to, 3 * kChunkSize, "end"));
  REQUIRE(c.run(c.fs->fsync(from)));
  REQUIRE(c.run(c.fs->fsync(to)));
  REQUIRE(c.mds.file("from").chunks.contains(0));
  REQUIRE_FALSE(c.mds.file("from").chunks.contains(1));
  const uint64_t length = 2 * kChunkSize + 2 * kMiB;
  CHECK(copyAll(c, from, 0, to, 0, length) == length);
  REQUIRE(c.run(c.fs->fsync(to)));
  auto expected = c.stored("from");
  auto got = c.stored("to");
  CHECK((got.substr(0, length) == expected));
  CHECK(got.substr(3 * kChunkSize) == "end");
  // To a new file nothing is stored for them.
  auto fresh = c.create("fresh");
  const size_t before = c.storage.blocks();
  CHECK(copyAll(c, from, 0, fresh, 0, length) == length);
  REQUIRE(c.run(c.fs->fsync(fresh)));
  CHECK(c.storage.blocks() == before + kMiB / kBlockSize);
  CHECK((c.stored("fresh") == expected));
}

TEST_CASE("copy: a hole is copied over bytes for which there was no chunk yet") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 2 * kChunkSize, "end"));
  REQUIRE(c.write(to, kChunkSize + kMiB, pattern(300'000, 1)));
  CHECK(copyAll(c, from, kChunkSize, to, kChunkSize, 2 * kMiB) == 2 * kMiB);
  CHECK((c.read(to, kChunkSize + kMiB, 300'000) == std::string(300'000, '\0')));
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK((c.stored("to") == std::string(kChunkSize + 2 * kMiB, '\0')));
}

TEST_CASE("copy: old bytes behind the end of the source never come to be seen in the target") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, std::string(500'000, 'x')));
  REQUIRE(c.run(c.fs->flush(from)));
  c.run(c.fs->release(from));
  auto& f = c.mds.file("from");  // as another client's truncation leaves it
  f.size = 300'000;
  f.tailUnclean = true;
  ++f.changeVersion;
  ++f.dataVersion;
  c.remount();
  from = c.open("from");
  to = c.open("to");
  CHECK(copyAll(c, from, 0, to, 0, 1 << 30) == 300'000);
  CHECK(c.count("osd clone") == 1);
  REQUIRE(c.write(to, 400'000, "end"));
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK((c.stored("to") == std::string(300'000, 'x') + std::string(100'000, '\0') + "end"));
}

TEST_CASE("copy: the target's own unclean tail is cleaned before the file grows over it") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(to, 0, std::string(900'000, 'x')));
  REQUIRE(c.run(c.fs->flush(to)));
  c.run(c.fs->release(to));
  auto& f = c.mds.file("to");
  f.size = 5000;
  f.tailUnclean = true;
  ++f.changeVersion;
  ++f.dataVersion;
  c.remount();
  from = c.open("from");
  to = c.open("to");
  REQUIRE(c.write(from, 400'000, pattern(200'000, 1)));
  CHECK(copyAll(c, from, 409'600, to, 409'600, 190'400) == 190'400);
  REQUIRE(c.run(c.fs->fsync(to)));
  CHECK((c.stored("to") ==
         std::string(5000, 'x') + std::string(404'600, '\0') + pattern(200'000, 1).substr(9'600)));
}

TEST_CASE("copy: a chunk of the source that is removed meanwhile is looked up again") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, pattern(kMiB, 1)));
  REQUIRE(c.run(c.fs->fsync(from)));
  // Another client has replaced the file's data, which the MDS says when it is asked again.
  auto& file = c.mds.file("from");
  const uint64_t old = file.chunks[0];
  bool replaced = false;
  c.eachOsd([&](FakeOsd& o) {
    o.refuse = [&](schema::OsdRequest::Reader r) {
      if (!r.isClone() || replaced) return Errc::kOk;
      replaced = true;
      const auto& pool = c.mds.map.pools[kPool];
      uint64_t next = 5000;
      while (pool.pgOf(ChunkId{next}) != pool.pgOf(ChunkId{old})) ++next;
      file.chunks[0] = next;
      const std::string other = pattern(kMiB, 2);
      c.storage.write(next, 0, {reinterpret_cast<const uint8_t*>(other.data()), other.size()});
      c.storage.gone.insert(old);
      return Errc::kStale;
    };
  });
  CHECK(copyAll(c, from, 0, to, 0, kMiB) == kMiB);
  CHECK(replaced);
  CHECK((c.read(to, 0, kMiB) == pattern(kMiB, 2)));
}

TEST_CASE("copy: OSDs that cannot clone, or fail to, are worked around or told of") {
  for (Errc code : {Errc::kNotSupported, Errc::kIo}) {
    CAPTURE(errcName(code));
    FakeCluster c;
    auto from = c.create("from"), to = c.create("to");
    REQUIRE(c.write(from, 0, pattern(3 * kMiB, 1)));
    c.eachOsd([&](FakeOsd& o) {
      o.refuse = [code](schema::OsdRequest::Reader r) { return r.isClone() ? code : Errc::kOk; };
    });
    if (code == Errc::kIo) {
      CHECK(copy(c, from, 0, to, 0, kMiB).error().code == Errc::kIo);
      continue;
    }
    CHECK(copyAll(c, from, 0, to, 0, 3 * kMiB) == 3 * kMiB);
    REQUIRE(c.run(c.fs->fsync(to)));
    CHECK((c.stored("to") == pattern(3 * kMiB, 1)));
  }
}

TEST_CASE("copy: waiting for the target's lease keeps nobody waiting for the source's") {
  FakeCluster c;
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, pattern(kMiB, 1)));
  REQUIRE(c.run(c.fs->fsync(from)));
  c.mds.recall("to");
  const InodeId source = inoOf(c, "from"), target = inoOf(c, "to");
  REQUIRE(c.world.runUntil([&] { return !c.mds.leases.contains(target.value); }, 5s));
  c.mds.delay = 1s;  // somebody is in the way of the target's lease
  std::optional<Result<uint64_t>> done;
  auto run = [](FakeCluster& cluster, HandlePtr in, HandlePtr out,
                std::optional<Result<uint64_t>>& result) -> Task<void> {
    result = co_await cluster.fs->copyRange(std::move(in), 0, std::move(out), 0, kMiB);
  };
  c.spawn(run(c, from, to, done));
  c.world.run(100ms);
  c.mds.delay = {};
  c.mds.recall("from");
  REQUIRE(c.world.runUntil([&] { return !c.mds.leases.contains(source.value); }, 500ms));
  CHECK_FALSE(done);
  REQUIRE(c.world.runUntil([&] { return done.has_value(); }, 10s));
  CHECK((*done && **done == kMiB));
  CHECK((c.read(to, 0, kMiB) == pattern(kMiB, 1)));
}

TEST_CASE("copy: a synchronous handle's copy is committed when it returns") {
  FakeCluster c(1, {.mds = {}, .flushAge = 1h});
  auto from = c.create("from"), to = c.create("to");
  REQUIRE(c.write(from, 0, pattern(kMiB, 1)));
  auto sync = c.open("to", O_RDWR | O_SYNC);
  CHECK(copyAll(c, from, 0, sync, 0, kMiB) == kMiB);
  CHECK(c.mds.file("to").size == kMiB);
  CHECK((c.stored("to") == pattern(kMiB, 1)));
  auto later = c.create("later");
  CHECK(copyAll(c, from, 0, later, 0, kMiB) == kMiB);
  CHECK(c.mds.file("later").size == 0);
  CHECK(c.run(c.fs->getattr(inoOf(c, "later")))->size == kMiB);
}

TEST_CASE("copy: random copies between two files leave what a copy of bytes would") {
  size_t clones = 0;
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed), faults(seed + 1000);
    FakeCluster c(seed, {.mds = {},
                         .cacheBytes = 4 * kMiB,
                         .writeBufferBytes = 2 * kMiB,
                         .flushAge = Duration(1ms * (1 + random.below(200)))});
    if (seed % 2 == 0) {
      auto any = [&faults] {
        return faults.chance(1, 12) ? static_cast<Fault>(1 + faults.below(3)) : Fault::kNone;
      };
      c.mds.fault = [any](schema::MdsRequest::Reader) { return any(); };
      c.eachOsd(
          [any](FakeOsd& o) { o.fault = [any](schema::OsdRequest::Reader) { return any(); }; });
    }
    c.mds.onChunkGone = [&c](uint64_t chunk) {
      c.storage.gone.insert(chunk);
      c.storage.chunks.erase(chunk);
    };
    constexpr uint64_t kSpace = 3 * kMiB;
    const uint64_t base = seed % 3 == 0 ? kChunkSize - kSpace / 2 : 0;
    std::string names[2] = {"a", "b"};
    HandlePtr handles[2] = {c.create("a"), c.create("b")};
    std::string model[2];  // from `base` on; before it nothing is
    for (int step = 0; step < 150; ++step) {
      const size_t i = random.below(2);
      uint64_t at = random.below(kSpace);
      uint64_t n = 1 + random.below(random.chance(1, 3) ? kSpace - at
                                                        : std::min(kSpace - at, uint64_t{40'000}));
      switch (random.below(10)) {
        case 0:
        case 1:
        case 2: {
          const std::string data = pattern(n, random.next());
          REQUIRE(c.write(handles[i], base + at, data));
          if (model[i].size() < at + n) model[i].resize(at + n);
          model[i].replace(at, n, data);
          break;
        }
        case 3: {
          AttrChange change;
          change.size = random.chance(1, 4) ? 0 : base + at;
          REQUIRE(c.run(c.fs->setattr(inoOf(c, names[i]), change)));
          model[i].resize(*change.size == 0 ? 0 : at);
          break;
        }
        case 4:
          REQUIRE(c.run(c.fs->fallocate(handles[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                        base + at, n)));
          if (at < model[i].size()) {
            n = std::min(n, model[i].size() - at);
            model[i].replace(at, n, n, '\0');
          }
          break;
        case 5:
          REQUIRE(c.run(c.fs->fsync(handles[i])));
          break;
        default: {
          // Mostly to the same place; from one to the other.
          uint64_t to = random.chance(1, 5) ? random.below(kSpace - n + 1) : at;
          if (random.chance(1, 2)) {
            at = roundDown(at, kBlockSize);
            to = std::min(roundDown(to, kBlockSize), at == to ? at : to);
          }
          // Often as cp(1) does.
          if (random.chance(1, 3)) {
            AttrChange change;
            change.size = 0;
            REQUIRE(c.run(c.fs->setattr(inoOf(c, names[1 - i]), change)));
            model[1 - i].clear();
          }
          const uint64_t there = at < model[i].size() ? std::min(n, model[i].size() - at) : 0;
          CHECK(copyAll(c, handles[i], base + at, handles[1 - i], base + to, n) == there);
          if (there == 0) break;
          auto& target = model[1 - i];
          if (target.size() < to + there) target.resize(to + there);
          target.replace(to, there, model[i].substr(at, there));
        }
      }
      for (size_t k = 0; k < 2; ++k) {
        const uint64_t from = random.below(kSpace);
        const std::string want =
            from < model[k].size() ? model[k].substr(from, 200'000) : std::string();
        REQUIRE((c.read(handles[k], base + from, 200'000) == want));
      }
    }
    clones += c.count("osd clone");
    for (size_t k = 0; k < 2; ++k) {
      REQUIRE(c.run(c.fs->fsync(handles[k])));
      auto stored = c.stored(names[k]);
      CHECK((stored.size() < base ? std::string() : stored.substr(base)) == model[k]);
      CHECK_FALSE(c.mds.file(names[k]).tailUnclean);
    }
  }
  CHECK(clones > 100);
}
