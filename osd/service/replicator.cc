#include "osd/service/replicator.h"

#include <algorithm>

#include "common/crc/crc32c.h"
#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"

namespace cairn::osd {

namespace {

// True for a failure that certainly changed nothing. (kUnavailable says nothing of the kind.)
bool changedNothing(const Error& e) {
  return e.code == Errc::kNoSpace || e.code == Errc::kStale || e.code == Errc::kInvalid ||
         e.code == Errc::kBusyTryLater;
}

Mutation holeOf(const Mutation& m) {
  Mutation hole;
  hole.kind = Mutation::Kind::kZero;
  hole.chunk = m.chunk;
  hole.offset = m.offset;
  hole.length = m.length;
  return hole;
}

// The chunks that a member which lacks the mutation is behind in.
std::vector<ChunkId> chunksOf(const Mutation& m) {
  std::vector<ChunkId> chunks = m.removed;
  if (m.kind != Mutation::Kind::kRemove) chunks = {m.chunk};
  std::erase_if(chunks, isStaged);  // these go with the others
  return chunks;
}

}  // namespace

Replicator::Replicator(Env& env, Store& store, MapState& map, GroupTable& groups, MapSource& source,
                       MemberCalls& members, Membership& membership, Equalizer& equalizer,
                       std::function<void(const Error&)> onStoreError)
    : env_(env),
      store_(store),
      map_(map),
      groups_(groups),
      source_(source),
      members_(members),
      membership_(membership),
      equalizer_(equalizer),
      onStoreError_(std::move(onStoreError)),
      appliedOne_(env.reactor) {}

Task<void> Replicator::applied(GroupId group) {
  const uint64_t before = nextTicket_;
  auto pending = [&] {
    auto running = applying_.find(group);
    return running != applying_.end() && *running->second.begin() < before;
  };
  while (pending()) co_await appliedOne_.wait();
}

// What a slot does not hold must not be made: holes would come of it.
std::optional<Error> Replicator::slotGone(const Mutation& m) {
  if (!isStaged(m.source)) return std::nullopt;
  auto hole = store_.isHole(m.source, m.sourceOffset, m.length);
  if (!hole) return hole.error();
  if (!*hole) return std::nullopt;
  return Error(Errc::kStale, "nothing is staged where chunk " + std::to_string(m.chunk.value) +
                                 " is to be changed from");
}

Task<Result<void>> Replicator::apply(Mutation m, Stamp stamp, uint8_t shard) {
  const uint64_t ticket = nextTicket_++;
  const GroupId group = stamp.group;
  applying_[group].insert(ticket);
  stamp.group = inStore(stamp.group, shard);
  m.chunk = inStore(m.chunk, shard);
  m.source = inStore(m.source, shard);
  for (ChunkId& id : m.removed) id = inStore(id, shard);
  Result<void> done;
  switch (m.kind) {
    case Mutation::Kind::kWrite:
      // Of a slot that is written in parts nothing of an older one may seem to belong to it.
      done = co_await store_.write(
          m.chunk, m.offset, m.data, m.crcs, stamp,
          isStaged(m.chunk) ? Store::InParts::kNever : Store::InParts::kIfNeeded);
      if (done || done.error().code != Errc::kNoSpace || !isStaged(m.chunk)) break;
      done = co_await store_.zero(m.chunk, m.offset, m.length, stamp);
      if (!done) break;
      done = co_await store_.write(m.chunk, m.offset, std::move(m.data), std::move(m.crcs), stamp);
      break;
    case Mutation::Kind::kZero:
      done = co_await store_.zero(m.chunk, m.offset, m.length, stamp);
      break;
    case Mutation::Kind::kAllocate:
      done = co_await store_.allocate(m.chunk, m.offset, m.length, stamp);
      break;
    case Mutation::Kind::kClone:
      if (auto gone = slotGone(m)) {
        done = fail(*gone);
        break;
      }
      done = co_await store_.clone(m.source, m.sourceOffset, m.chunk, m.offset, m.length, stamp);
      // The primary has the source; that we do not says that it holds no data.
      if (!done && done.error().code == Errc::kNotFound)
        done = co_await store_.zero(m.chunk, m.offset, m.length, stamp);
      break;
    case Mutation::Kind::kRemove:
      done = co_await store_.remove(std::move(m.removed), stamp);
      break;
    case Mutation::Kind::kLose:
      done = co_await store_.write(m.chunk, m.offset, env_.buffers.zeroed(m.length),
                                   std::vector(m.length / kBlockSize, ~crc32cZeroBlock()), stamp);
      break;
  }
  auto running = applying_.find(group);
  running->second.erase(ticket);
  if (running->second.empty()) applying_.erase(running);
  appliedOne_.fire();
  if (!done && (done.error().code == Errc::kIo || done.error().code == Errc::kCorrupt)) {
    onStoreError_(done.error());
    // To the sender this OSD is gone; what it wanted may succeed elsewhere.
    done = fail(Errc::kUnavailable, "osd." + std::to_string(map_.self().value) +
                                        ": its store failed: " + done.error().message);
  }
  co_return done;
}

// Those in sync but us, as the map says now.
std::vector<OsdId> Replicator::inSync(const GroupRef& group) const {
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr) return {};
  return {lists->osds.begin() + 1, lists->osds.end()};
}

