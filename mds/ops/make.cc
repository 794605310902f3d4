// mknod, mkdir, symlink, create and O_TMPFILE in one (make), as POSIX and open(2) have them.
//
// Errors: kNotDirectory, kNotFound (the directory was removed), kStale, kExists, kNameTooLong,
// kInvalid (name, type or target), kTooManyLinks (subdirectories).
#include <sys/stat.h>

#include "mds/ops/chunk_map.h"
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/xattrs.h"

namespace cairn::mds::ops {
namespace {

constexpr uint32_t kPermissionBits = 07777;

Result<void> checkType(uint32_t mode, schema::Make::Reader args) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return {};
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFLNK: {
      auto target = nameOf(args.getTarget());
      if (target.size() > kMaxSymlinkBytes) return fail(Errc::kNameTooLong);
      if (target.empty() || target.find('\0') != target.npos) return fail(Errc::kInvalid);
      break;
    }
    default:
      return fail(Errc::kInvalid);
  }
  // Only regular files are opened here: the others need no chunk, so it saves them nothing.
  if (args.getOpen()) return fail(Errc::kInvalid);
  return {};
}

Result<void> checkNew(OpContext& ctx, const Inode& dir, std::string_view name, uint32_t mode) {
  auto taken = ctx.hasEntry(dir, name);
  TRY(taken);
  if (*taken) return fail(Errc::kExists);
  if (S_ISDIR(mode) && dir.nlink >= kMaxLinks) return fail(Errc::kTooManyLinks);
  return {};
}

}  // namespace

Result<void> make(OpContext& ctx, schema::Make::Reader args) {
  const auto name = nameOf(args.getName());
  const bool named = !args.getUnnamed();
  if (named) TRY(checkName(name));
  if (!named && !args.getOpen()) return fail(Errc::kInvalid);  // nobody would hold it
  uint32_t mode = args.getMode() & (S_IFMT | kPermissionBits);
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;  // mknod(2)
  if (S_ISLNK(mode)) mode = S_IFLNK | 0777;
  TRY(checkType(mode, args));

  auto parent = ctx.directory(InodeId(args.getParent()));
  TRY(parent);
  Inode& dir = **parent;
  if (named) TRY(checkNew(ctx, dir, name, mode));

  uint32_t gid = args.getGid();
  if ((dir.mode & S_ISGID) != 0) {
    gid = dir.gid;
    if (S_ISDIR(mode)) mode |= S_ISGID;
  }
  Inode& made = ctx.newInode(mode, args.getUid(), gid, dir.pool);
  if (S_ISCHR(mode) || S_ISBLK(mode)) made.rdev = args.getRdev();
  if (S_ISLNK(mode)) {
    made.target = nameOf(args.getTarget());
    made.size = made.target.size();
  }
  TRY(inheritAcl(ctx, dir, made, args.getUmask()));
  if (named) {
    ctx.attach(dir, name, made);
    ctx.modified(dir);
  } else {
    made.nlink = 0;
    made.linkable = true;
    ctx.setOrphan(made.ino, {ctx.session()});
  }

  std::vector<Chunk> chunks;
  // Whoever creates a file writes to it next: its first chunk comes with the same round trip.
  if (args.getOpen()) {
    chunks.push_back(allocate(ctx, made, 0));
    made.writer = ctx.session();
  }
  ctx.replyEntry(made, chunks);
  return {};
}

}  // namespace cairn::mds::ops
