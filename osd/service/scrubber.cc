#include "osd/service/scrubber.h"

#include <algorithm>
#include <charconv>

#include "common/logging/log.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/peering.h"

namespace cairn::osd {

namespace {

constexpr Duration kLookEvery = 1s;
constexpr Duration kAfterFailure = 5s;
constexpr std::string_view kAsked = "scrub";

std::string noteOf(GroupId group) {
  return "scrub." + std::to_string(group.pool.value) + "." + std::to_string(group.pg.value);
}

// "LIGHT DEEP", Unix nanoseconds.
std::string write(WallNs light, WallNs deep) {
  return std::to_string(light) + " " + std::to_string(deep);
}

void read(std::string_view text, WallNs& light, WallNs& deep) {
  const char* end = text.data() + text.size();
  auto first = std::from_chars(text.data(), end, light);
  if (first.ec == std::errc() && first.ptr != end) (void)std::from_chars(first.ptr + 1, end, deep);
}

}  // namespace

Scrubber::Scrubber(Env& env, ScrubOptions options, Store& store, MapState& map, GroupTable& groups,
                   MemberCalls& members, Equalizer& equalizer, ShardRebuilder& rebuilder,
                   Throttle& throttle, Probe& probe)
    : env_(env),
      options_(options),
      store_(store),
      map_(map),
      groups_(groups),
      members_(members),
      equalizer_(equalizer),
      rebuilder_(rebuilder),
      throttle_(throttle),
      probe_(probe),
      work_(env.reactor) {
  if (auto note = store_.note(kAsked)) read(*note, asked_.light, asked_.deep);
}

WallNs Scrubber::now() const {
  return env_.reactor.wallNow();
}

// What was asked for or done later than the clock says is taken for now, in the order that it had:
// a clock that was set back must not keep scrubs from coming, nor have one come again and again.
void Scrubber::heedClock() {
  const WallNs latest = now();
  for (WallNs Times::* kind : {&Times::light, &Times::deep}) {
    const WallNs asked = std::min(asked_.*kind, latest);
    for (auto& [group, done] : known_)
      done.*kind = std::min(done.*kind, done.*kind < asked_.*kind ? asked - 1 : latest);
    asked_.*kind = asked;
  }
}

Result<void> Scrubber::request(bool deep) {
  heedClock();
  WallNs at = now();
  for (const auto& [group, done] : known_) at = std::max({at, done.light + 1, done.deep + 1});
  asked_.light = at;
  if (deep) asked_.deep = at;
  work_.set();
  return store_.putNote(kAsked, write(asked_.light, asked_.deep));
}

Scrubber::Times Scrubber::times(GroupId group) {
  auto [at, isNew] = known_.try_emplace(group);
  if (isNew) {
    if (auto note = store_.note(noteOf(group))) read(*note, at->second.light, at->second.deep);
    // The interval of a group that was never scrubbed here, or at a time that is still to come,
    // begins now; what was asked for is due.
    if (at->second.light == 0 || std::max(at->second.light, at->second.deep) > now()) {
      auto begin = [&](WallNs asked) { return asked == 0 ? now() : std::min(now(), asked - 1); };
      at->second = {begin(asked_.light), begin(asked_.deep)};
      (void)store_.putNote(noteOf(group), write(at->second.light, at->second.deep));
    }
  }
  return at->second;
}

Scrubber::Due Scrubber::due(GroupId group) {
  const Times done = times(group);
  auto over = [&](WallNs last, WallNs asked, Duration interval) {
    return last < asked || (interval != Duration::zero() && now() - last > interval.count());
  };
  if (over(done.deep, asked_.deep, options_.deep)) return Due::kDeep;
  if (over(done.light, asked_.light, options_.light)) return Due::kLight;
  return Due::kNothing;
}

GroupRef Scrubber::next(Due& what) {
  heedClock();
  // What others lead is for them to know.
  std::erase_if(damaged_, [&](const auto& d) { return !groups_.find(d.second.group); });
  if (!map_.leased()) return nullptr;
  for (const auto& [id, group] : groups_.all()) {
    // Who is joining is looked at when it has joined.
    if (!group->committable || !group->joiners.empty()) continue;
    // One that fails does not keep the others waiting.
    if (auto at = failed_.find(id);
        at != failed_.end() && env_.reactor.now() - at->second < kAfterFailure)
      continue;
    what = due(id);
    if (what != Due::kNothing) return group;
  }
  return nullptr;
}

Task<void> Scrubber::run() {
  while (!stopped_) {
    work_.reset();
    Due what = Due::kNothing;
    GroupRef group = next(what);
    if (!group) {
      co_await work_.waitFor(kLookEvery);
      continue;
    }
    const WallNs began = now();
    Result<void> done = fail(Errc::kBadMessage, "a member's answer is not readable");
    try {
      done = groups_.pool(group->id)->erasureCoded()
                 ? co_await scrubStripes(group, what == Due::kDeep)
                 : co_await scrub(group, what == Due::kDeep);
    } catch (const kj::Exception&) {  // `done` says it
    }
    if (stopped_) break;
    if (!done) {
      env_.log.debug("a scrub has to wait", {{"pool", group->id.pool.value},
                                             {"group", group->id.pg.value},
                                             {"reason", done.error().text()}});
      failed_[group->id] = env_.reactor.now();
      continue;
    }
    failed_.erase(group->id);
    Times& times = known_[group->id];
    times.light = began;
    if (what == Due::kDeep) times.deep = began;
    if (auto kept = store_.putNote(noteOf(group->id), write(times.light, times.deep)); !kept)
      env_.log.warning("a scrub could not be recorded", {{"reason", kept.error().text()}});
  }
}

void Scrubber::stop() {
  stopped_ = true;
  work_.set();
}

Task<Result<std::vector<Changed>>> Scrubber::everyChunk(GroupRef group, OsdId member) {
  std::vector<Changed> all;
  Changed from;
  while (true) {
    auto page = co_await members_.changes(member, group->id, from);
    CO_TRY(page);
    all.insert(all.end(), page->changes.begin(), page->changes.end());
    if (!page->more) co_return all;
    from = page->changes.back();
  }
}

Task<Result<void>> Scrubber::scrub(GroupRef group, bool deep) {
  const PlacementGroup* lists = groups_.lists(group->id);
  const std::vector<OsdId> others(lists->osds.begin() + 1, lists->osds.end());
  auto here = changesHere(store_, group->id, {});
  CO_TRY(here);
  std::map<ChunkId, ChunkVersion> ours;
  for (const Changed& c : *here)
    if (!c.removed) ours[c.chunk] = c.version;

  // Which chunks to look at, and where: all, or those that the lists disagree about.
  std::map<ChunkId, std::vector<OsdId>> suspects;
  if (deep)
    for (const auto& [chunk, version] : ours) suspects[chunk] = others;
  for (OsdId member : others) {
    auto theirs = co_await everyChunk(group, member);
    CO_TRY(theirs);
    std::map<ChunkId, ChunkVersion> have;
    for (const Changed& c : *theirs)
      if (!c.removed) have[c.chunk] = c.version;
    for (const auto& [chunk, version] : have)
      if (!ours.contains(chunk)) suspects[chunk].push_back(member);
    if (!deep)
      for (const auto& [chunk, version] : ours)
        if (auto at = have.find(chunk); at == have.end() || at->second != version)
          suspects[chunk].push_back(member);
  }
  for (auto& [chunk, members] : suspects) {
    if (stopped_ || group->over) co_return fail(Errc::kCanceled, "not the primary any more");
    CO_TRY(co_await look(group, chunk, std::move(members)));
  }
  forgetOthers(group->id, [&](ChunkId chunk) { return ours.contains(chunk); });
  co_return Result<void>{};
}

// Mends what it finds. Only what keeps it from looking is an error.
Task<Result<void>> Scrubber::look(GroupRef group, ChunkId chunk, std::vector<OsdId> members) {
  const uint64_t healedBefore = probe_.healed, unhealedBefore = probe_.unhealed;
  uint64_t sent = 0;
  bool lost = false;
  // Who has something later that cannot be taken is left as it is: it may be all that is left.
  std::vector<OsdId> equal;
  for (OsdId member : members) {
    auto taken = co_await equalizer_.takeNewer(group, chunk, member, throttle_);
    if (!taken && taken.error().code != Errc::kCorrupt) co_return fail(taken.error());
    lost |= !taken;
    if (!taken) continue;
    equal.push_back(member);
    if (*taken == 0) continue;
    env_.log.error("changes of a chunk were lost here and are taken from another member",
                   {{"chunk", chunk.value}, {"osd", member.value}});
    sent += *taken;
  }
  for (OsdId member : equal) {
    auto done = co_await equalizer_.chunk(group, chunk, member, &throttle_);
    if (!done && done.error().code != Errc::kCorrupt) co_return fail(done.error());
    lost |= !done;
    if (done) sent += *done;
  }
  std::vector<BlockRange> blocks;
  if (members.empty() || lost || probe_.unhealed != unhealedBefore) {
    auto here = co_await lostHere(chunk);
    CO_TRY(here);
    blocks = std::move(*here);
  }
  note(group->id, chunk, probe_.healed - healedBefore + sent / kBlockSize, std::move(blocks));
  co_return Result<void>{};
}

void Scrubber::note(GroupId group, ChunkId chunk, uint64_t mended, std::vector<BlockRange> lost) {
  if (mended != 0)
    env_.log.warning("a scrub has mended a chunk", {{"chunk", chunk.value}, {"blocks", mended}});
  found_ += mended;
  repaired_ += mended;
  if (lost.empty()) {
    damaged_.erase(chunk);
    return;
  }
  if (lost.size() > kMaxRanges) {
    lost[kMaxRanges - 1].to = lost.back().to;
    lost.resize(kMaxRanges);
  }
  if (damaged_.insert_or_assign(chunk, Damage{group, std::move(lost)}).second) {
    ++found_;
    env_.log.error("a chunk has blocks of which nothing good is left", {{"chunk", chunk.value}});
  }
}

// Every change of a chunk concerns all of its parity: so those who hold parity agree on the
// version, and nobody has a greater one. A light scrub looks at the chunks of which that is not
// true.
Task<Result<void>> Scrubber::scrubStripes(GroupRef group, bool deep) {
  const PlacementGroup* lists = groups_.lists(group->id);
  const ShardLayout layout = ShardLayout::of(*groups_.pool(group->id));
  struct Seen {
    std::set<ChunkVersion> data, parity;
    size_t parities = 0;
  };
  std::map<ChunkId, Seen> seen;
  size_t parities = 0;
  std::vector<std::pair<OsdId, uint8_t>> members;
  for (OsdId id : lists->osds) members.emplace_back(id, lists->shardOf(id));
  for (auto [id, shard] : members) {
    auto all = id == map_.self() ? changesHere(store_, inStore(group->id, shard), {})
                                 : co_await everyChunk(group, id);
    CO_TRY(all);
    const bool parity = shard >= layout.data;
    parities += parity ? 1 : 0;
    for (const Changed& c : *all) {
      if (c.removed || isStaged(c.chunk)) continue;
      Seen& s = seen[c.chunk];
      (parity ? s.parity : s.data).insert(c.version);
      s.parities += parity ? 1 : 0;
    }
  }
  for (const auto& [chunk, s] : seen) {
    const bool even = s.parities == parities && s.parity.size() <= 1 &&
                      (s.data.empty() || parities == 0 || *s.data.rbegin() <= *s.parity.rbegin());
    if (even && !deep) continue;
    if (stopped_ || group->over) co_return fail(Errc::kCanceled, "not the primary any more");
    const uint64_t healedBefore = probe_.healed;
    auto done = co_await rebuilder_.scrub(group, chunk, throttle_);
    if (!done && done.error().code != Errc::kCorrupt) co_return fail(done.error());
    std::vector<BlockRange> blocks;
    if (!done) {
      auto lost = co_await rebuilder_.lost(group, chunk, throttle_);
      CO_TRY(lost);
      blocks = std::move(*lost);
    }
    note(group->id, chunk, probe_.healed - healedBefore, std::move(blocks));
  }
  forgetOthers(group->id, [&](ChunkId chunk) { return seen.contains(chunk); });
  co_return Result<void>{};
}

// What is gone is not damaged any more.
void Scrubber::forgetOthers(GroupId group, const std::function<bool(ChunkId)>& exists) {
  std::erase_if(damaged_,
                [&](const auto& d) { return d.second.group == group && !exists(d.first); });
}

// What of our own copy cannot be read, and could not be healed.
Task<Result<std::vector<BlockRange>>> Scrubber::lostHere(ChunkId chunk) {
  std::vector<BlockRange> lost;
  auto end = endOf(store_, chunk);
  CO_TRY(end);
  const auto blocks = static_cast<uint32_t>(*end / kBlockSize);
  auto read = [&](uint32_t from, uint32_t to) {
    return store_.read(chunk, static_cast<uint32_t>(from * kBlockSize),
                       static_cast<uint32_t>((to - from) * kBlockSize));
  };
  for (uint32_t from = 0; from < blocks; from += kStretch) {
    auto turn = co_await throttle_.turn();
    const uint32_t to = std::min(blocks, from + kStretch);
    auto data = co_await read(from, to);
    if (data) continue;
    if (data.error().code != Errc::kCorrupt) co_return fail(data.error());
    for (uint32_t block = from; block < to; ++block)
      if (auto one = co_await read(block, block + 1); !one) addBlock(lost, block);
  }
  co_return lost;
}

ScrubProgress Scrubber::progress() {
  ScrubProgress p;
  p.errorsFound = found_;
  p.errorsRepaired = repaired_;
  p.unrepairable = damaged_.size();
  for (const auto& [id, group] : groups_.all()) {
    if (due(id) != Due::kNothing) ++p.groupsLeft;
    const Times done = times(id);
    if (p.oldestNs == 0 || done.light < p.oldestNs) p.oldestNs = done.light;
  }
  return p;
}

}  // namespace cairn::osd
