// What a former primary left of changes of stripes, by the new one before it serves: each staged
// change is made by all or forgotten by all (staged_op.h says which), and removals that reached
// some reach everybody.
//
// One reactor thread.
#pragma once

#include <functional>
#include <set>

#include "osd/service/erasure/shard_reader.h"
#include "osd/service/erasure/staged_op.h"
#include "osd/service/replicator.h"

namespace cairn::osd {

class StripeResolver {
 public:
  // All outlive it.
  StripeResolver(Env& env, Store& store, const MapState& map, const GroupTable& groups,
                 MemberCalls& members, Replicator& replicator)
      : env_(env),
        store_(store),
        map_(map),
        groups_(groups),
        members_(members),
        replicator_(replicator),
        atOnce_(env.reactor, 16) {}

  // `changed`: what each member in sync says has changed behind the smallest number that any of
  // them knows to be committed; removals go on with few in sync, and one that comes back has missed
  // them. Changes up to `committed`, the greatest, have been made by all. `alone` is asked before
  // the first change is made: it makes sure that nobody comes back into the group as it was, who
  // may not have the slot. `failed` is who did not do what it was asked, if that is the reason of
  // an error.
  using Alone = std::function<Task<Result<void>>()>;
  Task<Result<void>> resolve(GroupRef group, ChunkVersion committed,
                             const std::vector<Changed>& changed, const Alone& alone,
                             std::optional<OsdId>& failed);
  // Forgets what a member has staged that is about to join; it takes no part in changes yet.
  Task<Result<void>> clear(GroupRef group, OsdId member, const std::vector<Changed>& theirs);

 private:
  struct Slots {
    OsdId member;
    uint8_t shard;
    MemberStaged staged;
  };
  Task<Result<void>> chunk(GroupRef group, ChunkId chunk, ChunkVersion committed,
                           const Alone& alone, std::optional<OsdId>& failed);
  Task<Result<void>> removal(GroupRef group, ChunkId chunk, ChunkVersion version,
                             std::optional<OsdId>& failed);
  Task<Result<MemberStaged>> stagedAt(GroupRef group, OsdId member, uint8_t shard, ChunkId chunk);
  Task<Result<void>> sendAll(GroupRef group, OsdId to, uint8_t shard, std::vector<Mutation> what,
                             ChunkVersion number);

  Env& env_;
  Store& store_;
  const MapState& map_;
  const GroupTable& groups_;
  MemberCalls& members_;
  Replicator& replicator_;
  Semaphore atOnce_;
};

}  // namespace cairn::osd
