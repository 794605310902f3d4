// Random work on a store against a model in memory, with crashes at random points. What was
// acknowledged is there exactly; what was not is there whole or not at all, block by block. The
// history of each placement group says what is there.
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
constexpr uint32_t kGroups = 2;    // placement groups; a chunk is of the one of its parity

struct ModelBlock {
  uint64_t tag = 0;  // 0: reads as zeros
  // What else it may be, after mutations that were not acknowledged.
  std::vector<uint64_t> maybe;
};

// What the store knows of a chunk's last change.
struct Last {
  enum class State { kNothing, kExists, kRemoved } state = State::kNothing;
  uint64_t version = 0;
  bool operator==(const Last&) const = default;
};

struct ModelChunk {
  explicit ModelChunk(Reactor& reactor) : lock(std::make_unique<RangeLock>(reactor)) {}
  std::vector<ModelBlock> blocks = std::vector<ModelBlock>(kBlocks);
  Last last;                // after what was acknowledged
  std::vector<Last> maybe;  // or after a mutation that was not
  std::unique_ptr<RangeLock> lock;
  [[nodiscard]] bool exists() const { return last.state == Last::State::kExists; }
};

struct ModelGroup {
  uint64_t last = 0, committed = 0;              // of what was acknowledged
  std::set<uint64_t> maybeLast, maybeCommitted;  // of what was not
  uint64_t trimmed = 0, trimming = 0;            // for sure; at most
  bool dropping = false;                         // or it was not acknowledged
};

struct Op {
  enum class Kind { kWrite, kZero, kAllocate, kRemove, kClone, kDrop, kRead } kind = Kind::kRead;
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
  uint64_t shared = 0;    // blocks that had another's place, at every start
  uint64_t removals = 0;  // that were remembered, at every start
  uint64_t forgotten = 0;
  uint64_t trims = 0;  // that had lasted, at every start
  uint64_t drops = 0;
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
              : what < 62 ? Op::Kind::kRemove
              : what < 76 ? Op::Kind::kClone
                          : Op::Kind::kRead;
    if (random_.chance(1, 200)) op.kind = Op::Kind::kDrop;
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

  static uint32_t groupOf(uint32_t chunk) { return chunk % kGroups; }
  static GroupId idOf(uint32_t group) { return {PoolId(7), PgIndex(group * 300)}; }

  // Forgets removals up to some number, at any time.
  void trim(uint32_t g) {
    ModelGroup& group = groups_[g];
    if (group.dropping || group.last == 0) return;
    const uint64_t upTo = nextVersion_ + 5 - random_.below(std::min<uint64_t>(nextVersion_, 40));
    auto done = host_.store->trimRemovals(idOf(g), ChunkVersion(upTo));
    if (!done) group.trimming = std::max(group.trimming, upTo);  // the process ended in it
    if (!done) return;
    auto state = host_.store->groupState(idOf(g));
    REQUIRE(state);
    CHECK(state->trimmed <= state->last);
    CHECK(state->trimmed.value >= std::min(upTo, group.last));
    for (uint32_t c = g; c < kChunks; c += kGroups)
      if (chunks_[c].last.state == Last::State::kRemoved &&
          chunks_[c].last.version > group.trimming &&
          chunks_[c].last.version <= state->trimmed.value)
        ++forgotten;
    group.trimming = std::max(group.trimming, state->trimmed.value);
  }

  static Task<void> runDrop(Model& m, uint32_t g) {
    std::vector<RangeLock::Guard> locks;
    for (uint32_t c = g; c < kChunks; c += kGroups)
      locks.push_back(co_await m.chunks_[c].lock->lock(0, kBlocks, true));
    ModelGroup& group = m.groups_[g];
    group.dropping = true;
    Store& store = *m.host_.store;
    auto done = co_await store.dropGroup(idOf(g));
    for (uint32_t c = g; c < kChunks; c += kGroups) {
      ModelChunk& chunk = m.chunks_[c];
      if (done) {
        chunk.blocks = std::vector<ModelBlock>(kBlocks);
        chunk.last = {};
      } else {
        for (ModelBlock& block : chunk.blocks) block.maybe.push_back(0);
        chunk.maybe.emplace_back();
      }
    }
    if (!done) co_return;
    group = {};
    ++m.drops;
    CHECK(store.changes(idOf(g), {}, 10)->empty());
    CHECK(store.groupState(idOf(g))->last == ChunkVersion(0));
  }

