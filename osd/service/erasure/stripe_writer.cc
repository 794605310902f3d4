#include "osd/service/erasure/stripe_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/crc/crc32c.h"
#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"

namespace cairn::osd {

namespace {

constexpr Duration kSweepEvery = 1s;
constexpr size_t kSweptAtOnce = 256;  // chunks

constexpr ShardSet bit(uint8_t shard) {
  return ShardSet{1} << shard;
}

bool isZero(const uint8_t* block) {
  return block[0] == 0 && std::memcmp(block, block + 1, kBlockSize - 1) == 0;
}

uint32_t bytesOf(uint32_t blocks) {
  return static_cast<uint32_t>(blocks * kBlockSize);
}

Mutation rangeOf(Mutation::Kind kind, ChunkId chunk, uint32_t from, uint32_t blocks) {
  Mutation m;
  m.kind = kind;
  m.chunk = chunk;
  m.offset = bytesOf(from);
  m.length = bytesOf(blocks);
  return m;
}

std::vector<Mutation> justOne(Mutation m) {
  std::vector<Mutation> one;
  one.push_back(std::move(m));
  return one;
}

// A failure that says that there is no room or no time, and certainly changed nothing.
bool refused(const Error& e) {
  return e.code == Errc::kNoSpace || e.code == Errc::kBusyTryLater;
}

}  // namespace

struct StripeWriter::Op {
  Op(GroupRef g, ChunkId c, ShardLayout l, Held h)
      : group(std::move(g)), chunk(c), layout(l), held(std::move(h)), counted(group->mutations) {}

  [[nodiscard]] uint32_t rows() const { return staged.rows.to - staged.rows.from; }

