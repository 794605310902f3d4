// Random work on a store against a model in memory, with crashes at random points. What was
// acknowledged is there exactly; what was not is there whole or not at all, block by block.
#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <set>

#include "common/reactor/sync.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

constexpr uint32_t kChunks = 6;
constexpr uint32_t kBlocks = 640;  // of each chunk that are used

struct ModelBlock {
  uint64_t tag = 0;  // 0: reads as zeros
  // What else it may be, after mutations that were not acknowledged.
  std::vector<uint64_t> maybe;
};

struct ModelChunk {
  explicit ModelChunk(Reactor& reactor) : lock(std::make_unique<RangeLock>(reactor)) {}
  std::vector<ModelBlock> blocks = std::vector<ModelBlock>(kBlocks);
  uint64_t version = 0;  // the greatest acknowledged
  bool exists = false;
  bool uncertain = false;  // a mutation of it was not acknowledged
  std::unique_ptr<RangeLock> lock;
};

struct Op {
  enum class Kind { kWrite, kZero, kAllocate, kRemove, kClone, kRead } kind = Kind::kRead;
  uint32_t chunk = 0, first = 0, count = 0;
  uint64_t tag = 0;
  uint32_t source = 0, sourceFirst = 0;  // kClone
};

class Model {
 public:
  Model(uint64_t seed, StoreOptions options) : host_(seed, options), random_(seed * 1001 + 7) {}

  void run(int sessions, int opsPerSession) {
    REQUIRE(host_.create() == Errc::kOk);
    for (int session = 0; session < sessions; ++session) {
      CAPTURE(session);
      host_.mustOpen();
      renewLocks();
      verifyAll();
      work(opsPerSession);
      end();
      if (random_.chance(1, 3)) verifyWithChecker();
    }
    host_.mustOpen();
    verifyAll();
    host_.stop();
  }

  // Each operation of the disk takes up to so much longer.
  void jitterDisk(Duration most) { host_.world.machine(kHost).disk.options.jitter = most; }

  uint64_t fullAnswers = 0;
  uint64_t acknowledged = 0;
  uint64_t clones = 0;
  uint64_t shared = 0;  // blocks that had another's place, at every start
  bool faults = false;

 private:
  void renewLocks() {
    for (uint32_t c = 0; c < kChunks; ++c) {
      if (chunks_.size() <= c)
        chunks_.emplace_back(host_.node->reactor());
      else
        chunks_[c].lock = std::make_unique<RangeLock>(host_.node->reactor());
    }
  }

  Op randomOp() {
    Op op;
    op.chunk = static_cast<uint32_t>(random_.below(kChunks));
    const uint64_t what = random_.below(100);
    op.kind = what < 44   ? Op::Kind::kWrite
              : what < 52 ? Op::Kind::kZero
              : what < 58 ? Op::Kind::kAllocate
              : what < 60 ? Op::Kind::kRemove
              : what < 74 ? Op::Kind::kClone
                          : Op::Kind::kRead;
    // Small ones go through the log, large ones to fresh places.
    const uint32_t most = random_.chance(2, 3) ? 15 : 300;
    op.count = 1 + static_cast<uint32_t>(random_.below(most));
    op.first = static_cast<uint32_t>(random_.below(kBlocks - op.count + 1));
    if (op.kind == Op::Kind::kRemove) {
      op.first = 0;
      op.count = kBlocks;
    }
    if (op.kind == Op::Kind::kClone) {
      op.source = static_cast<uint32_t>(random_.below(kChunks));
      op.sourceFirst = static_cast<uint32_t>(random_.below(kBlocks - op.count + 1));
      if (op.source == op.chunk && op.sourceFirst < op.first + op.count &&
          op.first < op.sourceFirst + op.count)
        op.source = (op.source + 1) % kChunks;
    }
    op.tag = nextTag_;
    nextTag_ += op.count;
    return op;
  }

