#include "osd/service/group_table.h"

#include <algorithm>

#include "common/base/assert.h"

namespace cairn::osd {

ChunkVersion Group::take(uint64_t count) {
  const uint64_t first = next_;
  next_ += count;
  for (uint64_t n = first; n < next_; ++n) open_.insert(open_.end(), n);
  return ChunkVersion{first};
}

void Group::settle(ChunkVersion first, uint64_t count) {
  for (uint64_t n = first.value; n < first.value + count; ++n) {
    const size_t erased = open_.erase(n);
    CAIRN_ASSERT(erased == 1, "a number is settled once");
  }
  changed.fire();
}

ChunkVersion Group::committed() const {
  return ChunkVersion{(open_.empty() ? next_ : *open_.begin()) - 1};
}

void Group::follow(Joiner& joiner) const {
  joiner.tracked = joiner.following = true;
  joiner.followsFrom = ChunkVersion{next_};
}

bool Group::lacksNothing(const Joiner& joiner) const {
  return joiner.following && joiner.behind.empty() && joiner.working == 0 &&
         committed().value + 1 >= joiner.followsFrom.value;
}

GroupRef GroupTable::find(GroupId id) const {
  auto it = groups_.find(id);
  return it == groups_.end() ? nullptr : it->second;
}

const PlacementGroup* GroupTable::lists(GroupId id) const {
  if (!map_.map()) return nullptr;
  auto found = map_.map()->group(id.pool, id.pg);
  return found ? *found : nullptr;
}

const Pool* GroupTable::pool(GroupId id) const {
  return map_.map() ? map_.map()->pool(id.pool) : nullptr;
}

bool GroupTable::readable(GroupId id) const {
  const PlacementGroup* now = lists(id);
  return now != nullptr && now->inSync() >= pool(id)->needed();
}

bool GroupTable::readableWithout(GroupId id, OsdId member) const {
  const PlacementGroup* now = lists(id);
  if (now == nullptr) return true;
  PlacementGroup without = *now;
  std::erase(without.osds, member);
  return without.inSync() >= pool(id)->needed();
}

void GroupTable::end(const GroupRef& group) {
  group->over = true;
  group->active = false;
  for (auto& [id, joiner] : group->joiners) joiner->over = true;
  group->changed.fire();
}

std::shared_ptr<UnderWay> GroupTable::underWay(GroupId id) {
  std::weak_ptr<UnderWay>& known = underWay_[id];
  auto underWay = known.lock();
  if (!underWay) known = underWay = std::make_shared<UnderWay>(reactor_);
  return underWay;
}

// `before`: our primaryship of the same group until now, if there was one.
void GroupTable::begin(GroupId id, const GroupRef& before) {
  auto group = std::make_shared<Group>(reactor_, id, underWay(id));
  groups_[id] = group;
  followJoiners(*group, *lists(id));
  // The MDS may still come to count whom we had announced: Peering sees to it that it does not.
  if (before)
    for (auto& [member, joiner] : group->joiners)
      if (auto was = before->joiners.find(member); was != before->joiners.end())
        joiner->announced = was->second->announced;
  onNew_(group);
}

void GroupTable::followJoiners(Group& group, const PlacementGroup& lists) {
  std::erase_if(group.joiners, [&](auto& item) {
    if (std::ranges::count(lists.joining, item.first) != 0 &&
        lists.shardOf(item.first) == item.second->shard)
      return false;
    item.second->over = true;
    return true;
  });
  for (OsdId id : lists.joining)
    if (auto& joiner = group.joiners[id]; !joiner) {
      joiner = std::make_shared<Joiner>();
      joiner->id = id;
      joiner->shard = lists.shardOf(id);
    }
}

void GroupTable::follow() {
  if (closed_ || !map_.map()) return;
  const bool lapsed = std::exchange(lapses_, map_.lapses()) != map_.lapses();
  auto ours = [&](const PlacementGroup& g) {
    return !g.osds.empty() && g.osds.front() == map_.self();
  };
  std::map<GroupId, GroupRef> ended;
  std::erase_if(groups_, [&](auto& item) {
    const PlacementGroup* now = lists(item.first);
    if (!lapsed && now != nullptr && ours(*now) && goesOn(*item.second, *now)) {
      followJoiners(*item.second, *now);
      followSize(*item.second);
      item.second->changed.fire();
      return false;
    }
    end(item.second);
    ended[item.first] = item.second;
    return true;
  });
  for (const auto& [poolId, pool] : map_.map()->pools)
    for (uint32_t i = 0; i < pool.pgs.size(); ++i) {
      const GroupId id{poolId, PgIndex{i}};
      if (ours(pool.pgs[i]) && !groups_.contains(id)) begin(id, ended[id]);
    }
}

// Below what is needed to read anything the MDS may count others again that were in sync before.
bool GroupTable::goesOn(const Group& group, const PlacementGroup& lists) const {
  return !group.active || lists.inSync() >= pool(group.id)->needed();
}

void GroupTable::followSize(Group& group) const {
  if (!group.active) return;
  // Shards cannot take over from others: what is resolved with those in sync is certain.
  const Pool& p = *pool(group.id);
  if (p.erasureCoded() || lists(group.id)->inSync() >= p.minSize) group.committable = true;
}

void GroupTable::activate(const GroupRef& group, ChunkVersion last, MapEpoch epoch) {
  group->begin(last, epoch);
  group->active = true;
  followSize(*group);
  group->changed.fire();
}

void GroupTable::restart(const GroupRef& group) {
  if (group->over) return;
  end(group);
  groups_.erase(group->id);
  const PlacementGroup* now = lists(group->id);
  if (!closed_ && now != nullptr && !now->osds.empty() && now->osds.front() == map_.self())
    begin(group->id, group);
}

void GroupTable::close() {
  closed_ = true;
  for (auto& [id, group] : groups_) end(group);
  groups_.clear();
}

}  // namespace cairn::osd
