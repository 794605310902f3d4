// What a primary asks the MDS, who alone decides who is in a group: that a member which lacks a
// mutation is not counted as in sync any more, and that one which lacks nothing is.
//
// One reactor thread. Reports of all groups travel together, one message at a time.
#pragma once

#include <map>

#include "common/base/env.h"
#include "osd/service/group_table.h"
#include "osd/service/mds_link.h"

namespace cairn::osd {

class Membership {
 public:
  // All outlive it.
  Membership(Env& env, MapState& map, GroupTable& groups, MapSource& source);
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;

  // Returns once the MDS does not count `member` as in sync, and will not because of an earlier
  // announce(). kStaleEpoch: we are not the primary any more; kUnavailable: the lease is over, or
  // without it too few would be left to read what the group holds.
  Task<Result<void>> exclude(GroupRef group, OsdId member);
  // `joiner` lacks nothing. It is `announced` from now on.
  void announce(const GroupRef& group, Joiner& joiner);

  // Sends the reports, until stop().
  Task<void> run();
  void stop();

 private:
  struct Wish {
    bool synced = false;
    // Failed: the joiner could be counted by a report of this epoch or before.
    MapEpoch announcedAt;
    // The primaryship that wishes it: what an earlier one thought of a member is of no use.
    std::weak_ptr<Group> group;
  };
  using Key = std::pair<GroupId, OsdId>;
  [[nodiscard]] bool excluded(const PlacementGroup& lists, OsdId member, const Wish& wish) const;
  void forget(const Key& key, const GroupRef& group);
  std::vector<GroupReport> due();

  Env& env_;
  MapState& map_;
  GroupTable& groups_;
  MapSource& source_;
  std::map<Key, Wish> wishes_;
  bool stopped_ = false;
  Event work_;
};

}  // namespace cairn::osd
