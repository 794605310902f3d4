#include "mds/server/group_reports.h"

#include <algorithm>

#include "common/logging/log.h"

namespace cairn::mds {
namespace {

// For so long an accusation says something of who is cut off. Longer than it takes a primary to
// find the next member missing too.
constexpr Duration kMemory = 10s;
// After a moment, a second heartbeat proves that its sender was alive after that moment.
constexpr uint64_t kProof = 2;

bool contains(const std::vector<OsdId>& list, OsdId id) {
  return std::ranges::find(list, id) != list.end();
}

}  // namespace

GroupReports::GroupReports(Env& env, StateMachine& state, Proposer& proposer, OsdMonitor& osds)
    : env_(env), state_(state), proposer_(proposer), osds_(osds) {}

const PlacementGroup* GroupReports::current(const GroupKey& key, MapEpoch epoch) const {
  auto group = state_.map().group(key.first, key.second);
  return group && (*group)->epoch == epoch && !(*group)->osds.empty() ? *group : nullptr;
}

Task<Result<void>> GroupReports::report(OsdId reporter,
                                        capnp::List<schema::GroupChange>::Reader changes) {
  const TimePoint now = env_.reactor.now();
  std::map<GroupKey, std::vector<Change>> byGroup;
  for (auto c : changes) {
    const GroupKey key(PoolId(c.getPool()), PgIndex(c.getPg()));
    const PlacementGroup* group = current(key, MapEpoch(c.getEpoch()));
    const OsdId member(c.getMember());
    if (group == nullptr || group->osds.front() != reporter || member == reporter) continue;
    const bool synced = c.getKind() == schema::GroupChange::Kind::SYNCED;
    if (synced)
      accused_.erase({reporter, member});
    else
      accused_[{reporter, member}] = now;
    byGroup[key].push_back({key, group->epoch, member, synced});
  }
  std::vector<Change> believed;
  for (auto& [key, list] : byGroup) {
    if (needsHearing(key, list))
      open(key, reporter, list);
    else
      std::ranges::move(list, std::back_inserter(believed));
  }
  co_return co_await propose(std::move(believed));
}

// Whether the group would have too few in sync by what is said of it, and had enough before.
bool GroupReports::needsHearing(const GroupKey& key, const std::vector<Change>& changes) const {
  const PlacementGroup& group = **state_.map().group(key.first, key.second);
  const size_t minSize = state_.map().pool(key.first)->minSize;
  PlacementGroup left = group;
  for (const Change& c : changes)
    if (!c.synced) std::erase(left.osds, c.member);
  return group.inSync() >= minSize && left.inSync() < minSize;
}

void GroupReports::open(const GroupKey& key, OsdId reporter, const std::vector<Change>& changes) {
  const PlacementGroup& group = **state_.map().group(key.first, key.second);
  Hearing& hearing = hearings_[key];
  if (hearing.epoch != group.epoch) {
    hearing = {group.epoch, reporter, {{reporter, osds_.beats(reporter)}}};
    env_.log.warning(
        "a primary reaches too few members of its group",
        {{"osd", reporter.value}, {"pool", key.first.value}, {"pg", key.second.value}});
  }
  for (const Change& c : changes)
    if (!c.synced && contains(group.osds, c.member))
      hearing.heardAt.try_emplace(c.member, osds_.beats(c.member));
}

bool GroupReports::allHeard(const Hearing& hearing) const {
  return std::ranges::all_of(hearing.heardAt, [this](const auto& at) {
    return osds_.beats(at.first) >= at.second + kProof;
  });
}

// Whether the primary says of all others that it does not reach them. Those in the map's lists are
// up: who is called down leaves them.
bool GroupReports::isCutOff(const PlacementGroup& group) const {
  const OsdId primary = group.osds.front();
  const TimePoint now = env_.reactor.now();
  size_t others = 0;
  for (const auto* list : {&group.osds, &group.joining})
    for (OsdId id : *list) {
      if (id == primary) continue;
      ++others;
      auto it = accused_.find({primary, id});
      if (it == accused_.end() || now - it->second > kMemory) return false;
    }
  return others >= 2;
}

Task<void> GroupReports::decide() {
  const TimePoint now = env_.reactor.now();
  std::erase_if(accused_, [now](const auto& a) { return now - a.second > kMemory; });
  std::vector<Change> verdict;
  std::erase_if(hearings_, [&](const auto& entry) {
    const auto& [key, hearing] = entry;
    const PlacementGroup* group = current(key, hearing.epoch);
    if (group == nullptr) return true;
    if (!allHeard(hearing)) return false;
    const bool cutOff = isCutOff(*group);
    for (const auto& [id, beats] : hearing.heardAt)
      if ((id == hearing.reporter) == cutOff) verdict.push_back({key, hearing.epoch, id, false});
    env_.log.warning(
        cutOff ? "a primary is cut off from its group and taken out"
               : "a group goes on with too few members for writes",
        {{"osd", hearing.reporter.value}, {"pool", key.first.value}, {"pg", key.second.value}});
    return true;
  });
  (void)co_await propose(std::move(verdict));
}

void GroupReports::forgive(Duration gap) {
  for (auto& [who, at] : accused_) at += gap;
}

Task<Result<void>> GroupReports::propose(std::vector<Change> changes) {
  if (changes.empty()) co_return Result<void>{};
  constexpr size_t kChangeWords = 5;
  Draft draft(changes.size() * kChangeWords + 16);
  auto list = draft.mutation().initGroupReport(static_cast<uint32_t>(changes.size()));
  for (uint32_t i = 0; i < changes.size(); ++i) {
    list[i].setPool(changes[i].group.first.value);
    list[i].setPg(changes[i].group.second.value);
    list[i].setEpoch(changes[i].epoch.value);
    list[i].setMember(changes[i].member.value);
    list[i].setKind(changes[i].synced ? schema::GroupChange::Kind::SYNCED
                                      : schema::GroupChange::Kind::FAILED);
  }
  auto done = co_await proposer_.propose(std::move(draft));
  CO_TRY(done);
  co_return Result<void>{};
}

}  // namespace cairn::mds
