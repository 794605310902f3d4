#include "osd/store/history.h"

#include <algorithm>

namespace cairn::osd {

namespace {
std::unexpected<Error> damaged(GroupId group, const std::string& what) {
  return fail(Errc::kCorrupt,
              nameOf(group) + ": its " + what +
                  " in the store's metadata is damaged: rebuild this store from its replicas");
}
}  // namespace

std::string nameOf(GroupId group) {
  return "placement group " + std::to_string(group.pg.value) + " of pool " +
         std::to_string(group.pool.value);
}

Result<void> History::load() {
  Result<void> all;
  TRY(metadata_.scan(std::string(1, keys::kGroupPrefix), [&](auto key, auto value) {
    if (key.front() != keys::kGroupPrefix) return false;
    auto id = keys::parseGroupState(key);
    auto state = decodeGroupState(key, value);
    if (id && state)
      groups_[*id].state = *state;
    else if (all)
      all = damaged(id.value_or(GroupId{}), "state");
    return true;
  }));
  return all;
}

GroupState History::state(GroupId group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? GroupState{} : it->second.state;
}

std::vector<GroupId> History::groups() const {
  std::vector<GroupId> ids;
  ids.reserve(groups_.size());
  for (const auto& [id, group] : groups_) ids.push_back(id);
  return ids;
}

Result<void> History::scan(GroupId group, const Changed& after, const Visit& visit) {
  std::string from = keys::change(group, after.version, after.chunk);
  const std::string prefix = from.substr(0, keys::kChangeGroupBytes);
  from.push_back('\0');  // the next key
  Result<void> whole;
  TRY(metadata_.scan(from, [&](auto key, auto value) {
    if (!key.starts_with(prefix)) return false;
    auto k = keys::parseChange(key);
    auto flags = ChangeFlags::decode(key, value);
    if (!k || !flags) {
      whole = damaged(group, "history");
      return false;
    }
    return visit({k->version, k->chunk, flags->removed});
  }));
  return whole;
}

void History::touched(GroupId id, Group& group) {
  if (!group.dirty) dirty_.push_back(id);
  group.dirty = true;
}

void History::note(const Stamp& stamp) {
  Group& group = groups_[stamp.group];
  group.state.last = std::max(group.state.last, stamp.version);
  group.state.committed = std::max(group.state.committed, stamp.committed);
  touched(stamp.group, group);
}

void History::trimmed(GroupId id, ChunkVersion upTo) {
  Group& group = groups_[id];
  group.state.trimmed = std::max(group.state.trimmed, upTo);
  touched(id, group);
}

void History::dropping(GroupId id) {
  auto group = groups_.find(id);
  if (group == groups_.end()) return;
  group->second.state.committed = {};
  touched(id, group->second);
}

void History::add(GroupId group, const Changed& change) {
  std::string key = keys::change(group, change.version, change.chunk);
  std::string value = ChangeFlags{change.removed}.encode(key);
  metadata_.putNew(std::move(key), std::move(value));
}

void History::replace(GroupId group, const Changed& before, const Changed& now) {
  if (before == now) return;
  if (before.version != now.version) {
    erase(group, before);
    add(group, now);
    return;
  }
  std::string key = keys::change(group, now.version, now.chunk);
  std::string value = ChangeFlags{now.removed}.encode(key);
  metadata_.put(std::move(key), std::move(value));
}

void History::erase(GroupId group, const Changed& change) {
  metadata_.del(keys::change(group, change.version, change.chunk));
}

void History::forget(GroupId group) {
  groups_.erase(group);
  metadata_.del(keys::groupState(group));
}

void History::store() {
  for (GroupId id : dirty_) {
    auto it = groups_.find(id);
    if (it == groups_.end()) continue;  // forgotten since
    it->second.dirty = false;
    std::string key = keys::groupState(id);
    std::string value = encodeGroupState(key, it->second.state);
    metadata_.put(std::move(key), std::move(value));
  }
  dirty_.clear();
}

}  // namespace cairn::osd