  const GroupRef group;
  const ChunkId chunk;
  const ShardLayout layout;
  Held held;
  const Counted counted;
  StagedOp staged;
  std::map<uint8_t, NewRows> content;  // of the shards in `staged`; none if it zeroes
  std::vector<Party> parties;          // who have confirmed all rounds until now
};

Mutation StripeWriter::slotOf(Mutation::Kind kind, const Op& op) {
  return rangeOf(kind, staged(op.chunk), op.staged.slot, op.staged.slotBlocks());
}

Result<void> StripeWriter::still(const Op& op) const {
  if (op.group->over) return fail(Errc::kStaleEpoch, "not the primary any more");
  const PlacementGroup* lists = groups_.lists(op.group->id);
  const Pool* pool = reader_.pool(op.group->id);
  if (lists == nullptr || pool == nullptr) return fail(Errc::kStaleEpoch, "the group is gone");
  if (lists->inSync() < pool->minSize)
    return fail(Errc::kUnavailable, "group " + std::to_string(op.group->id.pool.value) + "." +
                                        std::to_string(op.group->id.pg.value) + " has " +
                                        std::to_string(lists->inSync()) +
                                        " shards up to date; the pool takes changes from " +
                                        std::to_string(pool->minSize) + " on");
  return {};
}

// ---- Who takes part ----

std::vector<StripeWriter::Party> StripeWriter::parties(const GroupRef& group,
                                                       const StagedOp& staged) const {
  const ShardSet shards = staged.shards;
  std::vector<Party> out;
  const PlacementGroup* lists = groups_.lists(group->id);
  auto add = [&](OsdId id) {
    const uint8_t shard = lists->shardOf(id);
    if ((shards & bit(shard)) != 0) out.push_back({id, shard});
  };
  for (OsdId id : lists->osds) add(id);
  for (const auto& [id, joiner] : group->joiners) {
    if (!joiner->following) continue;
    // Only who has all of the source can take its rows. Another one is behind when this ends, and
    // must not be taken for equal before.
    if (!staged.source || joiner->announced)
      add(id);
    else
      joiner->followsFrom = std::max(joiner->followsFrom, ChunkVersion{staged.number.value + 1});
  }
  return out;
}

Task<Result<void>> StripeWriter::sendAll(GroupRef group, Party to, std::vector<Mutation> mutations,
                                         ChunkVersion number, ChunkVersion committed) {
  for (Mutation& m : mutations) {
    // Not behind the back of who leads now, and may have made the rest.
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    CO_TRY(co_await replicator_.send(group, to.id, to.shard, m, number, committed));
  }
  co_return Result<void>{};
}

// Sends each party its mutations; the results are in the order of op.parties.
Task<std::vector<Result<void>>> StripeWriter::round(
    Op& op, const std::function<std::vector<Mutation>(uint8_t)>& what) {
  const ChunkVersion committed = op.group->committed();
  std::vector<Task<Result<void>>> sends;
  sends.reserve(op.parties.size());
  for (const Party& p : op.parties) {
    // Who is joining lacks some of what is committed.
    const bool joins = op.group->joiners.contains(p.id);
    sends.push_back(
        sendAll(op.group, p, what(p.shard), op.staged.number, joins ? ChunkVersion{} : committed));
  }
  co_return co_await whenAll(env_.reactor, std::move(sends));
}

// Parties that failed take no further part, and are not counted as in sync when it returns.
Task<Result<void>> StripeWriter::settle(Op& op, const std::vector<Result<void>>& results) {
  std::vector<Party> good;
  std::vector<OsdId> out;
  for (size_t i = 0; i < op.parties.size(); ++i) {
    const Party& party = op.parties[i];
    if (results[i]) {
      good.push_back(party);
      continue;
    }
    env_.log.warning("a member lacks a change and is taken out",
                     {{"osd", party.id.value},
                      {"group", op.group->id.pg.value},
                      {"reason", results[i].error().text()}});
    if (party.id == map_.self()) co_return fail(results[i].error());
    auto joiner = op.group->joiners.find(party.id);
    if (joiner == op.group->joiners.end() || joiner->second->announced) out.push_back(party.id);
    if (joiner == op.group->joiners.end()) continue;
    // It follows again when its slots have been cleared.
    joiner->second->following = false;
    if (joiner->second->tracked) joiner->second->behind.insert(op.chunk);
  }
  op.parties = std::move(good);
  for (OsdId id : out) CO_TRY(co_await membership_.exclude(op.group, id));
  co_return Result<void>{};
}

// Joining members that took no part from the beginning to the end, and hold a shard that changed,
// are behind.
Task<Result<void>> StripeWriter::settleOthers(Op& op) {
  std::vector<OsdId> counted;
  const PlacementGroup* lists = groups_.lists(op.group->id);
  if (op.group->over || lists == nullptr) co_return fail(Errc::kStaleEpoch);
  for (const auto& [id, joiner] : op.group->joiners) {
    const bool concerned = (op.staged.shards & bit(lists->shardOf(id))) != 0;
    const bool tookPart =
        joiner->following && joiner->followsFrom <= op.staged.number &&
        std::ranges::any_of(op.parties, [&](const Party& p) { return p.id == id; });
    if (!concerned || !joiner->tracked || tookPart) continue;
    joiner->behind.insert(op.chunk);
    if (joiner->announced) counted.push_back(id);
  }
  for (OsdId id : counted) CO_TRY(co_await membership_.exclude(op.group, id));
  co_return Result<void>{};
}

// ---- What the shards will hold ----

StripeWriter::NewRows& StripeWriter::makeRows(Op& op, uint8_t shard) {
  NewRows& rows = op.content[shard];
  rows.slot = env_.buffers.get(bytesOf(1 + op.rows()));
  rows.crcs.resize(op.rows());
  return rows;
}

// Puts the changed blocks of a data shard into its new rows.
void StripeWriter::fill(Op& op, const Change& change, uint8_t shard) {
  NewRows& rows = op.content.at(shard);
  const BlockRange changed = op.layout.rowsOf(change.blocks, shard);
  for (uint32_t row = changed.from; row < changed.to;) {
    // Rows of one stripe are neighbours in the change too.
    const uint32_t to =
        std::min(changed.to, row / op.layout.unit * op.layout.unit + op.layout.unit);
    const uint32_t at = row - op.staged.rows.from;
    uint8_t* into = rows.slot.data() + bytesOf(1 + at);
    if (change.data.empty()) {
      std::memset(into, 0, bytesOf(to - row));
      std::fill_n(rows.crcs.begin() + at, to - row, crc32cZeroBlock());
    } else {
      const uint32_t block = op.layout.blockAt(shard, row) - change.blocks.from;
      std::memcpy(into, change.data.data() + bytesOf(block), bytesOf(to - row));
      std::copy_n(change.crcs.begin() + block, to - row, rows.crcs.begin() + at);
    }
    row = to;
  }
}

void StripeWriter::finishParity(Op& op) {
  for (uint32_t p = 0; p < op.layout.parity; ++p) {
    NewRows& rows = op.content.at(static_cast<uint8_t>(op.layout.data + p));
    rows.crcs = blockCrcs(0, rows.slot.bytes().subspan(kBlockSize));
  }
}

// From the old rows of the one data shard that changes and of all parity; not if somebody is
// missing of whom that is asked. With few data shards reading the others costs as much.
Task<Result<bool>> StripeWriter::prepareByDelta(Op& op, const Change& change) {
  const ShardLayout& l = op.layout;
  const ShardSet touched = l.shardsOf(change.blocks);
  const auto shard = static_cast<uint8_t>(std::countr_zero(touched));
  if (std::popcount(touched) != 1 || l.rowsOf(change.blocks, shard) != op.staged.rows ||
      1 + l.parity >= l.data - 1)
    co_return false;
  const ShardSet needed = touched | l.parityShards();
  if ((needed & ~reader_.held(op.group)) != 0) co_return false;
  auto old = co_await reader_.rows(op.group, op.chunk, needed, op.staged.rows);
  CO_TRY(old);
  const size_t length = bytesOf(op.rows());
  const Buffer zeros = env_.buffers.zeroed(length);
  makeRows(op, shard);
  fill(op, change, shard);
  Buffer delta = env_.buffers.copyOf({bytesOrZeros(old->rows.at(shard), zeros), length});
  const uint8_t* now = op.content.at(shard).slot.data() + kBlockSize;
  for (size_t i = 0; i < length; ++i) delta.data()[i] ^= now[i];
  std::vector<uint8_t*> parity;
  for (uint32_t p = l.data; p < l.shards(); ++p) {
    NewRows& rows = makeRows(op, static_cast<uint8_t>(p));
    std::memcpy(rows.slot.data() + kBlockSize,
                bytesOrZeros(old->rows.at(static_cast<uint8_t>(p)), zeros), length);
    parity.push_back(rows.slot.data() + kBlockSize);
  }
  reader_.code(l).parityDelta(shard, delta.data(), parity, length);
  finishParity(op);
  co_return true;
}

// From all data rows: what does not change is read.
Task<Result<void>> StripeWriter::prepareWhole(Op& op, const Change& change) {
  const ShardLayout& l = op.layout;
  ShardSet wanted = 0;
  for (uint8_t shard = 0; shard < l.data; ++shard)
    if (l.rowsOf(change.blocks, shard) != op.staged.rows) wanted |= bit(shard);
  ShardReader::Decoded old;
  // The last stripe of a chunk may be cut off: nothing is there to be read.
  const bool whole = l.wholeStripes(change.blocks);
  if (wanted != 0 && !whole) {
    auto read = co_await reader_.rows(op.group, op.chunk, wanted, op.staged.rows);
    CO_TRY(read);
    old = std::move(*read);
  }
  const size_t length = bytesOf(op.rows());
  const Buffer zeros = env_.buffers.zeroed(length);
  std::vector<const uint8_t*> data;
  const ShardSet touched = op.staged.shards;
  for (uint8_t shard = 0; shard < l.data; ++shard) {
    auto before = old.rows.find(shard);
    if ((touched & bit(shard)) == 0) {
      data.push_back(before == old.rows.end() ? zeros.data() : bytesOrZeros(before->second, zeros));
      continue;
    }
    NewRows& rows = makeRows(op, shard);
    if ((wanted & bit(shard)) != 0) {
      const bool hole = before == old.rows.end() || before->second.hole;
      std::memcpy(rows.slot.data() + kBlockSize, hole ? zeros.data() : before->second.data.data(),
                  length);
      if (hole)
        std::fill(rows.crcs.begin(), rows.crcs.end(), crc32cZeroBlock());
      else
        rows.crcs = before->second.crcs;
    }
    fill(op, change, shard);
    data.push_back(rows.slot.data() + kBlockSize);
  }
  std::vector<uint8_t*> parity;
  for (uint32_t p = l.data; p < l.shards(); ++p)
    parity.push_back(makeRows(op, static_cast<uint8_t>(p)).slot.data() + kBlockSize);
  reader_.code(l).encode(data, parity, length);
  finishParity(op);
  co_return Result<void>{};
}

Task<Result<void>> StripeWriter::prepare(Op& op, const Change& change) {
  const ShardLayout& l = op.layout;
  op.staged.rows = l.rowsOf(change.blocks);
  op.staged.source = change.source;
  op.staged.zero = !change.source && change.data.empty() && l.wholeStripes(change.blocks);
  if (op.staged.zero || op.staged.source) {
    op.staged.shards = l.dataShards() | l.parityShards();
    co_return Result<void>{};
  }
  op.staged.shards = l.shardsOf(change.blocks) | l.parityShards();
  auto byDelta = co_await prepareByDelta(op, change);
  if (byDelta && *byDelta) co_return Result<void>{};
  op.content.clear();
  co_return co_await prepareWhole(op, change);
}

// ---- The rounds ----

Task<Result<ChunkVersion>> StripeWriter::change(GroupRef group, ChunkId chunk, Change change,
                                                std::function<Result<void>()> allowed, Held held) {
  const Pool* pool = reader_.pool(group->id);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  auto op = std::make_shared<Op>(group, chunk, ShardLayout::of(*pool), std::move(held));
  CO_TRY(still(*op));
  CO_TRY(co_await prepare(*op, change));
  change = {};
  auto slot = co_await takeSlot(group, chunk, op->staged.slotBlocks());
  CO_TRY(slot);
  op->staged.slot = *slot;
  auto may = allowed();
  if (may) may = still(*op);
  if (!may) {
    freeSlot(*op);
    co_return fail(may.error());
  }
  // From here to where it is sent nothing waits: numbers go out in their order.
  op->staged.number = group->take(1);
  op->parties = parties(group, op->staged);
  Result<void> staged = fail(Errc::kBadMessage, "a member's answer is not readable");
  try {
    staged = co_await stage(op);
  } catch (const kj::Exception&) {
    groups_.restart(group);
  }
  if (!staged) {
    freeSlot(*op);
    co_return fail(staged.error());
  }
  const ChunkVersion number = op->staged.number;
  scope_.spawn(complete(std::move(op)));
  co_return number;
}

Task<Result<void>> StripeWriter::stage(OpRef op) {
  auto unknown = [&](const Error& why) {
    groups_.restart(op->group);
    return fail(why.code == Errc::kStaleEpoch ? Errc::kStaleEpoch : Errc::kUnavailable, why.text());
  };
  const Buffer head = env_.buffers.get(kBlockSize);
  encodeStaged(op->staged, op->chunk, head.bytes());
  const uint32_t headCrc = crc32c(head.bytes());
  auto results = co_await round(*op, [&](uint8_t shard) {
    Mutation m = slotOf(Mutation::Kind::kWrite, *op);
    m.data = head;
    m.crcs = {headCrc};
    if (op->staged.slotBlocks() > 1) {
      const NewRows& rows = op->content.at(shard);
      std::memcpy(rows.slot.data(), head.data(), kBlockSize);
      m.data = rows.slot;
      m.crcs.insert(m.crcs.end(), rows.crcs.begin(), rows.crcs.end());
    }
    return justOne(std::move(m));
  });
  if (op->group->over) co_return unknown(Error(Errc::kStaleEpoch, "not the primary any more"));
  // What is stored need not be kept in memory.
  for (auto& [shard, rows] : op->content) {
    for (uint32_t i = 0; i < op->rows(); ++i)
      rows.holes.push_back(isZero(rows.slot.data() + bytesOf(1 + i)));
    rows.slot = {};
    rows.crcs.clear();
  }
  const Error* refusal = nullptr;
  for (size_t i = 0; i < results.size(); ++i)
    if (!results[i] && refused(results[i].error()) &&
        !op->group->joiners.contains(op->parties[i].id))
      refusal = &results[i].error();
  if (refusal != nullptr) {
    const Error why = *refusal;
    auto gone = co_await abort(op);
    if (!gone) co_return unknown(gone.error());
    op->group->settle(op->staged.number, 1);
    co_return fail(why);
  }
  if (auto done = co_await settle(*op, results); !done) co_return unknown(done.error());
  // All who are left have it, but they may be too few: then it may still be lost with them.
  if (auto enough = still(*op); !enough) co_return unknown(enough.error());
  co_return Result<void>{};
}

// It shall not be, anywhere.
Task<Result<void>> StripeWriter::abort(OpRef op) {
  auto results =
      co_await round(*op, [&](uint8_t) { return justOne(slotOf(Mutation::Kind::kZero, *op)); });
  CO_TRY(co_await settle(*op, results));
  co_return still(*op);
}

Task<void> StripeWriter::complete(OpRef op) {
  Result<void> done = fail(Errc::kBadMessage, "a member's answer is not readable");
  try {
    done = co_await tryComplete(*op);
  } catch (const kj::Exception&) {  // `done` says it
  }
  if (done) co_return;
  freeSlot(*op);
  groups_.restart(op->group);
}

std::vector<Mutation> toMake(const StagedOp& op, ChunkId chunk, const std::vector<bool>& holes) {
  const uint32_t count = op.rows.to - op.rows.from;
  auto hole = [&](uint32_t i) { return op.zero || (!holes.empty() && holes[i]); };
  std::vector<Mutation> mutations;
  for (uint32_t i = 0; i < count;) {
    uint32_t to = i + 1;
    while (to < count && hole(to) == hole(i)) ++to;
    Mutation m = rangeOf(hole(i) ? Mutation::Kind::kZero : Mutation::Kind::kClone, chunk,
                         op.rows.from + i, to - i);
    if (!hole(i)) {
      m.source = op.source ? op.source : staged(chunk);
      m.sourceOffset = bytesOf(op.source ? op.rows.from + i : op.slot + 1 + i);
    }
    mutations.push_back(std::move(m));
    i = to;
  }
  return mutations;
}

Task<Result<void>> StripeWriter::tryComplete(Op& op) {
  auto made = co_await round(op, [&](uint8_t shard) {
    static const std::vector<bool> kNone;
    return toMake(op.staged, op.chunk, op.content.empty() ? kNone : op.content.at(shard).holes);
  });
  CO_TRY(co_await settle(op, made));
  CO_TRY(still(op));
  CO_TRY(co_await settleOthers(op));
  op.group->settle(op.staged.number, 1);
  if (op.staged.source || op.group->closing()) co_return co_await removeSlots(op);
  slots_.leave(op.chunk, op.staged.slot, op.staged.number);
  if (!std::exchange(sweeping_, true)) scope_.spawn(sweepIdle());
  co_return Result<void>{};
}

Task<Result<void>> StripeWriter::removeSlots(Op& op) {
  while (op.group->committed() < op.staged.number) {
    if (op.group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    co_await op.group->changed.wait();
  }
  auto gone =
      co_await round(op, [&](uint8_t) { return justOne(slotOf(Mutation::Kind::kZero, op)); });
  CO_TRY(co_await settle(op, gone));
  freeSlot(op);
  co_return Result<void>{};
}

// ---- Reserving ----

Task<Result<void>> StripeWriter::allocate(GroupRef group, ChunkId chunk, BlockRange blocks) {
  const Pool* pool = reader_.pool(group->id);
  if (pool == nullptr) co_return fail(Errc::kStaleEpoch, "the pool is not in the map");
  auto op = std::make_shared<Op>(group, chunk, ShardLayout::of(*pool), nullptr);
  CO_TRY(still(*op));
  const ShardLayout& l = op->layout;
  op->staged.shards = l.shardsOf(blocks) | l.parityShards();
  op->staged.number = group->take(1);
  op->parties = parties(group, op->staged);
  const BlockRange hull = l.rowsOf(blocks);
  std::vector<Result<void>> results;
  try {
    results = co_await round(*op, [&](uint8_t shard) {
      const BlockRange rows = shard < l.data ? l.rowsOf(blocks, shard) : hull;
      return justOne(rangeOf(Mutation::Kind::kAllocate, chunk, rows.from, rows.to - rows.from));
    });
  } catch (const kj::Exception&) {
    results.assign(op->parties.size(),
                   fail(Errc::kBadMessage, "a member's answer is not readable"));
  }
  // It changes no byte: who has it or not makes no difference, but to whoever wants to rely on it.
  group->settle(op->staged.number, 1);
  for (size_t i = 0; i < results.size(); ++i)
    if (!results[i] && !group->joiners.contains(op->parties[i].id))
      co_return fail(results[i].error());
  co_return Result<void>{};
}

// ---- Slots ----

Task<Result<uint32_t>> StripeWriter::takeSlot(GroupRef group, ChunkId chunk, uint32_t blocks) {
  while (!group->over) {
    if (auto at = slots_.take(group, chunk, blocks, env_.reactor.now())) co_return *at;
    co_await group->changed.wait();
  }
  co_return fail(Errc::kStaleEpoch, "not the primary any more");
}

void StripeWriter::freeSlot(const Op& op) {
  slots_.free(op.chunk, op.staged.slot);
  op.group->changed.fire();
}

Task<Result<void>> StripeWriter::sweep(GroupRef group, std::vector<ChunkId> chunks) {
  for (size_t at = 0; at < chunks.size(); at += kSweptAtOnce) {
    const auto from = chunks.begin() + static_cast<ptrdiff_t>(at);
    const size_t count = std::min(kSweptAtOnce, chunks.size() - at);
    CO_TRY(co_await sweepSome(group, {from, from + static_cast<ptrdiff_t>(count)}));
  }
  co_return Result<void>{};
}

Task<Result<void>> StripeWriter::sweepSome(GroupRef group, std::vector<ChunkId> chunks) {
  if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
  // A primaryship that comes next waits for it, so that it removes nothing of that.
  const Counted counted(group->mutations);
  for (ChunkId id : chunks) {
    while (slots_.closed(id)) {  // somebody else is at it
      if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
      co_await group->changed.wait();
    }
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    slots_.close(group, id);
  }
  Result<void> done = fail(Errc::kBadMessage, "a member's answer is not readable");
  try {
    done = co_await trySweep(group, chunks);
  } catch (const kj::Exception&) {  // `done` says it
  }
  for (ChunkId id : chunks) {
    if (done)
      slots_.removed(id);
    else
      slots_.reopen(id);
  }
  group->changed.fire();
  co_return done;
}

Task<Result<void>> StripeWriter::trySweep(GroupRef group, const std::vector<ChunkId>& chunks) {
  Mutation gone;
  gone.kind = Mutation::Kind::kRemove;
  for (ChunkId id : chunks) {
    while (true) {
      if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
      auto last = slots_.settled(id);
      if (last && group->committed() >= *last) break;
      co_await group->changed.wait();
    }
    gone.removed.push_back(staged(id));
  }
  std::ranges::sort(gone.removed);
  const PlacementGroup* lists = groups_.lists(group->id);
  if (lists == nullptr) co_return fail(Errc::kStaleEpoch, "the group is gone");
  const ChunkVersion committed = group->committed();
  std::vector<Task<Result<void>>> sends;
  for (OsdId id : lists->osds)
    sends.push_back(replicator_.send(group, id, lists->shardOf(id), gone, {}, committed));
  const size_t counted = sends.size();
  std::vector<std::shared_ptr<Joiner>> following;
  for (const auto& [id, joiner] : group->joiners) {
    if (!joiner->following) continue;
    following.push_back(joiner);
    sends.push_back(replicator_.send(group, id, joiner->shard, gone, {}, ChunkVersion{}));
  }
  const auto results = co_await whenAll(env_.reactor, std::move(sends));
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i]) continue;
    if (i < counted || following[i - counted]->announced) co_return fail(results[i].error());
    following[i - counted]->following = false;  // until its slots have been cleared
  }
  co_return Result<void>{};
}

Task<void> StripeWriter::sweepIdle() {
  while (!slots_.empty() && !co_await stop_.waitFor(kSweepEvery)) {
    slots_.forgetOthers();
    for (auto& [group, chunks] : slots_.idleSince(env_.reactor.now() - kSweepEvery))
      if (!stop_.isSet()) (void)co_await sweep(group, std::move(chunks));
  }
  sweeping_ = false;
}

}  // namespace cairn::osd