  static Task<void> runOp(Model& m, Op op) {
    ModelChunk& chunk = m.chunks_[op.chunk];
    RangeLock::Guard lock, sourceLock;
    if (op.kind == Op::Kind::kClone && op.source == op.chunk) {
      lock = co_await chunk.lock->lock(0, kBlocks, true);
    } else {
      const bool clone = op.kind == Op::Kind::kClone;
      RangeLock& source = *m.chunks_[op.source].lock;
      const uint32_t from = op.sourceFirst, to = from + op.count;
      if (clone && op.source < op.chunk) sourceLock = co_await source.lock(from, to, false);
      lock = co_await chunk.lock->lock(op.first, op.first + op.count, op.kind != Op::Kind::kRead);
      if (clone && op.source > op.chunk) sourceLock = co_await source.lock(from, to, false);
    }
    Store& store = *m.host_.store;
    const ChunkId id(op.chunk + 1);
    const auto offset = static_cast<uint32_t>(op.first * kBlockSize);
    const auto length = static_cast<uint32_t>(op.count * kBlockSize);
    if (op.kind == Op::Kind::kRead) {
      auto data = co_await store.read(id, offset, length);
      if (data) m.compare(chunk, op, *data);
      if (!data && !m.faults) CHECK(data.error().code == Errc::kCanceled);
      co_return;
    }
    const ChunkVersion version(++m.nextVersion_);
    Result<void> done;
    switch (op.kind) {
      case Op::Kind::kWrite: {
        Buffer data = tagged(m.host_.node->buffers(), op.tag, op.count);
        auto crcs = crcsOf(data);
        done = co_await store.write(id, offset, data, std::move(crcs), stampOf(version.value));
        break;
      }
      case Op::Kind::kZero:
        done = co_await store.zero(id, offset, length, stampOf(version.value));
        break;
      case Op::Kind::kAllocate:
        done = co_await store.allocate(id, offset, length, stampOf(version.value));
        break;
      case Op::Kind::kRemove:
        done = co_await store.remove(std::vector<ChunkId>(1, id), stampOf(version.value));
        break;
      case Op::Kind::kClone:
        done = co_await store.clone(ChunkId(op.source + 1),
                                    static_cast<uint32_t>(op.sourceFirst * kBlockSize), id, offset,
                                    length, stampOf(version.value));
        break;
      default:
        break;
    }
    m.note(chunk, op, version, done);
  }

  void note(ModelChunk& chunk, const Op& op, ChunkVersion version, const Result<void>& done) {
    if (!done && done.error().code == Errc::kNoSpace) {
      ++fullAnswers;
      CHECK(op.kind != Op::Kind::kClone);
      return;  // and nothing was changed
    }
    if (!done && done.error().code == Errc::kNotFound) {
      CHECK((op.kind == Op::Kind::kClone && !chunks_[op.source].exists));
      return;
    }
    if (done) ++acknowledged;
    if (op.kind == Op::Kind::kClone) {
      noteClone(chunk, op, version, done.has_value());
      return;
    }
    for (uint32_t i = 0; i < op.count; ++i) {
      ModelBlock& block = chunk.blocks[op.first + i];
      if (op.kind == Op::Kind::kAllocate) continue;  // reads as before
      uint64_t tag = op.kind == Op::Kind::kWrite ? op.tag + i : 0;
      if (done)
        block = {tag, {}};
      else
        block.maybe.push_back(tag);
    }
    if (!done) {
      chunk.uncertain = true;
      return;
    }
    if (op.kind == Op::Kind::kRemove) {
      chunk.exists = chunk.uncertain = false;
      chunk.version = 0;
    } else if (op.kind != Op::Kind::kZero || chunk.exists) {
      chunk.exists = true;
      chunk.version = std::max(chunk.version, version.value);
    }
  }

  void noteClone(ModelChunk& chunk, const Op& op, ChunkVersion version, bool done) {
    for (uint32_t i = 0; i < op.count; ++i) {
      const ModelBlock& source = chunks_[op.source].blocks[op.sourceFirst + i];
      ModelBlock& block = chunk.blocks[op.first + i];
      if (done) {
        block = source;
      } else {
        block.maybe.push_back(source.tag);
        block.maybe.insert(block.maybe.end(), source.maybe.begin(), source.maybe.end());
      }
    }
    if (!done || chunks_[op.source].uncertain) chunk.uncertain = true;
    if (!done) return;
    ++clones;
    chunk.exists = true;
    chunk.version = std::max(chunk.version, version.value);
  }

  void compare(ModelChunk& chunk, const Op& op, const ReadData& data) {
    if (!data.hole) {
      REQUIRE(data.data.size() == op.count * kBlockSize);
      REQUIRE(data.crcs.size() == op.count);
    }
    for (uint32_t i = 0; i < op.count; ++i) {
      uint64_t tag = 0;
      if (!data.hole) {
        Bytes bytes = data.data.bytes().subspan(i * kBlockSize, kBlockSize);
        REQUIRE(crc32c(bytes) == data.crcs[i]);
        tag = tagOf(bytes);
      }
      const ModelBlock& block = chunk.blocks[op.first + i];
      bool allowed = tag == block.tag ||
                     std::find(block.maybe.begin(), block.maybe.end(), tag) != block.maybe.end();
      if (!allowed)
        FAIL("chunk " << op.chunk + 1 << " block " << op.first + i << " has " << tag << ", not "
                      << block.tag);
    }
  }

