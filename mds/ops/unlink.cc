#include "mds/ops/unlink.h"

#include <algorithm>
#include <limits>

#include "mds/ops/chunk_map.h"
#include "mds/state/keys.h"

namespace cairn::mds::ops {
namespace {

// The leader named them before the command was ordered: a session may have ended since.
std::vector<SessionId> holders(OpContext& ctx) {
  std::vector<SessionId> out;
  for (uint64_t id : ctx.command().getOpenBy())
    if (ctx.state().sessions.contains(SessionId(id))) out.emplace_back(id);
  std::ranges::sort(out);
  auto repeated = std::ranges::unique(out);
  out.erase(repeated.begin(), repeated.end());
  return out;
}

Result<void> freeXattrs(OpContext& ctx, Inode& inode, size_t& budget) {
  if (inode.xattrCount == 0 || budget == 0) return {};
  auto names = ctx.state().xattrNames(inode.ino, budget);
  TRY(names);
  for (const auto& name : *names) {
    ctx.state().txn.del(keys::xattr(inode.ino, name));
    inode.xattrListBytes -= static_cast<uint32_t>(name.size() + 1);
  }
  inode.xattrCount -= static_cast<uint32_t>(names->size());
  budget -= names->size();
  ctx.touch(inode);
  return {};
}

}  // namespace

Result<void> dropName(OpContext& ctx, Inode& victim) {
  ctx.changed(victim);
  victim.nlink = victim.isDirectory() ? 0 : victim.nlink - 1;
  if (victim.nlink != 0) return {};
  auto heldBy = holders(ctx);
  if (heldBy.empty()) return release(ctx, victim);
  ctx.setOrphan(victim.ino, std::move(heldBy));
  return {};
}

Result<void> release(OpContext& ctx, Inode& inode) {
  if (inode.chunkCount <= kMaxFreedAtOnce && inode.xattrCount <= kMaxFreedAtOnce) {
    size_t budget = 2 * kMaxFreedAtOnce;
    if (inode.chunkCount == 1) {
      // Small files are most files: one get instead of an iterator.
      auto only = ctx.state().chunk(inode.ino, 0);
      TRY(only);
      if (*only) discard(ctx, inode, {0, (*only)->id, (*only)->pool});
    }
    TRY(freeContents(ctx, inode, budget));
    ctx.dropOrphan(inode.ino);
    return {};
  }
  ctx.setOrphan(inode.ino, {});
  return {};
}

Result<void> freeContents(OpContext& ctx, Inode& inode, size_t& budget) {
  if (inode.chunkCount != 0) {
    // All of them are condemned; the first step's `from` remembers how far earlier calls came.
    constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
    if (inode.condemned.size() != 1 || inode.condemned[0].below != kAll)
      inode.condemned = {{0, kAll}};
    TRY(discardCondemned(ctx, inode, budget));
  }
  TRY(freeXattrs(ctx, inode, budget));
  if (inode.chunkCount == 0 && inode.xattrCount == 0) ctx.dropInode(inode);
  return {};
}

}  // namespace cairn::mds::ops
