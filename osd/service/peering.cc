#include "osd/service/peering.h"

#include <algorithm>

#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"

namespace cairn::osd {

namespace {

constexpr uint64_t kGroupsAtOnce = 64, kChunksAtOnce = 16;
constexpr size_t kPage = 4096;
constexpr Duration kFirstPause = 20ms, kLongestPause = 200ms;

Changed behind(ChunkVersion version) {
  return {version, ChunkId{UINT64_MAX}, false};
}

}  // namespace

Result<std::vector<Changed>> changesHere(Store& store, GroupId group, ChunkVersion after) {
  std::vector<Changed> all;
  Changed from = behind(after);
  while (true) {
    auto page = store.changes(group, from, kPage);
    TRY(page);
    for (const Changed& c : *page) all.push_back({c.version, onWire(c.chunk), c.removed});
    if (page->size() < kPage) return all;
    from = page->back();
  }
}

Peering::Peering(Env& env, Store& store, MapState& map, GroupTable& groups, MapSource& source,
                 MemberCalls& members, Membership& membership, Equalizer& equalizer,
                 Replicator& replicator, StripeResolver& resolver,
                 std::function<void(const Error&)> onStoreError)
    : env_(env),
      store_(store),
      map_(map),
      groups_(groups),
      source_(source),
      members_(members),
      membership_(membership),
      equalizer_(equalizer),
      replicator_(replicator),
      resolver_(resolver),
      onStoreError_(std::move(onStoreError)),
      groupsAtOnce_(env.reactor, kGroupsAtOnce),
      chunksAtOnce_(env.reactor, kChunksAtOnce) {}

Task<void> Peering::activate(GroupRef group) {
  Duration pause = kFirstPause;
  while (!group->over) {
    co_await groupsAtOnce_.acquire();
    Result<void> done = fail(Errc::kBadMessage, "a member's answer is not readable");
    try {
      done = co_await attempt(group);
    } catch (const kj::Exception&) {  // `done` says it
    }
    groupsAtOnce_.release();
    if (done || group->over) break;
    env_.log.debug("a group is not ready", {{"pool", group->id.pool.value},
                                            {"group", group->id.pg.value},
                                            {"reason", done.error().text()}});
    co_await group->changed.event().waitFor(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

Task<Result<void>> Peering::attempt(const GroupRef& group) {
  if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
  if (!map_.leased()) co_return fail(Errc::kUnavailable, "no lease");
  const auto joiners = group->joiners;  // they may change meanwhile
  for (const auto& [id, joiner] : joiners)
    if (joiner->announced) CO_TRY(co_await membership_.exclude(group, id));
  while (group->mutations->count != 0) {
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    co_await group->mutations->ended.event().waitFor(kLongestPause);
  }
  co_await replicator_.applied(group->id);
  if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
  const PlacementGroup* lists = groups_.lists(group->id);
  const MapEpoch epoch = lists->epoch;
  if (map_.adopted() < epoch) {
    source_.poke();
    co_return fail(Errc::kUnavailable, "an OSD with an older map may still serve");
  }
  if (!groups_.readable(group->id))
    co_return fail(Errc::kUnavailable, "too few shards are in sync to read anything");
  const GroupId stored = inStore(group->id, lists->shardOf(map_.self()));
  auto ours = store_.groupState(stored);
  if (!ours) onStoreError_(ours.error());  // others are to lead it
  CO_TRY(ours);
  const std::vector<OsdId> others(lists->osds.begin() + 1, lists->osds.end());

  const bool stripes = groups_.pool(group->id)->erasureCoded();
  ChunkVersion from = ours->committed;
  if (stripes) {
    std::vector<Task<Result<MemberChanges>>> states;
    for (OsdId id : others) states.push_back(changesOf(group, id, ChunkVersion{UINT64_MAX}));
    // Who does not answer is dealt with below.
    for (auto& state : co_await whenAll(env_.reactor, std::move(states)))
      if (state) from = std::min(from, state->state.committed);
  }
  std::vector<Task<Result<MemberChanges>>> asks;
  for (OsdId id : others) asks.push_back(changesOf(group, id, from));
  auto answers = co_await whenAll(env_.reactor, std::move(asks));
  ChunkVersion committed = ours->committed, last = ours->last, trimmed = ours->trimmed;
  for (size_t i = 0; i < others.size(); ++i) {
    if (!answers[i]) {
      const Error why = answers[i].error();
      if (why.code == Errc::kStaleEpoch) (void)co_await source_.refresh(MapEpoch{epoch.value + 1});
      if (why.code != Errc::kUnavailable) co_return fail(why);
      env_.log.warning("a member does not answer and is taken out",
                       {{"osd", others[i].value}, {"reason", why.message}});
      CO_TRY(co_await membership_.exclude(group, others[i]));
      co_return fail(why);
    }
    committed = std::max(committed, answers[i]->state.committed);
    last = std::max(last, answers[i]->state.last);
    trimmed = std::max(trimmed, answers[i]->state.trimmed);
  }

  if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
  auto here = changesHere(store_, stored, stripes ? from : committed);
  if (!here) onStoreError_(here.error());
  CO_TRY(here);
  std::vector<Changed> changed = std::move(*here);
  for (const auto& answer : answers)
    for (const Changed& c : answer->changes)
      if (stripes || c.version > committed) changed.push_back(c);
  if (stripes)
    CO_TRY(co_await resolve(group, committed, std::move(changed)));
  else
    CO_TRY(co_await reconcileAll(group, others, changed));

  // Whoever came or left meanwhile has not been asked.
  if (group->over || !map_.leased() || groups_.lists(group->id)->epoch != epoch)
    co_return fail(Errc::kUnavailable, "the group changed meanwhile");
  group->trimmed = trimmed;
  groups_.activate(group, std::max(last, committed), epoch);
  co_return Result<void>{};
}

Task<Result<void>> Peering::resolve(GroupRef group, ChunkVersion committed,
                                    std::vector<Changed> changed) {
  std::optional<OsdId> failed;
  auto alone = [&]() -> Task<Result<void>> {
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    const std::vector<OsdId> others = groups_.lists(group->id)->complete;
    for (OsdId id : others) CO_TRY(co_await membership_.exclude(group, id));
    // They are to be asked anew whether they have what was staged.
    if (!others.empty()) co_return fail(Errc::kUnavailable, "the group changed meanwhile");
    co_return Result<void>{};
  };
  auto done = co_await resolver_.resolve(group, committed, changed, alone, failed);
  if (done || !failed) co_return done;
  const Errc code = done.error().code;
  if (*failed == map_.self()) {
    if (code == Errc::kCorrupt || code == Errc::kIo) onStoreError_(done.error());
  } else if (code == Errc::kUnavailable || code == Errc::kNoSpace) {
    CO_TRY(co_await membership_.exclude(group, *failed));
  }
  co_return done;
}

Task<Result<void>> Peering::reconcileAll(GroupRef group, std::vector<OsdId> others,
                                         const std::vector<Changed>& changed) {
  std::set<ChunkId> chunks;
  for (const Changed& c : changed) chunks.insert(c.chunk);
  std::vector<Task<Result<void>>> tasks;
  if (!chunks.empty())
    for (OsdId id : others) tasks.push_back(reconcile(group, id, chunks));
  for (auto& done : co_await whenAll(env_.reactor, std::move(tasks))) CO_TRY(done);
  co_return Result<void>{};
}

Task<Result<MemberChanges>> Peering::changesOf(GroupRef group, OsdId member, ChunkVersion after) {
  auto all = co_await members_.changes(member, group->id, behind(after));
  CO_TRY(all);
  while (all->more) {
    auto page = co_await members_.changes(member, group->id, all->changes.back());
    CO_TRY(page);
    all->changes.insert(all->changes.end(), page->changes.begin(), page->changes.end());
    all->more = page->more;
  }
  co_return all;
}

Task<Result<void>> Peering::reconcile(GroupRef group, OsdId member, std::set<ChunkId> chunks) {
  std::vector<Task<Result<uint64_t>>> tasks;
  tasks.reserve(chunks.size());
  for (ChunkId chunk : chunks) tasks.push_back(equalize(group, member, chunk));
  auto results = co_await whenAll(env_.reactor, std::move(tasks));
  for (auto& done : results) {
    if (done) continue;
    const Error why = done.error();
    if (why.code == Errc::kUnavailable || why.code == Errc::kNoSpace)
      CO_TRY(co_await membership_.exclude(group, member));
    co_return fail(why);
  }
  co_return Result<void>{};
}

Task<Result<uint64_t>> Peering::equalize(GroupRef group, OsdId member, ChunkId chunk) {
  co_await chunksAtOnce_.acquire();
  auto done = co_await equalizer_.chunk(group, chunk, member, nullptr);
  chunksAtOnce_.release();
  co_return done;
}

}  // namespace cairn::osd
