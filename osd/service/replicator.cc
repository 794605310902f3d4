#include "osd/service/replicator.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/crc/crc32c.h"
#include "common/logging/log.h"

namespace cairn::osd {

namespace {

constexpr Duration kProbeTimeout = 1s;
constexpr uint32_t kSettleBlocks = 256;  // sent at a time, with the lock of so many blocks

// True for a failure that certainly changed nothing. (kUnavailable says nothing of the kind.)
bool unchanged(const Result<void>& r) {
  if (r) return false;
  switch (r.error().code) {
    case Errc::kNoSpace:
    case Errc::kStaleEpoch:
    case Errc::kStale:
    case Errc::kInvalid:
    case Errc::kBusyTryLater:
      return true;
    default:
      return false;
  }
}

// What the client should hear when several failed; nullptr when none did.
const Error* worstOf(const std::vector<Result<void>>& results) {
  auto weight = [](const Error& e) {
    if (e.code == Errc::kNoSpace) return 3;
    if (e.code == Errc::kStale) return 2;
    if (e.code == Errc::kStaleEpoch) return 1;
    return 0;
  };
  const Error* worst = nullptr;
  for (const auto& r : results)
    if (!r && (worst == nullptr || weight(r.error()) > weight(*worst))) worst = &r.error();
  return worst;
}

void describe(schema::Replicate::Builder out, ChunkId chunk, const Mutation& m) {
  auto zero = [&](schema::Zero::Builder z) {
    z.setChunk(chunk.value);
    z.setOffset(m.offset);
    z.setLength(m.length);
  };
  switch (m.kind) {
    case Mutation::Kind::kWrite: {
      auto w = out.initWrite();
      w.setChunk(chunk.value);
      w.setOffset(m.offset);
      w.setLength(m.length);
      Bytes crcs = crcBytes(m.crcs);
      w.setCrcs(capnp::Data::Reader(crcs.data(), crcs.size()));
      break;
    }
    case Mutation::Kind::kZero:
      zero(out.initZero());
      break;
    case Mutation::Kind::kAllocate:
      zero(out.initAllocate());
      break;
    case Mutation::Kind::kClone: {
      auto c = out.initClone();
      c.setSource(m.source.value);
      c.setSourceOffset(m.sourceOffset);
      c.setTarget(chunk.value);
      c.setTargetOffset(m.offset);
      c.setLength(m.length);
      break;
    }
  }
}

}  // namespace

Mutation cloneOf(schema::Clone::Reader c) {
  Mutation m;
  m.kind = Mutation::Kind::kClone;
  m.offset = c.getTargetOffset();
  m.length = c.getLength();
  m.source = ChunkId{c.getSource()};
  m.sourceOffset = c.getSourceOffset();
  return m;
}

Replicator::Replicator(Env& env, Options options, Store& store, ChunkTable& chunks, MapState& map,
                       MapSource& source, Peers& peers, Probe& probe,
                       std::function<void(const Error&)> onStoreError)
    : env_(env),
      options_(options),
      store_(store),
      chunks_(chunks),
      map_(map),
      source_(source),
      peers_(peers),
      probe_(probe),
      onStoreError_(std::move(onStoreError)),
      work_(env.reactor),
      stop_(env.reactor) {}

Result<void> Replicator::learnVersion(const ChunkTable::Ref& chunk) {
  if (chunk->lastKnown) return {};
  auto info = store_.stat(chunk.id());
  TRY(info);
  if (*info) chunk->last = std::max(chunk->last, (*info)->version);
  chunk->lastKnown = true;
  return {};
}

Task<Result<void>> Replicator::apply(const ChunkTable::Ref& chunk, Mutation m, Stamp stamp) {
  chunk->last = std::max(chunk->last, stamp.version);
  Result<void> done;
  switch (m.kind) {
    case Mutation::Kind::kWrite:
      done =
          co_await store_.write(chunk.id(), m.offset, std::move(m.data), std::move(m.crcs), stamp);
      break;
    case Mutation::Kind::kZero:
      done = co_await store_.zero(chunk.id(), m.offset, m.length, stamp);
      break;
    case Mutation::Kind::kAllocate:
      done = co_await store_.allocate(chunk.id(), m.offset, m.length, stamp);
      break;
    case Mutation::Kind::kClone:
      done = co_await store_.clone(m.source, m.sourceOffset, chunk.id(), m.offset, m.length, stamp);
      // Removed, and so long ago or before a restart that nothing is left of it.
      if (!done && done.error().code == Errc::kNotFound)
        done = fail(Errc::kStale, done.error().message);
      break;
  }
  if (!done && (done.error().code == Errc::kIo || done.error().code == Errc::kCorrupt)) {
    onStoreError_(done.error());
    // To the sender this OSD is gone; what it wanted may succeed elsewhere.
    done = fail(Errc::kUnavailable, "osd." + std::to_string(map_.self().value) +
                                        ": its store failed: " + done.error().message);
  }
  co_return done;
}

Task<Result<void>> Replicator::forward(OsdId to, Target target, ChunkId chunk,
                                       const Mutation* mutation, ChunkVersion version) {
  OpTimer timer(probe_.forward, env_.reactor.clock());
  OutMessage m;
  auto request = m.body<schema::OsdRequest>();
  request.setPool(target.pool.value);
  request.setPg(target.pg.value);
  request.setPgEpoch(target.epoch.value);
  auto replicate = request.initReplicate();
  replicate.setVersion(version.value);
  describe(replicate, chunk, *mutation);
  if (mutation->kind == Mutation::Kind::kWrite) m.addPayload(mutation->data);
  auto answer = co_await peers_.call(to, std::move(m), options_.replicateTimeout);
  CO_TRY(answer);
  timer.ok();
  co_return Result<void>{};
}

Task<Result<ChunkVersion>> Replicator::mutate(Placement at, Target target,
                                              const ChunkTable::Ref& chunk, Mutation mutation) {
  const std::vector<OsdId> replicas(at.group->osds.begin() + 1, at.group->osds.end());
  for (OsdId id : replicas) {
    const OsdEntry* entry = at.map->osd(id);
    if (entry != nullptr && entry->up && !peers_.isSuspect(id)) continue;
    // The MDS may know by now that it is back.
    if (!peers_.isSuspect(id)) wantedEpoch_ = MapEpoch{map_.epoch().value + 1};
    work_.set();
    co_return fail(Errc::kUnavailable, "osd." + std::to_string(id.value) +
                                           ": a replica is away; nothing was changed; try again");
  }
  CO_TRY(learnVersion(chunk));
  auto intoHole = store_.isHole(chunk.id(), mutation.offset, mutation.length);
  CO_TRY(intoHole);
  // Taken here and now: another mutation of this chunk, elsewhere in it, must not get the same.
  const ChunkVersion version = chunk->last = ChunkVersion{chunk->last.value + 1};
  const BlockRange range = blocksOf(mutation.offset, mutation.length);

  std::vector<Task<Result<void>>> sends;
  sends.reserve(replicas.size() + 1);
  for (OsdId id : replicas) sends.push_back(forward(id, target, chunk.id(), &mutation, version));
  sends.push_back(apply(chunk, mutation, {{target.pool, target.pg}, version, {}}));
  auto results = co_await whenAll(env_.reactor, std::move(sends));

  const Result<void>& ours = results.back();
  for (size_t i = 0; i < replicas.size(); ++i) {
    if (ours && results[i])
      chunks_.settle(chunk, replicas[i], range);            // whatever it was owed before
    else if (mutation.kind != Mutation::Kind::kAllocate &&  // changes no byte that can be read
             !(unchanged(ours) && unchanged(results[i])))
      chunks_.owe(chunk, target.pool, target.pg, replicas[i], range);
  }
  const Error* worst = worstOf(results);
  if (worst == nullptr) co_return version;

  if (worst->code == Errc::kNoSpace && *intoHole && mutation.kind != Mutation::Kind::kZero)
    co_await undo(replicas, target, chunk, mutation.offset, mutation.length);
  if (worst->code == Errc::kStaleEpoch) wantedEpoch_ = MapEpoch{map_.epoch().value + 1};
  work_.set();
  if (worst->code == Errc::kNoSpace || worst->code == Errc::kStaleEpoch ||
      worst->code == Errc::kStale)
    co_return fail(*worst);
  co_return fail(Errc::kUnavailable, worst->text());
}

// Zeroing needs no room, so it also works where the write did not. If a member cannot be reached it
// stays owed, now a hole.
Task<void> Replicator::undo(std::vector<OsdId> replicas, Target target,
                            const ChunkTable::Ref& chunk, uint32_t offset, uint32_t length) {
  const Mutation hole{Mutation::Kind::kZero, offset, length, {}, {}};
  const ChunkVersion version = chunk->last = ChunkVersion{chunk->last.value + 1};
  if (!co_await apply(chunk, hole, {{target.pool, target.pg}, version, {}})) co_return;
  std::vector<Task<Result<void>>> sends;
  for (OsdId id : replicas) sends.push_back(forward(id, target, chunk.id(), &hole, version));
  auto results = co_await whenAll(env_.reactor, std::move(sends));
  for (size_t i = 0; i < replicas.size(); ++i)
    if (results[i]) chunks_.settle(chunk, replicas[i], blocksOf(offset, length));
}

// ---- Settling what failed mutations left ----

Task<void> Replicator::run() {
  constexpr Duration kSlowest = 1s;
  Duration pause = options_.settleEvery;
  while (!stopped_) {
    if (!chunks_.owesAnything() && peers_.suspects().empty() && !wantedEpoch_) {
      work_.reset();
      co_await work_.wait();
      pause = options_.settleEvery;
      continue;
    }
    if (wantedEpoch_) (void)co_await source_.refresh(std::exchange(wantedEpoch_, MapEpoch{}));
    pause = co_await settleAll() ? options_.settleEvery : std::min(pause * 2, kSlowest);
    co_await stop_.waitFor(pause);
  }
}

void Replicator::stop() {
  stopped_ = true;
  stop_.set();
  work_.set();
}

// True when something got better.
Task<bool> Replicator::settleAll() {
  bool progress = false;
  std::vector<Task<bool>> probes;
  const std::set<OsdId> suspects = peers_.suspects();
  for (OsdId id : suspects) {
    if (map_.map() && map_.map()->osd(id) != nullptr)
      probes.push_back(peers_.probe(id, kProbeTimeout));
    else
      peers_.forget(id);
  }
  for (bool back : co_await whenAll(env_.reactor, std::move(probes))) progress |= back;
  for (ChunkId id : chunks_.owing()) {
    if (stopped_ || !map_.leased()) break;
    progress |= co_await settleChunk(id);
  }
  co_return progress;
}

// Whether settling with `member` is (still) for us to do.
bool Replicator::mayOwe(const ChunkTable::Ref& chunk, OsdId member) const {
  auto group = map_.map()->group(chunk->pool, chunk->pg);
  return group && !chunks_.buried(chunk.id()) && !(*group)->osds.empty() &&
         (*group)->osds.front() == map_.self() && std::ranges::count((*group)->osds, member) != 0;
}

Task<bool> Replicator::settleChunk(ChunkId id) {
  auto chunk = chunks_.use(id);
  std::vector<OsdId> members;
  for (const auto& [member, ranges] : chunk->owed) members.push_back(member);
  bool progress = false;
  for (OsdId member : members)
    while (!stopped_ && map_.leased() && co_await settleOne(chunk, member)) progress = true;
  co_return progress;
}

// One step towards owing `member` nothing; false when there is none to make now.
Task<bool> Replicator::settleOne(const ChunkTable::Ref& chunk, OsdId member) {
  auto debt = chunk->owed.find(member);
  if (debt == chunk->owed.end()) co_return false;
  if (!mayOwe(chunk, member)) {
    chunks_.forgive(chunk, member);
    co_return true;
  }
  if (peers_.isSuspect(member)) co_return false;
  const BlockRange range = debt->second.first(kSettleBlocks);
  auto guard = co_await chunk->lock.lock(range.from, range.to, true);
  // While we waited, a write may have settled it, or the group or the lease may be gone.
  debt = chunk->owed.find(member);
  if (debt == chunk->owed.end() || !debt->second.overlaps(range)) co_return true;
  if (!map_.leased() || !mayOwe(chunk, member)) co_return true;  // the next step sees to it
  auto group = map_.map()->group(chunk->pool, chunk->pg);
  const Target target{chunk->pool, chunk->pg, (*group)->epoch};
  auto sent = co_await resend(target, chunk, member, range);
  // A block that has a place of its own is overwritten where it is: that needs no room.
  if (!sent && sent.error().code == Errc::kNoSpace && range.to > range.from + 1)
    sent = co_await resend(target, chunk, member, {range.from, range.from + 1});
  if (sent) {
    chunks_.settle(chunk, member, *sent);
    ++probe_.repaired;
    co_return true;
  }
  if (sent.error().code == Errc::kStaleEpoch) wantedEpoch_ = MapEpoch{map_.epoch().value + 1};
  if (sent.error().code != Errc::kStale) co_return false;
  chunks_.forgive(chunk, member);  // it was removed there
  co_return true;
}

// Sends what we hold at the start of `range` and says how far: data and holes go separately.
Task<Result<BlockRange>> Replicator::resend(Target target, const ChunkTable::Ref& chunk,
                                            OsdId member, BlockRange range) {
  CO_TRY(learnVersion(chunk));
  Mutation m;
  m.offset = static_cast<uint32_t>(range.from * kBlockSize);
  uint64_t end = range.to * kBlockSize;
  auto data = store_.extents(chunk.id(), m.offset, 1);
  CO_TRY(data);
  const uint64_t dataFrom = data->empty() ? end : std::min<uint64_t>(end, data->front().first);
  if (dataFrom > m.offset) {
    m.kind = Mutation::Kind::kZero;
    end = dataFrom;
  } else {
    end = std::min<uint64_t>(end, uint64_t{data->front().first} + data->front().second);
  }
  m.length = static_cast<uint32_t>(end - m.offset);
  if (m.kind == Mutation::Kind::kWrite) {
    auto stored = co_await store_.read(chunk.id(), m.offset, m.length);
    CO_TRY(stored);
    CAIRN_ASSERT(!stored->hole, "an extent of data is not a hole");
    m.data = std::move(stored->data);
    m.crcs = std::move(stored->crcs);
  }
  CO_TRY(co_await forward(member, target, chunk.id(), &m, chunk->last));
  co_return blocksOf(m.offset, m.length);
}

}  // namespace cairn::osd
