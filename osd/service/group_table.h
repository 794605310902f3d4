// The placement groups whose primary this OSD is: whether they are served already, the numbers of
// their mutations, and how far those who are joining have come.
//
// One Group object is one primaryship: from when a map made this OSD the primary until a map says
// otherwise, or until the lease has lapsed: in that time another OSD may have been the primary,
// unseen. Whoever works for a group holds a reference, and looks at `over` after every wait.
//
// One reactor thread; nothing here suspends.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/base/ids.h"
#include "common/cluster/cluster_map.h"
#include "common/reactor/pulse.h"
#include "osd/service/map_state.h"
#include "osd/store.h"

namespace cairn::osd {

// An OSD that belongs to a group and lacks something.
struct Joiner {
  OsdId id;
  uint8_t shard = 0;  // which it is to hold; with another one it begins anew
  // From when this is set, every mutation either reaches it or its chunk is put into `behind`.
  bool tracked = false;
  bool following = false;  // it is sent new mutations
  // Chunks in which it may differ from us, once what it lacked at the beginning was listed.
  std::set<ChunkId> behind;
  size_t working = 0;  // taken from `behind`, being made equal
  // Mutations below this may have passed it by while they were under way.
  ChunkVersion followsFrom;
  // The MDS may count it as in sync from now on: so a mutation is acknowledged only if it is
  // durable there, or the MDS has confirmed that it is not counted.
  bool announced = false;
  // It lacks nothing but that slots go which it does not have: changes of stripes leave none.
  bool closing = false;
  TimePoint failedAt{};  // its recovery, last
  bool over = false;     // it left the group, or is in sync
};

// How many mutations are under way in a group, whichever primaryship they began in.
struct UnderWay {
  explicit UnderWay(Reactor& reactor) : ended(reactor) {}
  size_t count = 0;
  Pulse ended;
};

// One of them, while it lives.
class Counted {
 public:
  explicit Counted(std::shared_ptr<UnderWay> underWay) : underWay_(std::move(underWay)) {
    ++underWay_->count;
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() {
    if (--underWay_->count == 0) underWay_->ended.fire();
  }

 private:
  const std::shared_ptr<UnderWay> underWay_;
};

class Group {
 public:
  Group(Reactor& reactor, GroupId group, std::shared_ptr<UnderWay> underWay)
      : id(group), mutations(std::move(underWay)), changed(reactor) {}

  const GroupId id;
  // All who are in sync hold the same, and nobody serves the group but us.
  bool active = false;
  // What they hold is committed: at some moment since it is active they were enough for that. (A
  // change that reached us alone, and was never acknowledged, could still vanish with us.)
  bool committable = false;
  bool over = false;
  std::map<OsdId, std::shared_ptr<Joiner>> joiners;
  const std::shared_ptr<UnderWay> mutations;
  ChunkVersion trimmed;  // the greatest of all who are in sync
  Pulse changed;         // any of the above, the map, or what is committed

  // ---- Numbers of mutations ----
  // No two primaries of a group use the same numbers, also where nothing was recorded under one.
  void begin(ChunkVersion last, MapEpoch epoch) {
    next_ = std::max(last.value + 1, epoch.value << 32);
  }
  // The first of `count` numbers. Each is open until it is settled.
  ChunkVersion take(uint64_t count);
  // The mutation is durable on all who are in sync, or on none of them.
  void settle(ChunkVersion first, uint64_t count);
  // Everything up to here is durable on all who are in sync.
  [[nodiscard]] ChunkVersion committed() const;

  // `joiner` is sent every mutation that begins from now on.
  void follow(Joiner& joiner) const;
  // It lacks nothing: all that began before it followed has ended, and nothing is behind.
  [[nodiscard]] bool lacksNothing(const Joiner& joiner) const;
  [[nodiscard]] bool closing() const {
    return std::ranges::any_of(joiners, [](const auto& j) { return j.second->closing; });
  }

 private:
  uint64_t next_ = 1;
  std::set<uint64_t> open_;
};

using GroupRef = std::shared_ptr<Group>;

class GroupTable {
 public:
  // `map` outlives it. `onNew` is told of each primaryship when it begins; it activates the group.
  GroupTable(Reactor& reactor, const MapState& map, std::function<void(GroupRef)> onNew)
      : reactor_(reactor), map_(map), onNew_(std::move(onNew)) {}

  // The map or the lease has changed.
  void follow();
  // Null when we are not its primary.
  [[nodiscard]] GroupRef find(GroupId id) const;
  // The members have been made equal in `epoch` of the group; `last` is the greatest number that
  // any of them has seen.
  void activate(const GroupRef& group, ChunkVersion last, MapEpoch epoch);
  // A mutation's outcome is unknown: the members must be made equal before anything else happens in
  // the group. Begins a new primaryship if it is (still) ours.
  void restart(const GroupRef& group);
  // Nothing is served any more.
  void close();

  [[nodiscard]] const std::map<GroupId, GroupRef>& all() const { return groups_; }
  // What the map says of the group now; null if it is not there.
  [[nodiscard]] const PlacementGroup* lists(GroupId id) const;
  [[nodiscard]] const Pool* pool(GroupId id) const;
  // False when so few are in sync that not all of the group's data can be read. A group of which
  // that was true begins anew: others, who hold as much, may come into the list again.
  [[nodiscard]] bool readable(GroupId id) const;
  [[nodiscard]] bool readableWithout(GroupId id, OsdId member) const;

 private:
  void end(const GroupRef& group);
  void begin(GroupId id, const GroupRef& before);
  std::shared_ptr<UnderWay> underWay(GroupId id);
  static void followJoiners(Group& group, const PlacementGroup& lists);
  void followSize(Group& group) const;
  bool goesOn(const Group& group, const PlacementGroup& lists) const;

  Reactor& reactor_;
  const MapState& map_;
  std::function<void(GroupRef)> onNew_;
  std::map<GroupId, GroupRef> groups_;
  // Also of groups that are not led here at the moment, for as long as anything is under way.
  std::map<GroupId, std::weak_ptr<UnderWay>> underWay_;
  uint64_t lapses_ = 0;
  bool closed_ = false;
};

}  // namespace cairn::osd