  static Task<void> runOp(Model& m, Op op) {
    if (op.kind == Op::Kind::kDrop) co_return co_await runDrop(m, groupOf(op.chunk));
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
    Stamp stamp{idOf(groupOf(op.chunk)), ChunkVersion(++m.nextVersion_), {}};
    if (m.random_.chance(1, 2))
      stamp.committed = ChunkVersion(m.random_.below(stamp.version.value));
    Result<void> done;
    switch (op.kind) {
      case Op::Kind::kWrite: {
        Buffer data = tagged(m.host_.node->buffers(), op.tag, op.count);
        auto crcs = crcsOf(data);
        done = co_await store.write(id, offset, data, std::move(crcs), stamp);
        break;
      }
      case Op::Kind::kZero:
        done = co_await store.zero(id, offset, length, stamp);
        break;
      case Op::Kind::kAllocate:
        done = co_await store.allocate(id, offset, length, stamp);
        break;
      case Op::Kind::kRemove:
        done = co_await store.remove(std::vector<ChunkId>(1, id), stamp);
        break;
      case Op::Kind::kClone:
        done = co_await store.clone(ChunkId(op.source + 1),
                                    static_cast<uint32_t>(op.sourceFirst * kBlockSize), id, offset,
                                    length, stamp);
        break;
      default:
        break;
    }
    m.note(chunk, op, stamp, done);
    if (done) m.verifyEntry(op);
    if (op.kind == Op::Kind::kRemove && m.random_.chance(1, 2)) m.trim(groupOf(op.chunk));
  }

  void note(ModelChunk& chunk, const Op& op, const Stamp& stamp, const Result<void>& done) {
    if (!done && done.error().code == Errc::kNoSpace) {
      ++fullAnswers;
      CHECK(op.kind != Op::Kind::kClone);
      return;  // and nothing was changed
    }
    if (!done && done.error().code == Errc::kNotFound) {
      CHECK((op.kind == Op::Kind::kClone && !chunks_[op.source].exists()));
      return;
    }
    if (done) ++acknowledged;
    noteChange(chunk, op, stamp, done.has_value());
    if (op.kind == Op::Kind::kClone) {
      noteClone(chunk, op, done.has_value());
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
  }

  void noteChange(ModelChunk& chunk, const Op& op, const Stamp& stamp, bool done) {
    if (op.kind == Op::Kind::kZero && !chunk.exists() && chunk.maybe.empty()) return;
    ModelGroup& group = groups_[groupOf(op.chunk)];
    const Last now{op.kind == Op::Kind::kRemove ? Last::State::kRemoved : Last::State::kExists,
                   std::max(chunk.last.version, stamp.version.value)};
    if (done) {
      chunk.last = now;
      group.last = std::max(group.last, stamp.version.value);
      group.committed = std::max(group.committed, stamp.committed.value);
    } else {
      chunk.maybe.push_back(now);
      group.maybeLast.insert(stamp.version.value);
      group.maybeCommitted.insert(stamp.committed.value);
    }
  }

  void noteClone(ModelChunk& chunk, const Op& op, bool done) {
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
    if (done) ++clones;
  }

  // The history has the chunk's last change at once.
  void verifyEntry(const Op& op) {
    const ModelChunk& chunk = chunks_[op.chunk];
    const GroupId group = idOf(groupOf(op.chunk));
    if (chunk.last.state == Last::State::kNothing) return;
    auto info = host_.store->stat(ChunkId(op.chunk + 1));
    REQUIRE(info);
    CHECK(info->has_value() == chunk.exists());
    // Others, elsewhere in the chunk, may be further than the model.
    const uint64_t version = *info ? (*info)->version.value : chunk.last.version;
    if (*info) CHECK((*info)->group == group);
    CHECK(version >= chunk.last.version);
    auto found =
        host_.store->changes(group, {ChunkVersion(version - 1), ChunkId(UINT64_MAX), false}, 1);
    REQUIRE(found);
    const Changed expected{ChunkVersion(version), ChunkId(op.chunk + 1), !chunk.exists()};
    auto state = host_.store->groupState(group);
    if (chunk.exists() || version > state->trimmed.value)
      CHECK((!found->empty() && found->front() == expected));
    else
      CHECK((found->empty() || found->front().version != expected.version));
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
      if (*info) {
        ++found;
        verifyExtents(c, chunk, **info);
      }
    }
    for (uint32_t g = 0; g < kGroups; ++g) verifyGroup(g);
    CHECK(listed->size() == found);
    CHECK(host_.store->space().chunks == found);
    CHECK(host_.store->space().usedBytes == (blocks - written + tags.size()) * kBlockSize);
    shared += written - tags.size();
  }

