#include "osd/service/membership.h"

#include <algorithm>

#include "common/logging/log.h"

namespace cairn::osd {

namespace {
constexpr Duration kRetry = 50ms;
constexpr Duration kLeaseCheck = 100ms;
}  // namespace

Membership::Membership(Env& env, MapState& map, GroupTable& groups, MapSource& source)
    : env_(env), map_(map), groups_(groups), source_(source), work_(env.reactor) {}

// Whether the MDS can no longer come to count `member`: it does not now, and the group has another
// epoch than any report of ours that would make it.
bool Membership::excluded(const PlacementGroup& lists, OsdId member, const Wish& wish) const {
  return std::ranges::count(lists.osds, member) == 0 &&
         std::ranges::count(lists.complete, member) == 0 && lists.epoch > wish.announcedAt;
}

void Membership::forget(const Key& key, const GroupRef& group) {
  if (auto wish = wishes_.find(key); wish != wishes_.end() && wish->second.group.lock() == group)
    wishes_.erase(wish);
}

Task<Result<void>> Membership::exclude(GroupRef group, OsdId member) {
  const Key key{group->id, member};
  Wish& mine = wishes_[key];
  if (mine.synced || mine.group.lock() != group) mine = {};
  mine.group = group;
  if (auto joiner = group->joiners.find(member);
      joiner != group->joiners.end() && joiner->second->announced)
    if (const PlacementGroup* lists = groups_.lists(group->id)) mine.announcedAt = lists->epoch;
  const Wish wish = mine;
  work_.set();
  while (true) {
    std::optional<Error> why;
    const PlacementGroup* lists = groups_.lists(group->id);
    if (group->over || stopped_)
      why.emplace(Errc::kStaleEpoch, "not the primary any more");
    else if (!map_.leased())
      why.emplace(Errc::kUnavailable, "the lease ended before a member could be taken out");
    else if (lists == nullptr || excluded(*lists, member, wish))
      break;
    else if (!groups_.readableWithout(group->id, member))
      why.emplace(Errc::kUnavailable, "osd." + std::to_string(member.value) +
                                          " does not do what it is asked, and is needed");
    if (why) {
      forget(key, group);
      co_return fail(*why);
    }
    co_await group->changed.event().waitFor(kLeaseCheck);
  }
  if (auto joiner = group->joiners.find(member); joiner != group->joiners.end())
    joiner->second->announced = false;
  co_return Result<void>{};
}

void Membership::announce(const GroupRef& group, Joiner& joiner) {
  joiner.announced = true;
  wishes_[{group->id, joiner.id}] = {.synced = true, .announcedAt = {}, .group = group};
  work_.set();
}

// What is still to be said; drops what has come true or is not ours to say.
std::vector<GroupReport> Membership::due() {
  std::vector<GroupReport> reports;
  std::erase_if(wishes_, [&](auto& item) {
    const auto& [group, member] = item.first;
    const GroupRef ours = groups_.find(group);
    const PlacementGroup* lists = groups_.lists(group);
    const Wish& wish = item.second;
    if (!ours || lists == nullptr || wish.group.lock() != ours) return true;
    if (wish.synced) {
      // What an earlier primaryship announced is not for this one to say.
      auto joiner = ours->joiners.find(member);
      if (joiner == ours->joiners.end() || !joiner->second->announced || !joiner->second->tracked)
        return true;
    } else if (excluded(*lists, member, wish)) {
      return true;
    }
    reports.push_back({group, lists->epoch, member, wish.synced});
    return false;
  });
  return reports;
}

Task<void> Membership::run() {
  while (!stopped_) {
    std::vector<GroupReport> reports = due();
    if (reports.empty() || !map_.leased()) {
      work_.reset();
      if (reports.empty())
        co_await work_.wait();
      else
        co_await work_.waitFor(kLeaseCheck);
      continue;
    }
    // Those that fail come first: writes wait for them.
    std::ranges::partition(reports, [](const GroupReport& r) { return !r.synced; });
    const MapEpoch before = map_.epoch();
    auto told = co_await source_.report(std::move(reports));
    if (stopped_ || (told && map_.epoch() != before)) continue;
    if (!told)
      env_.log.warning("the MDS could not be told of a change in a group",
                       {{"reason", told.error().text()}});
    work_.reset();
    co_await work_.waitFor(kRetry);
  }
}

void Membership::stop() {
  stopped_ = true;
  work_.set();
}

}  // namespace cairn::osd