uint8_t Replicator::ownShard(const GroupRef& group) const {
  const PlacementGroup* lists = groups_.lists(group->id);
  return lists == nullptr ? 0 : lists->shardOf(map_.self());
}

// Fewer are in sync than the pool asks for, as it asks now.
bool Replicator::tooFew(const GroupRef& group, const Mutation& mutation) const {
  if (mutation.kind == Mutation::Kind::kRemove) return false;
  const Pool* pool = map_.map()->pool(group->id.pool);
  return pool == nullptr || inSync(group).size() + 1 < pool->minSize;
}

Task<Result<void>> Replicator::send(GroupRef group, OsdId member, uint8_t shard,
                                    const Mutation& mutation, ChunkVersion number,
                                    ChunkVersion committed) {
  if (member == map_.self())
    co_return co_await apply(mutation, {group->id, number, committed}, shard);
  co_return co_await toMember(group, member, &mutation, number, committed);
}

Task<Result<void>> Replicator::toMember(GroupRef group, OsdId member, const Mutation* mutation,
                                        ChunkVersion number, ChunkVersion committed) {
  while (true) {
    const MapEpoch asked = map_.epoch();
    auto done = co_await members_.replicate(member, group->id, mutation, number, committed);
    if (done || done.error().code != Errc::kStaleEpoch) co_return done;
    if (map_.epoch() == asked) (void)co_await source_.refresh(MapEpoch{asked.value + 1});
    const PlacementGroup* lists = groups_.lists(group->id);
    const bool still =
        !group->over && lists != nullptr &&
        std::ranges::count(lists->osds, member) + std::ranges::count(lists->joining, member) != 0;
    if (!still || map_.epoch() == asked) co_return done;
  }
}

Task<Result<ChunkVersion>> Replicator::mutate(Placement at, GroupRef group, Mutation mutation) {
  const size_t least = at.map->pool(group->id.pool)->minSize;
  if (at.group->osds.size() < least && mutation.kind != Mutation::Kind::kRemove)
    co_return fail(Errc::kUnavailable, "group " + std::to_string(group->id.pool.value) + "." +
                                           std::to_string(group->id.pg.value) + " has " +
                                           std::to_string(at.group->osds.size()) +
                                           " copies up to date; the pool takes "
                                           "changes from " +
                                           std::to_string(least) + " on");
  const Counted counted(group->mutations);
  bool intoHole = false;
  if (mutation.takesRoom()) {
    auto hole = store_.isHole(mutation.chunk, mutation.offset, mutation.length);
    CO_TRY(hole);
    intoHole = *hole;
  }
  // From here to where it is sent nothing waits: numbers go out in their order.
  const uint64_t numbers = mutation.numbers();
  const ChunkVersion number = group->take(numbers);
  const Stamp stamp{group->id, number, group->committed()};
  std::vector<Outcome> outcomes;
  for (OsdId id : at.group->osds)
    if (id != map_.self()) outcomes.push_back({id, {}});
  const size_t others = outcomes.size();
  for (const auto& [id, joiner] : group->joiners) {
    if (!joiner->following) continue;
    // Only a member that has all of the source can clone it. Another one is behind when this ends,
    // and must not be taken for equal before.
    if (mutation.kind != Mutation::Kind::kClone || joiner->announced)
      outcomes.push_back({id, {}});
    else
      joiner->followsFrom = std::max(joiner->followsFrom, ChunkVersion{number.value + numbers});
  }
  std::vector<Task<Result<void>>> sends;
  sends.reserve(outcomes.size() + 1);
  // Who is joining lacks some of what is committed.
  for (size_t i = 0; i < outcomes.size(); ++i)
    sends.push_back(toMember(group, outcomes[i].member, &mutation, number,
                             i < others ? stamp.committed : ChunkVersion{}));
  sends.push_back(apply(mutation, stamp, ownShard(group)));
  auto results = co_await whenAll(env_.reactor, std::move(sends));
  const Result<void> ours = std::move(results.back());
  for (size_t i = 0; i < outcomes.size(); ++i) outcomes[i].result = std::move(results[i]);
  std::vector<Outcome> joining(outcomes.begin() + static_cast<ptrdiff_t>(others), outcomes.end());
  outcomes.resize(others);

  auto unknown = [&](const Error& why) {
    groups_.restart(group);
    return fail(why.code == Errc::kStaleEpoch ? Errc::kStaleEpoch : Errc::kUnavailable, why.text());
  };
  // Nobody may have been told otherwise meanwhile.
  if (group->over) co_return unknown(Error(Errc::kStaleEpoch, "not the primary any more"));

  if (!ours) {
    if (!changedNothing(ours.error())) co_return unknown(ours.error());
    if (auto done = co_await agree(group, mutation, ours.error(), outcomes); !done)
      co_return unknown(done.error());
    // Those who are joining have what we have not.
    for (Outcome& o : joining) o.result = fail(ours.error());
    if (auto done = co_await settleJoiners(group, mutation, joining); !done)
      co_return unknown(done.error());
    if (tooFew(group, mutation)) co_return unknown(ours.error());
    group->settle(number, numbers);
    co_return fail(ours.error());
  }

  const Error* full = nullptr;
  for (const Outcome& o : outcomes)
    if (!o.result && o.result.error().code == Errc::kNoSpace && intoHole) full = &o.result.error();
  if (full != nullptr) {
    if (auto done = co_await takeBack(group, mutation, std::move(joining)); !done)
      co_return unknown(done.error());
    if (tooFew(group, mutation)) co_return unknown(*full);
    group->settle(number, numbers);
    co_return fail(Errc::kNoSpace, full->message);
  }
  for (const Outcome& o : outcomes) {
    if (o.result) continue;
    env_.log.warning("a member lacks a change and is taken out",
                     {{"osd", o.member.value},
                      {"group", group->id.pg.value},
                      {"reason", o.result.error().text()}});
    if (auto out = co_await membership_.exclude(group, o.member); !out)
      co_return unknown(out.error());
  }
  if (auto done = co_await settleJoiners(group, mutation, joining); !done)
    co_return unknown(done.error());
  // It is on all who are left, but they are too few: it may still be lost with them.
  if (tooFew(group, mutation))
    co_return unknown(Error(Errc::kUnavailable, "too few copies are left to go on; try again"));
  group->settle(number, numbers);
  co_return number;
}

