#include "osd/service/erasure/stripe_resolver.h"

#include <algorithm>
#include <map>

#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/erasure/stripe_writer.h"

namespace cairn::osd {

namespace {

Mutation allStaged(ChunkId chunk) {
  Mutation m;
  m.kind = Mutation::Kind::kZero;
  m.chunk = staged(chunk);
  m.length = static_cast<uint32_t>(kChunkSize);
  return m;
}

}  // namespace

Task<Result<MemberStaged>> StripeResolver::stagedAt(GroupRef group, OsdId member, uint8_t shard,
                                                    ChunkId chunk) {
  if (member != map_.self()) co_return co_await members_.staged(member, group->id, chunk);
  auto ops = co_await stagedIn(store_, inStore(staged(chunk), shard), chunk);
  CO_TRY(ops);
  auto empty = store_.isHole(inStore(staged(chunk), shard), 0, static_cast<uint32_t>(kChunkSize));
  CO_TRY(empty);
  co_return MemberStaged{std::move(*ops), !*empty};
}

Task<Result<void>> StripeResolver::sendAll(GroupRef group, OsdId to, uint8_t shard,
                                           std::vector<Mutation> what, ChunkVersion number) {
  for (const Mutation& m : what) {
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    CO_TRY(co_await replicator_.send(group, to, shard, m, number, {}));
  }
  co_return Result<void>{};
}

Task<Result<void>> StripeResolver::chunk(GroupRef group, ChunkId chunk, ChunkVersion committed,
                                         const Alone& alone, std::optional<OsdId>& failed) {
  co_await atOnce_.acquire();
  struct Permit {
    Semaphore& s;
    ~Permit() { s.release(); }
  } permit{atOnce_};
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr)
    co_return fail(Errc::kStaleEpoch, "not the primary any more");
  std::vector<Slots> all;
  for (OsdId id : lists->osds) all.push_back({id, lists->shardOf(id), {}});
  std::vector<Task<Result<MemberStaged>>> asks;
  for (const Slots& s : all) asks.push_back(stagedAt(group, s.member, s.shard, chunk));
  auto answers = co_await whenAll(env_.reactor, std::move(asks));
  std::map<ChunkVersion, StagedOp> ops;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!answers[i]) {
      failed = all[i].member;
      co_return fail(answers[i].error());
    }
    all[i].staged = std::move(*answers[i]);
    for (const StagedOp& op : all[i].staged.ops)
      if (op.number > committed) ops.emplace(op.number, op);
  }
  if (!ops.empty()) CO_TRY(co_await alone());
  for (const auto& [number, op] : ops) {
    std::vector<const Slots*> concerned;
    for (const Slots& s : all)
      if ((op.shards & ShardSet{1} << s.shard) != 0) concerned.push_back(&s);
    const bool everywhere = std::ranges::all_of(
        concerned, [&](const Slots* s) { return std::ranges::count(s->staged.ops, op) != 0; });
    env_.log.debug(
        "a staged change",
        {{"chunk", chunk.value}, {"number", number.value}, {"made", everywhere ? "yes" : "no"}});
    if (!everywhere) continue;
    std::vector<Task<Result<void>>> sends;
    for (const Slots* s : concerned)
      sends.push_back(sendAll(group, s->member, s->shard, toMake(op, chunk, {}), number));
    auto made = co_await whenAll(env_.reactor, std::move(sends));
    for (size_t i = 0; i < made.size(); ++i)
      if (!made[i]) {
        failed = concerned[i]->member;
        co_return fail(made[i].error());
      }
  }
  for (const Slots& s : all) {
    if (!s.staged.any) continue;
    auto gone = co_await replicator_.send(group, s.member, s.shard, allStaged(chunk), {}, {});
    if (!gone) {
      failed = s.member;
      co_return fail(gone.error());
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> StripeResolver::removal(GroupRef group, ChunkId chunk, ChunkVersion version,
                                           std::optional<OsdId>& failed) {
  Mutation m;
  m.kind = Mutation::Kind::kRemove;
  m.removed = {chunk, staged(chunk)};
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr)
    co_return fail(Errc::kStaleEpoch, "not the primary any more");
  const std::vector<OsdId> members = lists->osds;
  for (OsdId id : members) {
    const PlacementGroup* now = groups_.lists(group->id);
    if (now == nullptr) co_return fail(Errc::kStaleEpoch, "the group is gone");
    auto done = co_await replicator_.send(group, id, now->shardOf(id), m, version, {});
    if (done) continue;
    failed = id;
    co_return fail(done.error());
  }
  co_return Result<void>{};
}

Task<Result<void>> StripeResolver::resolve(GroupRef group, ChunkVersion committed,
                                           const std::vector<Changed>& changed, const Alone& alone,
                                           std::optional<OsdId>& failed) {
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr)
    co_return fail(Errc::kStaleEpoch, "not the primary any more");
  struct Removal {
    ChunkVersion version;
    size_t members = 0;  // that know of it
  };
  std::map<ChunkId, Removal> removed;
  std::set<ChunkId> chunks;
  for (const Changed& c : changed) {
    if (!c.removed && (c.version > committed || isStaged(c.chunk)))
      chunks.insert(unstaged(c.chunk));
    if (!c.removed || isStaged(c.chunk)) continue;
    Removal& r = removed[c.chunk];
    r.version = std::max(r.version, c.version);
    ++r.members;
  }
  std::vector<Task<Result<void>>> tasks;
  for (const auto& [chunk, r] : removed)
    if (r.members < lists->osds.size()) tasks.push_back(removal(group, chunk, r.version, failed));
  for (ChunkId c : chunks)
    if (!removed.contains(c)) tasks.push_back(chunk(group, c, committed, alone, failed));
  for (auto& done : co_await whenAll(env_.reactor, std::move(tasks))) CO_TRY(done);
  co_return Result<void>{};
}

Task<Result<void>> StripeResolver::clear(GroupRef group, OsdId member,
                                         const std::vector<Changed>& theirs) {
  constexpr size_t kAtOnce = 1024;
  Mutation m;
  m.kind = Mutation::Kind::kRemove;
  for (size_t i = 0; i <= theirs.size(); ++i) {
    const bool end = i == theirs.size();
    if (!end && isStaged(theirs[i].chunk) && !theirs[i].removed)
      m.removed.push_back(theirs[i].chunk);
    if (m.removed.empty() || (!end && m.removed.size() < kAtOnce)) continue;
    const PlacementGroup* lists = groups_.lists(group->id);
    if (group->over || lists == nullptr)
      co_return fail(Errc::kStaleEpoch, "not the primary any more");
    std::ranges::sort(m.removed);
    CO_TRY(co_await replicator_.send(group, member, lists->shardOf(member), m, {}, {}));
    m.removed.clear();
  }
  co_return Result<void>{};
}

}  // namespace cairn::osd
