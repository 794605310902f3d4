// A mutation on every member of its group, by the primary.
//
// Invariants
//   - A mutation succeeds only when it is durable on every member that is in sync when the answer
//   is
//     given. A member that did not confirm it is taken out of the group first (Membership).
//   - It goes out with the exclusive lock of its blocks held, and the lock is kept until its
//   outcome
//     is the same on all who are in sync: members see the mutations of a block in the primary's
//     order, and a read shows only what every one of them holds.
//   - A mutation that fails is there on no member in sync: where some had room and others had not,
//     the former take it back.
//   - If none of that can be had, because the primaryship or the lease ends, the outcome is
//   unknown.
//     Then the group is served by nobody until a primary has made its members equal (Peering).
#pragma once

#include <functional>
#include <vector>

#include "common/base/env.h"
#include "osd/service/chunk_table.h"
#include "osd/service/equalizer.h"
#include "osd/service/group_table.h"
#include "osd/service/map_state.h"
#include "osd/service/member_calls.h"
#include "osd/service/membership.h"
#include "osd/service/probe.h"

namespace cairn::osd {

class Replicator {
 public:
  // All outlive it. `onStoreError` is told of kIo and kCorrupt from mutations of the store.
  Replicator(Env& env, Store& store, MapState& map, GroupTable& groups, MapSource& source,
             MemberCalls& members, Membership& membership, Equalizer& equalizer,
             std::function<void(const Error&)> onStoreError);
  Replicator(const Replicator&) = delete;
  Replicator& operator=(const Replicator&) = delete;

  // For the primary of an active group, with the exclusive lock of the mutation's blocks held and
  // `at` checked under it. kNoSpace: some member is full, and nothing changed; kStale: a chunk was
  // removed; kUnavailable: fewer members than the pool asks for; kUnavailable, kStaleEpoch:
  // unknown, the same mutation may be sent again.
  Task<Result<ChunkVersion>> mutate(Placement at, GroupRef group, Mutation mutation);
  // On this OSD alone, which holds `shard` of the group: what a member does. The lock is held.
  Task<Result<void>> apply(Mutation mutation, Stamp stamp, uint8_t shard);
  // On one member, us or another, that holds `shard`; the caller settles what becomes of it.
  // `mutation` outlives the call. Sent again for as long as the member only says that its map is
  // newer than ours.
  Task<Result<void>> send(GroupRef group, OsdId member, uint8_t shard, const Mutation& mutation,
                          ChunkVersion number, ChunkVersion committed);
  // Returns when every apply() of the group that was begun before has ended: what the store says of
  // the group then holds for all that came before.
  Task<void> applied(GroupId group);

 private:
  struct Outcome {
    OsdId member;
    Result<void> result;
  };
  Task<Result<void>> toMember(GroupRef group, OsdId member, const Mutation* mutation,
                              ChunkVersion number, ChunkVersion committed);
  Task<Result<void>> agree(const GroupRef& group, const Mutation& mutation, const Error& ours,
                           const std::vector<Outcome>& others);
  Task<Result<void>> takeBack(const GroupRef& group, const Mutation& mutation,
                              std::vector<Outcome> joining);
  [[nodiscard]] bool tooFew(const GroupRef& group, const Mutation& mutation) const;
  Task<Result<void>> settleJoiners(const GroupRef& group, const Mutation& mutation,
                                   const std::vector<Outcome>& sent);
  std::vector<OsdId> inSync(const GroupRef& group) const;
  std::optional<Error> slotGone(const Mutation& mutation);
  [[nodiscard]] uint8_t ownShard(const GroupRef& group) const;

  Env& env_;
  Store& store_;
  MapState& map_;
  GroupTable& groups_;
  MapSource& source_;
  MemberCalls& members_;
  Membership& membership_;
  Equalizer& equalizer_;
  std::function<void(const Error&)> onStoreError_;
  std::map<GroupId, std::set<uint64_t>> applying_;  // tickets, in the order in which they began
  uint64_t nextTicket_ = 1;
  Pulse appliedOne_;
};

}  // namespace cairn::osd
