// What a primary does before it serves a group: it waits until nobody else can, and makes all
// members that are in sync equal, for a mutation whose primary died may have reached only some.
//
// What it keeps: of a mutation that was acknowledged all members have the same. Of another, what
// this OSD has is what counts from now on; either outcome is right, so long as it is one.
//
// Mutations that were under way when it began are waited for, here and at the members: none lands
// after that was asked.
//
// How little is compared: every member knows a number up to which all mutations are committed.
// Members can differ only in chunks whose last change, on one or the other, has a greater number
// than the greatest of those. (PacificA: Lin, Yang, Zhang, Zhou, Microsoft Research 2008, calls
// this reconciliation.)
//
// One reactor thread.
#pragma once

#include "common/base/env.h"
#include "osd/service/equalizer.h"
#include "osd/service/erasure/stripe_resolver.h"
#include "osd/service/group_table.h"
#include "osd/service/membership.h"
#include "osd/service/replicator.h"

namespace cairn::osd {

class Peering {
 public:
  // All outlive it.
  Peering(Env& env, Store& store, MapState& map, GroupTable& groups, MapSource& source,
          MemberCalls& members, Membership& membership, Equalizer& equalizer,
          Replicator& replicator, StripeResolver& resolver,
          std::function<void(const Error&)> onStoreError);
  Peering(const Peering&) = delete;
  Peering& operator=(const Peering&) = delete;

  // Until the group is active, or its primaryship is over. A member that does not answer is taken
  // out of the group.
  Task<void> activate(GroupRef group);

 private:
  Task<Result<void>> attempt(const GroupRef& group);
  Task<Result<void>> resolve(GroupRef group, ChunkVersion committed, std::vector<Changed> changed);
  Task<Result<void>> reconcileAll(GroupRef group, std::vector<OsdId> others,
                                  const std::vector<Changed>& changed);
  Task<Result<MemberChanges>> changesOf(GroupRef group, OsdId member, ChunkVersion after);
  Task<Result<void>> reconcile(GroupRef group, OsdId member, std::set<ChunkId> chunks);
  Task<Result<uint64_t>> equalize(GroupRef group, OsdId member, ChunkId chunk);

  Env& env_;
  Store& store_;
  MapState& map_;
  GroupTable& groups_;
  MapSource& source_;
  MemberCalls& members_;
  Membership& membership_;
  Equalizer& equalizer_;
  Replicator& replicator_;
  StripeResolver& resolver_;
  std::function<void(const Error&)> onStoreError_;
  Semaphore groupsAtOnce_, chunksAtOnce_;
};

// All changes of our own store behind `after`. The group is named as there, chunks as on the wire.
Result<std::vector<Changed>> changesHere(Store& store, GroupId group, ChunkVersion after);

}  // namespace cairn::osd
