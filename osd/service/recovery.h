// Brings the members that are joining our groups up to date: those that were away, those that are
// new, those that failed in a mutation. And gives back what a group left here that moved away.
//
// A joiner is sent every new mutation from when its recovery begins; then what it may lack is
// listed once: all that changed, here or there, behind the number up to which it knows all to be
// committed. (The store's history of a group is never cut off but for removals: if it was cut
// behind what the joiner has, all chunks of the joiner are looked at.) Each is made equal; when
// nothing is left, the MDS is told and counts it as in sync.
//
// Groups with the fewest copies come first. One reactor thread.
#pragma once

#include <set>

#include "common/base/env.h"
#include "osd/service/equalizer.h"
#include "osd/service/erasure/shard_rebuilder.h"
#include "osd/service/erasure/stripe_resolver.h"
#include "osd/service/erasure/stripe_writer.h"
#include "osd/service/group_table.h"
#include "osd/service/membership.h"
#include "osd/service/replicator.h"

namespace cairn::osd {

class Recovery {
 public:
  // All outlive it.
  Recovery(Env& env, Store& store, ChunkTable& chunks, MapState& map, GroupTable& groups,
           MemberCalls& members, Peers& peers, Membership& membership, Equalizer& equalizer,
           Replicator& replicator, ShardRebuilder& rebuilder, StripeResolver& resolver,
           StripeWriter& stripes, Throttle& throttle);
  Recovery(const Recovery&) = delete;
  Recovery& operator=(const Recovery&) = delete;

  // Until stop(); ends when all that it began has ended.
  Task<void> run();
  void stop();
  // The map or a group changed.
  void wake() { work_.set(); }

  [[nodiscard]] RecoveryProgress progress();
  // What is left of the group, by its name in the store, is being removed: nobody may rely on it.
  [[nodiscard]] bool dropping(GroupId stored) const { return dropping_.contains(stored); }

 private:
  using JoinerRef = std::shared_ptr<Joiner>;
  struct Case {
    GroupRef group;
    JoinerRef joiner;
    size_t spare;  // copies or shards in sync, beyond what the data needs
  };
  std::vector<Case> waiting();
  Task<void> bringUp(GroupRef group, JoinerRef joiner);
  Task<Result<void>> attempt(const GroupRef& group, const JoinerRef& joiner);
  Task<Result<void>> list(const GroupRef& group, const JoinerRef& joiner);
  Task<Result<std::vector<Changed>>> changesOf(GroupRef group, OsdId member, Changed from);
  Task<Result<void>> clear(const GroupRef& group, const JoinerRef& joiner);
  Task<Result<void>> work(GroupRef group, JoinerRef joiner);
  Task<void> tidy();
  Task<void> drop(GroupId stored);
  Task<void> tidyStaged();
  Task<void> dropStaged(ChunkId stored, GroupId group);

  Env& env_;
  Store& store_;
  ChunkTable& chunks_;
  MapState& map_;
  GroupTable& groups_;
  MemberCalls& members_;
  Peers& peers_;
  Membership& membership_;
  Equalizer& equalizer_;
  Replicator& replicator_;
  ShardRebuilder& rebuilder_;
  StripeResolver& resolver_;
  StripeWriter& stripes_;
  Throttle& throttle_;
  std::set<JoinerRef> running_;
  std::set<GroupId> dropping_;
  // Staged chunks, by their names in the store, that were not changed since.
  std::map<ChunkId, std::pair<ChunkVersion, TimePoint>> staged_;
  std::map<GroupId, TimePoint> left_;  // since when a group (in the store) is not ours any more
  uint64_t bytesDone_ = 0;
  bool stopped_ = false;
  TimePoint tidied_{};
  Event work_, stop_;
  TaskScope scope_;
};

}  // namespace cairn::osd
