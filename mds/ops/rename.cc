// renameat2(2) with all its flags.
//
// Errors: kNotFound, kExists (NOREPLACE), kIsDirectory / kNotDirectory / kNotEmpty (what it would
// replace), kLoop (a directory below itself), kTooManyLinks, kInvalid (flags), and those of a
// directory and a name (make.cc).
#include <sys/stat.h>

#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/unlink.h"
#include "mds/ops/xattrs.h"

namespace cairn::mds::ops {
namespace {

enum Flag : uint32_t { kNoReplace = 1, kExchange = 2, kWhiteout = 4, kAllFlags = 7 };

// Whether `dir` is `ancestor` or lies below it. Directories have one parent, so the walk to the
// root is short; the bound turns a damaged tree into an error instead of an endless loop.
Result<bool> isBelow(OpContext& ctx, const Inode& dir, const Inode& ancestor) {
  constexpr int kMaxDepth = 1 << 20;
  const Inode* at = &dir;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    if (at->ino == ancestor.ino) return true;
    if (at->ino == kRootInode) return false;
    auto up = ctx.storedInode(at->parent);
    TRY(up);
    if (*up == nullptr) break;
    at = *up;
  }
  return fail(Errc::kCorrupt,
              "directory " + std::to_string(dir.ino.value) + " is not connected to the root");
}

Result<void> refuseLoop(OpContext& ctx, const Inode& moved, const Inode& from, const Inode& to) {
  if (!moved.isDirectory() || from.ino == to.ino) return {};
  auto below = isBelow(ctx, to, moved);
  TRY(below);
  if (*below) return fail(Errc::kLoop);
  return {};
}

Result<void> checkReplaceable(const Inode& source, const Inode& target) {
  if (target.isDirectory()) {
    if (!source.isDirectory()) return fail(Errc::kIsDirectory);
    if (target.size != 0) return fail(Errc::kNotEmpty);
  } else if (source.isDirectory()) {
    return fail(Errc::kNotDirectory);
  }
  return {};
}

}  // namespace

Result<void> rename(OpContext& ctx, schema::Rename::Reader args) {
  const auto name = nameOf(args.getName()), newName = nameOf(args.getNewName());
  const uint32_t flags = args.getFlags();
  if ((flags & ~uint32_t{kAllFlags}) != 0) return fail(Errc::kInvalid);
  const bool exchange = (flags & kExchange) != 0;
  if (exchange && flags != kExchange) return fail(Errc::kInvalid);
  TRY(checkName(name));
  TRY(checkName(newName));

  auto oldParent = ctx.directory(InodeId(args.getParent()));
  TRY(oldParent);
  auto newParent = ctx.directory(InodeId(args.getNewParent()));
  TRY(newParent);
  Inode &from = **oldParent, &to = **newParent;
  auto foundSource = ctx.child(from, name);
  TRY(foundSource);
  auto foundTarget = ctx.child(to, newName);
  TRY(foundTarget);
  Inode *source = *foundSource, *target = *foundTarget;
  if (source == nullptr || (exchange && target == nullptr)) return fail(Errc::kNotFound);
  if (target != nullptr && (flags & kNoReplace) != 0) return fail(Errc::kExists);
  if (source == target) return {};  // POSIX: two names of one file, or one name: nothing happens

  TRY(refuseLoop(ctx, *source, from, to));
  if (exchange)
    TRY(refuseLoop(ctx, *target, to, from));
  else if (target != nullptr)
    TRY(checkReplaceable(*source, *target));
  const bool gainsDirectory =
      source->isDirectory() && (target == nullptr || !target->isDirectory()) && &from != &to;
  const bool losesDirectory = exchange && target->isDirectory() && !source->isDirectory();
  if ((gainsDirectory && to.nlink >= kMaxLinks) ||
      (losesDirectory && &from != &to && from.nlink >= kMaxLinks))
    return fail(Errc::kTooManyLinks);

  ctx.detach(from, name, *source);
  if (target != nullptr) ctx.detach(to, newName, *target);
  ctx.attach(to, newName, *source);
  if (exchange) ctx.attach(from, name, *target);
  if ((flags & kWhiteout) != 0) {
    // What overlay filesystems take for "deleted here": a character device 0:0.
    const uint32_t gid = (from.mode & S_ISGID) != 0 ? from.gid : 0;
    Inode& whiteout = ctx.newInode(S_IFCHR, 0, gid, from.pool);
    TRY(inheritAcl(ctx, from, whiteout, 0));
    ctx.attach(from, name, whiteout);
  }
  ctx.modified(from);
  ctx.modified(to);
  ctx.changed(*source);
  if (exchange) ctx.changed(*target);
  if (target != nullptr && !exchange) return dropName(ctx, *target);
  return {};
}

}  // namespace cairn::mds::ops
