#include "osd/service/recovery.h"

#include <algorithm>

#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/peering.h"

namespace cairn::osd {

namespace {
constexpr size_t kJoinersAtOnce = 8;
constexpr size_t kChunksPerJoiner = 4;
constexpr Duration kPause = 200ms;  // after a failure
constexpr Duration kProbe = 1s;
constexpr Duration kTidyEvery = 2s;
constexpr Duration kLeftFor = 10s;
constexpr Duration kStagedFor = 4s;
constexpr size_t kStagedAtOnce = 1024;
}  // namespace

Recovery::Recovery(Env& env, Store& store, ChunkTable& chunks, MapState& map, GroupTable& groups,
                   MemberCalls& members, Peers& peers, Membership& membership, Equalizer& equalizer,
                   Replicator& replicator, ShardRebuilder& rebuilder, StripeResolver& resolver,
                   StripeWriter& stripes, Throttle& throttle)
    : env_(env),
      store_(store),
      chunks_(chunks),
      map_(map),
      groups_(groups),
      members_(members),
      peers_(peers),
      membership_(membership),
      equalizer_(equalizer),
      replicator_(replicator),
      rebuilder_(rebuilder),
      resolver_(resolver),
      stripes_(stripes),
      throttle_(throttle),
      work_(env.reactor),
      stop_(env.reactor),
      scope_(env.reactor) {}

// The most endangered first.
std::vector<Recovery::Case> Recovery::waiting() {
  std::vector<Case> cases;
  if (!map_.leased()) return cases;
  for (const auto& [id, group] : groups_.all()) {
    if (!group->active) continue;
    const size_t spare = groups_.lists(id)->inSync() - groups_.pool(id)->needed();
    for (const auto& [osd, joiner] : group->joiners)
      if (!joiner->announced && !joiner->over && !running_.contains(joiner))
        cases.push_back({group, joiner, spare});
  }
  // Who has failed waits behind those who have not been tried since.
  std::ranges::sort(cases, {}, [](const Case& c) {
    return std::tuple(c.joiner->failedAt, c.spare, c.group->id);
  });
  return cases;
}

Task<void> Recovery::run() {
  while (!stopped_) {
    work_.reset();
    for (Case& c : waiting()) {
      if (running_.size() >= kJoinersAtOnce) break;
      running_.insert(c.joiner);
      scope_.spawn(bringUp(std::move(c.group), std::move(c.joiner)));
    }
    if (env_.reactor.now() - tidied_ >= kTidyEvery) co_await tidy();
    co_await work_.waitFor(kPause);
  }
  co_await scope_.join();
}

void Recovery::stop() {
  stopped_ = true;
  work_.set();
  stop_.set();
}

Task<void> Recovery::bringUp(GroupRef group, JoinerRef joiner) {
  Result<void> done = fail(Errc::kBadMessage, "its answer is not readable");
  try {
    done = co_await attempt(group, joiner);
  } catch (const kj::Exception&) {  // `done` says it
  }
  if (!done && !joiner->over && !stopped_) {
    env_.log.debug("recovery has to wait", {{"osd", joiner->id.value},
                                            {"pool", group->id.pool.value},
                                            {"group", group->id.pg.value},
                                            {"reason", done.error().text()}});
    joiner->failedAt = env_.reactor.now();
    (void)co_await stop_.waitFor(kPause);
  }
  running_.erase(joiner);
  work_.set();
}

Task<Result<void>> Recovery::attempt(const GroupRef& group, const JoinerRef& joiner) {
  joiner->closing = false;
  if (peers_.isSuspect(joiner->id) && !co_await peers_.probe(joiner->id, kProbe))
    co_return fail(Errc::kUnavailable, "it does not answer");
  if (!joiner->tracked) {
    CO_TRY(co_await list(group, joiner));
  } else if (!joiner->following) {
    CO_TRY(co_await clear(group, joiner));
    group->follow(*joiner);
  }
  std::vector<Task<Result<void>>> workers;
  for (size_t i = 0; i < kChunksPerJoiner; ++i) workers.push_back(work(group, joiner));
  for (auto& done : co_await whenAll(env_.reactor, std::move(workers))) CO_TRY(done);
  while (!joiner->over && !stopped_ && joiner->following && joiner->behind.empty()) {
    if (group->lacksNothing(*joiner)) {
      // Slots that it does not have (staged_op.h).
      joiner->closing = true;
      if (auto left = stripes_.left(group); !left.empty()) {
        CO_TRY(co_await stripes_.sweep(group, std::move(left)));
        continue;
      }
      membership_.announce(group, *joiner);
      env_.log.debug("a member is in sync", {{"osd", joiner->id.value},
                                             {"pool", group->id.pool.value},
                                             {"group", group->id.pg.value}});
      break;
    }
    co_await group->changed.event().waitFor(kPause);  // for mutations that began before it followed
  }
  co_return Result<void>{};
}

// Everything behind `from` in the member's history.
Task<Result<std::vector<Changed>>> Recovery::changesOf(GroupRef group, OsdId member, Changed from) {
  std::vector<Changed> all;
  while (true) {
    auto page = co_await members_.changes(member, group->id, from);
    CO_TRY(page);
    all.insert(all.end(), page->changes.begin(), page->changes.end());
    if (!page->more) co_return all;
    from = page->changes.back();
  }
}

// It may have slots of changes that went on without it.
Task<Result<void>> Recovery::clear(const GroupRef& group, const JoinerRef& joiner) {
  if (joiner->over || group->over) co_return fail(Errc::kStaleEpoch, "it left the group");
  if (!groups_.pool(group->id)->erasureCoded()) co_return Result<void>{};
  auto theirs = co_await changesOf(group, joiner->id, {});
  CO_TRY(theirs);
  CO_TRY(co_await resolver_.clear(group, joiner->id, *theirs));
  if (joiner->over || group->over) co_return fail(Errc::kStaleEpoch, "it left the group");
  co_return Result<void>{};
}

Task<Result<void>> Recovery::list(const GroupRef& group, const JoinerRef& joiner) {
  auto theirs = co_await members_.changes(joiner->id, group->id,
                                          {ChunkVersion{UINT64_MAX}, ChunkId{UINT64_MAX}, false});
  CO_TRY(theirs);
  if (joiner->over || group->over) co_return fail(Errc::kStaleEpoch, "it left the group");
  const bool stripes = groups_.pool(group->id)->erasureCoded();
  const GroupId stored = inStore(group->id, groups_.lists(group->id)->shardOf(map_.self()));
  auto ours = store_.groupState(stored);
  CO_TRY(ours);
  const ChunkVersion known = theirs->state.committed;
  CO_TRY(co_await clear(group, joiner));
  if (joiner->over || group->over) co_return fail(Errc::kStaleEpoch, "it left the group");
  group->follow(*joiner);
  // Whole or not at all: what is on the list is taken for all that it lacks.
  struct Listing {
    Joiner& joiner;
    bool done = false;
    explicit Listing(Joiner& j) : joiner(j) {}
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;
    ~Listing() {
      if (done) return;
      joiner.tracked = joiner.following = false;
      joiner.behind.clear();
    }
  } listing(*joiner);
  // It may still have chunks whose removal is forgotten.
  const ChunkVersion trimmed = std::max(ours->trimmed, group->trimmed);
  Changed from{known, ChunkId{UINT64_MAX}, false};
  if (known < trimmed) from = {};
  auto has = co_await changesOf(group, joiner->id, from);
  CO_TRY(has);
  co_await replicator_.applied(group->id);
  auto here = changesHere(store_, stored, known);
  CO_TRY(here);
  has->insert(has->end(), here->begin(), here->end());
  // A change of a stripe may have concerned others in sync, and not us.
  if (const PlacementGroup* lists = groups_.lists(group->id); stripes && lists != nullptr) {
    const std::vector<OsdId> others(lists->osds.begin() + 1, lists->osds.end());
    for (OsdId id : others) {
      auto there = co_await changesOf(group, id, {known, ChunkId{UINT64_MAX}, false});
      CO_TRY(there);
      has->insert(has->end(), there->begin(), there->end());
    }
  }
  for (const Changed& c : *has) joiner->behind.insert(unstaged(c.chunk));
  listing.done = true;
  co_return Result<void>{};
}

Task<Result<void>> Recovery::work(GroupRef group, JoinerRef joiner) {
  while (!stopped_ && !joiner->over && joiner->following && !joiner->behind.empty()) {
    const ChunkId chunk = *joiner->behind.begin();
    joiner->behind.erase(joiner->behind.begin());
    ++joiner->working;
    Result<uint64_t> done = fail(Errc::kBadMessage, "its answer is not readable");
    try {
      done = groups_.pool(group->id)->erasureCoded()
                 ? co_await rebuilder_.chunk(group, chunk, joiner->id, &throttle_)
                 : co_await equalizer_.chunk(group, chunk, joiner->id, &throttle_);
    } catch (const kj::Exception&) {  // `done` says it
    }
    --joiner->working;
    if (!done) {
      joiner->behind.insert(chunk);
      co_return fail(done.error());
    }
    bytesDone_ += *done;
  }
  co_return Result<void>{};
}

RecoveryProgress Recovery::progress() {
  RecoveryProgress p{0, 0, bytesDone_};
  const Space space = store_.space();
  const uint64_t groups = std::max<size_t>(groups_.all().size(), 1);
  for (const auto& [id, group] : groups_.all())
    for (const auto& [osd, joiner] : group->joiners)
      p.chunksLeft += joiner->tracked ? joiner->behind.size() + joiner->working
                                      : space.chunks / groups;  // not listed yet
  p.bytesLeft = p.chunksLeft * (space.chunks == 0 ? 0 : space.usedBytes / space.chunks);
  return p;
}

// ---- What is not needed any more ----

Task<void> Recovery::tidy() {
  tidied_ = env_.reactor.now();
  if (!map_.leased()) co_return;
  co_await tidyStaged();
  auto known = store_.groups();
  if (!known) co_return;
  for (GroupId id : *known) {
    const PlacementGroup* lists = groups_.lists(onWire(id));
    if (stopped_ || lists == nullptr) continue;
    if (lists->inSync() < groups_.pool(id)->width() || !lists->joining.empty()) {
      left_.erase(id);
      continue;
    }
    if (std::ranges::count(lists->osds, map_.self()) == 0 ||
        lists->shardOf(map_.self()) != shardOf(id)) {
      // For longer than any lease: so its primary has seen that we left, and if we come back, that.
      const TimePoint since = left_.try_emplace(id, env_.reactor.now()).first->second;
      if (env_.reactor.now() - since >= kLeftFor) co_await drop(id);
    } else if (left_.erase(id) != 0) {
      continue;
    } else if (auto state = store_.groupState(id); state && state->trimmed < state->committed) {
      if (auto done = store_.trimRemovals(id, state->committed); !done) co_return;
    }
  }
}

// The group has all its copies elsewhere.
Task<void> Recovery::drop(GroupId stored) {
  const GroupId group = onWire(stored);
  env_.log.info(
      "a group has moved away and is removed here",
      {{"pool", group.pool.value}, {"group", group.pg.value}, {"shard", shardOf(stored)}});
  dropping_.insert(stored);
  co_await replicator_.applied(group);
  auto done = co_await store_.dropGroup(stored);
  dropping_.erase(stored);
  left_.erase(stored);
  if (!done)
    env_.log.warning("a group could not be removed",
                     {{"group", group.pg.value}, {"reason", done.error().text()}});
}

// A primary removes what its changes have staged; what it left when it failed, nobody else knows
// of.
Task<void> Recovery::tidyStaged() {
  std::map<ChunkId, std::pair<ChunkVersion, TimePoint>> seen;
  std::map<GroupId, std::vector<ChunkId>> ours;
  std::vector<ListedChunk> others;
  for (ChunkId after = staged(ChunkId{});;) {
    auto page = store_.list(after, kStagedAtOnce);
    if (!page) co_return;
    for (const ListedChunk& c : *page) {
      const auto now = std::pair(c.info.version, env_.reactor.now());
      auto before = staged_.find(c.id);
      const bool same = before != staged_.end() && before->second.first == c.info.version;
      const auto& known = seen[c.id] = same ? before->second : now;
      auto state = store_.groupState(c.info.group);
      if (!state) co_return;
      if (c.info.version > state->committed || now.second - known.second < kStagedFor) continue;
      const GroupRef group = groups_.find(onWire(c.info.group));
      const PlacementGroup* lists = groups_.lists(onWire(c.info.group));
      // Of another shard than ours drop() takes all.
      if (lists == nullptr || lists->shardOf(map_.self()) != shardOf(c.info.group)) continue;
      const ChunkId chunk = unstaged(onWire(c.id));
      if (!group)
        others.push_back(c);
      else if (group->active && !stripes_.uses(chunk))
        ours[group->id].push_back(chunk);
    }
    if (page->size() < kStagedAtOnce) break;
    after = page->back().id;
  }
  staged_ = std::move(seen);
  for (auto& [id, chunks] : ours)
    if (const GroupRef group = groups_.find(id); group && group->active) {
      std::ranges::sort(chunks);
      (void)co_await stripes_.sweep(group, std::move(chunks));
    }
  for (const ListedChunk& c : others) co_await dropStaged(c.id, c.info.group);
}

Task<void> Recovery::dropStaged(ChunkId stored, GroupId group) {
  auto entry = chunks_.use(onWire(stored));
  auto guard = co_await entry->lock.lock(0, kBlocksPerChunk, true);
  auto info = store_.stat(stored);
  auto state = store_.groupState(group);
  if (!info || !*info || !state || (*info)->version > state->committed) co_return;
  if (stopped_ || groups_.find(onWire(group))) co_return;
  Mutation gone;
  gone.kind = Mutation::Kind::kRemove;
  gone.removed = {onWire(stored)};
  (void)co_await replicator_.apply(std::move(gone), {onWire(group), {}, {}}, shardOf(group));
}

}  // namespace cairn::osd
