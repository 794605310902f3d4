#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> dispatch(OpContext& ctx) {
  auto m = ctx.command().getMutation();
  using Kind = schema::Mutation::Which;
  if (!ctx.state().bootstrapped() && m.which() != Kind::BOOTSTRAP)
    return fail(Errc::kUnavailable, "the cluster is not set up yet");
  switch (m.which()) {
    case Kind::MAKE:
      return make(ctx, m.getMake());
    case Kind::LINK:
      return link(ctx, m.getLink());
    case Kind::REMOVE:
      return remove(ctx, m.getRemove());
    case Kind::RENAME:
      return rename(ctx, m.getRename());
    case Kind::SETATTR:
      return setattr(ctx, m.getSetattr());
    case Kind::SETXATTR:
      return setxattr(ctx, m.getSetxattr());
    case Kind::REMOVEXATTR:
      return removeXattr(ctx, m.getRemovexattr());
    case Kind::ALLOC_CHUNKS:
      return allocChunks(ctx, m.getAllocChunks());
    case Kind::COMMIT_WRITE:
      return commitWrite(ctx, m.getCommitWrite());
    case Kind::TAIL_CLEANED:
      return tailCleaned(ctx, m.getTailCleaned());
    case Kind::SET_LAYOUT:
      return setLayout(ctx, m.getSetLayout());
    case Kind::SESSION_OPEN:
      return sessionOpen(ctx, m.getSessionOpen());
    case Kind::SESSION_END:
      return sessionEnd(ctx, m.getSessionEnd());
    case Kind::RELEASE_ORPHAN:
      return releaseOrphan(ctx, m.getReleaseOrphan());
    case Kind::PURGE:
      return purge(ctx, m.getPurge());
    case Kind::GARBAGE_DONE:
      return garbageDone(ctx, m.getGarbageDone());
    case Kind::OSD_REGISTER:
      return osdRegister(ctx, m.getOsdRegister());
    case Kind::OSD_STATE:
      return osdState(ctx, m.getOsdState());
    case Kind::POOL_CREATE:
      return poolCreate(ctx, m.getPoolCreate());
    case Kind::BOOTSTRAP:
      return bootstrap(ctx, m.getBootstrap());
    case Kind::REMOVE_CHUNKS:
      return removeChunks(ctx, m.getRemoveChunks());
    case Kind::ACCESSED:
      return accessed(ctx, m.getAccessed());
    case Kind::GROUP_REPORT:
      return groupReport(ctx, m.getGroupReport());
    case Kind::OSDS_LOST:
      return osdsLost(ctx, m.getOsdsLost());
    case Kind::OSD_SET:
      return osdSet(ctx, m.getOsdSet());
    case Kind::OSD_REMOVE:
      return osdRemove(ctx, m.getOsdRemove());
    case Kind::POOL_SET:
      return poolSet(ctx, m.getPoolSet());
    case Kind::POOL_REMOVE:
      return poolRemove(ctx, m.getPoolRemove());
    case Kind::REBALANCE_PAUSE:
      return rebalancePause(ctx, m.getRebalancePause());
    case Kind::CHUNKS_LEAKED:
      return chunksLeaked(ctx, m.getChunksLeaked());
  }
  // Written by a newer program. Every member of this version answers the same, and the log goes on.
  return fail(Errc::kNotSupported, "this MDS does not know that kind of mutation");
}

}  // namespace cairn::mds::ops