// We did not take the mutation, and nothing here changed: nor shall it at the others.
Task<Result<void>> Replicator::agree(const GroupRef& group, const Mutation& mutation,
                                     const Error& ours, const std::vector<Outcome>& others) {
  for (const Outcome& o : others) {
    if (!o.result && changedNothing(o.result.error())) continue;
    Result<void> equal;
    if (mutation.kind == Mutation::Kind::kRemove) {
      equal = fail(ours);
    } else if (mutation.kind != Mutation::Kind::kAllocate) {
      auto sent = co_await equalizer_.range(group, mutation.chunk, o.member,
                                            blocksOf(mutation.offset, mutation.length));
      if (!sent) equal = fail(sent.error());
    }
    if (!equal) CO_TRY(co_await membership_.exclude(group, o.member));
  }
  co_return Result<void>{};
}

// A write into a hole found no room somewhere: it is a hole again. Zeroing needs no room.
Task<Result<void>> Replicator::takeBack(const GroupRef& group, const Mutation& mutation,
                                        std::vector<Outcome> joining) {
  const Mutation hole = holeOf(mutation);
  const ChunkVersion number = group->take(1);
  const Stamp stamp{group->id, number, {}};
  const std::vector<OsdId> members = inSync(group);
  std::vector<Task<Result<void>>> sends;
  for (OsdId id : members) sends.push_back(toMember(group, id, &hole, number, {}));
  sends.push_back(apply(hole, stamp, ownShard(group)));
  auto results = co_await whenAll(env_.reactor, std::move(sends));
  CO_TRY(results.back());
  for (size_t i = 0; i < members.size(); ++i)
    if (!results[i]) CO_TRY(co_await membership_.exclude(group, members[i]));
  for (Outcome& o : joining) o.result = fail(Errc::kNoSpace);  // it was not sent the hole
  CO_TRY(co_await settleJoiners(group, hole, joining));
  group->settle(number, 1);
  co_return Result<void>{};
}

// Those who are joining and did not take the mutation are behind in its chunks.
Task<Result<void>> Replicator::settleJoiners(const GroupRef& group, const Mutation& mutation,
                                             const std::vector<Outcome>& sent) {
  auto took = [&](OsdId id) {
    return std::ranges::any_of(sent, [&](const Outcome& o) { return o.member == id && o.result; });
  };
  std::vector<OsdId> counted;  // perhaps
  for (const auto& [id, joiner] : group->joiners) {
    if (!joiner->tracked || took(id)) continue;
    for (ChunkId chunk : chunksOf(mutation)) joiner->behind.insert(chunk);
    if (joiner->announced) counted.push_back(id);
  }
  for (const Outcome& o : sent) {
    if (o.result) continue;
    auto joiner = group->joiners.find(o.member);
    if (joiner == group->joiners.end())
      counted.push_back(o.member);  // it is in sync by now
    else
      joiner->second->following = false;
  }
  for (OsdId id : counted) CO_TRY(co_await membership_.exclude(group, id));
  co_return Result<void>{};
}

}  // namespace cairn::osd