  // What the history says, in pieces of any size.
  std::map<uint32_t, Last> historyOf(uint32_t g) {
    std::map<uint32_t, Last> out;
    Changed after;
    const size_t limit = 1 + random_.below(3);
    for (;;) {
      auto some = host_.store->changes(idOf(g), after, limit);
      REQUIRE(some);
      for (const Changed& change : *some) {
        CHECK(change > after);
        after = change;
        const auto c = static_cast<uint32_t>(change.chunk.value - 1);
        REQUIRE(c < kChunks);
        CHECK(groupOf(c) == g);
        CHECK(!out.contains(c));  // one entry for each chunk
        out[c] = {change.removed ? Last::State::kRemoved : Last::State::kExists,
                  change.version.value};
      }
      if (some->size() < limit) return out;
    }
  }

  void verifyGroup(uint32_t g) {
    ModelGroup& group = groups_[g];
    auto history = historyOf(g);
    auto state = host_.store->groupState(idOf(g));
    REQUIRE(state);
    const uint64_t trimmed = state->trimmed.value;
    auto known = host_.store->groups();
    REQUIRE(known);
    CHECK(std::ranges::count(*known, idOf(g)) == (state->last.value != 0 ? 1 : 0));
    if (group.dropping && state->last.value == 0) {
      CHECK(history.empty());
      CHECK(state->committed.value == 0);
      CHECK(trimmed == 0);
    } else {
      CHECK((state->last.value == group.last ||
             (state->last.value > group.last && group.maybeLast.contains(state->last.value))));
      // Of a group that was dropped in part nothing is claimed.
      CHECK((state->committed.value == group.committed ||
             (group.dropping && state->committed.value == 0) ||
             (state->committed.value > group.committed &&
              group.maybeCommitted.contains(state->committed.value))));
      CHECK(trimmed >= group.trimmed);
      CHECK(trimmed <= group.trimming);
    }
    for (uint32_t c = g; c < kChunks; c += kGroups) {
      CAPTURE(c);
      ModelChunk& chunk = chunks_[c];
      const Last now = history[c];
      auto info = host_.store->stat(ChunkId(c + 1));
      CHECK(info->has_value() == (now.state == Last::State::kExists));
      if (*info) {
        CHECK((*info)->version.value == now.version);
        CHECK((*info)->group == idOf(g));
      }
      CHECK(now.version <= state->last.value);
      // Removals are remembered exactly if they are not trimmed.
      auto allowed = [&](Last may) {
        if (may.state == Last::State::kRemoved && may.version <= trimmed) may = {};
        return may == now;
      };
      CHECK((allowed(chunk.last) || std::ranges::any_of(chunk.maybe, allowed)));
      if (now.state == Last::State::kRemoved) ++removals;
      chunk.last = now;
      chunk.maybe.clear();
    }
    if (trimmed > group.trimmed) ++trims;
    group = {state->last.value, state->committed.value, {}, {}, trimmed, trimmed, false};
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
      if (random_.chance(1, 40)) trim(static_cast<uint32_t>(random_.below(kGroups)));
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
  std::vector<ModelGroup> groups_ = std::vector<ModelGroup>(kGroups);
  uint64_t nextTag_ = 1;
  uint64_t nextVersion_ = 0;
};

}  // namespace

TEST_CASE("store: random work and crashes leave exactly what was acknowledged") {
  uint64_t removals = 0, forgotten = 0, trims = 0, drops = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Model model(seed, smallStore());
    model.run(10, 250);
    CHECK(model.acknowledged > 300);
    CHECK(model.clones > 30);
    CHECK(model.shared > 100);
    removals += model.removals;
    forgotten += model.forgotten;
    trims += model.trims;
    drops += model.drops;
  }
  CHECK(removals > 40);
  CHECK(forgotten > 200);
  CHECK(trims > 200);
  CHECK(drops > 100);
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