  // After recovery nothing is open any more: what is read now stays.
  void verifyAll() {
    uint64_t blocks = 0, found = 0, written = 0;
    std::set<uint64_t> tags;  // blocks that share a place have the same, and no others have
    auto listed = host_.store->list(ChunkId(0), 1000);
    REQUIRE(listed);
    for (const auto& c : *listed) blocks += c.info.blocks;
    for (uint32_t c = 0; c < kChunks; ++c) {
      ModelChunk& chunk = chunks_[c];
      auto data = host_.read(c + 1, 0, kBlocks);
      REQUIRE_MESSAGE(data, data.error().text());
      compare(chunk, {Op::Kind::kRead, c, 0, kBlocks, 0}, *data);
      for (uint32_t i = 0; i < kBlocks; ++i) {
        chunk.blocks[i] = {
            data->hole ? 0 : tagOf(data->data.bytes().subspan(i * kBlockSize, kBlockSize)), {}};
        if (chunk.blocks[i].tag == 0) continue;
        ++written;
        tags.insert(chunk.blocks[i].tag);
      }
      auto info = host_.store->stat(ChunkId(c + 1));
      REQUIRE(info);
      if (!chunk.uncertain) CHECK(info->has_value() == chunk.exists);
      if (*info) {
        ++found;
        CHECK((*info)->version.value >= chunk.version);
        if (!chunk.uncertain) CHECK((*info)->version.value == chunk.version);
        chunk.version = (*info)->version.value;
        verifyExtents(c, chunk, **info);
      }
      chunk.exists = info->has_value();
      if (!chunk.exists) chunk.version = 0;
      chunk.uncertain = false;
    }
    CHECK(listed->size() == found);
    CHECK(host_.store->space().chunks == found);
    CHECK(host_.store->space().usedBytes == (blocks - written + tags.size()) * kBlockSize);
    shared += written - tags.size();
  }

  void verifyExtents(uint32_t c, const ModelChunk& chunk, const ChunkInfo& info) {
    auto extents = host_.store->extents(ChunkId(c + 1), 0, 100'000);
    REQUIRE(extents);
    std::vector<bool> data(kBlocks);
    uint64_t end = 0, written = 0;
    for (auto [offset, length] : *extents) {
      CHECK((end == 0 || offset > end));  // merged, ascending
      end = offset + length;
      REQUIRE(end <= kBlocks * kBlockSize);
      for (uint64_t b = offset / kBlockSize; b < end / kBlockSize; ++b) data[b] = true;
      written += length / kBlockSize;
    }
    for (uint32_t i = 0; i < kBlocks; ++i) CHECK(data[i] == (chunk.blocks[i].tag != 0));
    CHECK(info.blocks >= written);
  }

  void work(int ops) {
    constexpr size_t kAtOnce = 8;
    for (int i = 0; i < ops; ++i) {
      if (!host_.node->alive()) break;
      host_.node->spawn(runOp(*this, randomOp()));
      host_.world.runUntil([this] { return host_.node->running() < kAtOnce; }, 10s);
    }
  }

  void end() {
    auto& world = host_.world;
    world.run(Duration(random_.below(400'000)));
    switch (random_.below(5)) {
      case 0:
        REQUIRE(world.drain(*host_.node));
        break;  // close
      case 1:
        world.kill(*host_.node);
        break;
      case 2:
        world.crashDuringKv(*host_.node, 1 + random_.below(4),
                            random_.chance(1, 2) ? sim::Crash::kPower : sim::Crash::kProcess);
        break;
      default:
        world.powerOff(kHost);
    }
    REQUIRE(world.drain(*host_.node));
    host_.stop();
    host_.restart();
  }

  void verifyWithChecker() {
    std::vector<std::string> lines;
    auto result = host_.check(&lines);
    std::string text;
    for (const auto& line : lines) text += line + "\n";
    CHECK_MESSAGE(result.clean(), text);
    // The checker changed nothing that the store would miss; its process ends.
    host_.world.powerOff(kHost);
    host_.restart();
  }

  StoreHost host_;
  SeededRandom random_;
  std::deque<ModelChunk> chunks_;
  uint64_t nextTag_ = 1;
  uint64_t nextVersion_ = 0;
};

}  // namespace

TEST_CASE("store: random work and crashes leave exactly what was acknowledged") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Model model(seed, smallStore());
    model.run(10, 250);
    CHECK(model.acknowledged > 300);
    CHECK(model.clones > 30);
    CHECK(model.shared > 100);
  }
}

TEST_CASE("store: the same on a store that is nearly always full") {
  uint64_t full = 0;
  for (uint64_t seed = 100; seed <= 110; ++seed) {
    CAPTURE(seed);
    StoreOptions options = smallStore();
    options.sizeBytes = 10 * kMiB;  // 5 MiB of data
    Model model(seed, options);
    model.run(8, 250);
    full += model.fullAnswers;
  }
  CHECK(full > 50);
}

TEST_CASE("store: the same when writes take long and end in any order") {
  // Freed blocks are wanted again while writes of their old contents are still on the way.
  for (uint64_t seed = 200; seed <= 214; ++seed) {
    CAPTURE(seed);
    StoreOptions options = smallStore();
    options.sizeBytes = 8 * kMiB;
    options.reserveBytes = 0;
    Model model(seed, options);
    model.jitterDisk(4ms);
    model.run(6, 300);
  }
}
