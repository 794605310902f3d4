// setxattr(2) with XATTR_CREATE and XATTR_REPLACE.
//
// Errors: kStale, kNoBuffer (name empty or above 255 bytes), kInvalid (NUL in the name, flags, a
// damaged access control list), kTooBig (value above 64 KiB), kExists (CREATE), kNoAttribute
// (REPLACE), kNoSpace (all names together above what listxattr(2) can show), kNotSupported (what
// the system keeps in "system." and we do not, access control lists of symlinks), kAccess (a
// default access control list of what is no directory).
#include <sys/stat.h>

#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/xattrs.h"

namespace cairn::mds::ops {
namespace {

constexpr std::string_view kSystemPrefix = "system.";

Result<void> setAcl(OpContext& ctx, Inode& inode, std::string_view name, std::string_view value) {
  auto acl = Acl::parse(value);
  TRY(acl);
  if (inode.isSymlink()) return fail(Errc::kNotSupported);
  if (name == kAccessAcl && !acl->empty()) return setAccessAcl(ctx, inode, *acl);
  if (!acl->empty()) {
    if (!inode.isDirectory()) return fail(Errc::kAccess);
    return putXattr(ctx, inode, name, acl->encode());
  }
  TRY(dropXattr(ctx, inode, name));
  return {};
}

}  // namespace

Result<void> setxattr(OpContext& ctx, schema::Setxattr::Reader args) {
  enum : uint32_t { kCreate = 1, kReplace = 2 };
  const auto name = nameOf(args.getName());
  const auto value = nameOf(args.getValue());
  const uint32_t flags = args.getFlags();
  if ((flags & ~uint32_t{kCreate | kReplace}) != 0) return fail(Errc::kInvalid);
  if (name.empty() || name.size() > kMaxNameBytes) return fail(Errc::kNoBuffer);
  if (name.find('\0') != name.npos) return fail(Errc::kInvalid);
  if (value.size() > kMaxXattrBytes) return fail(Errc::kTooBig);

  auto found = ctx.inode(InodeId(args.getIno()));
  TRY(found);
  Inode& inode = **found;
  if (flags != 0) {
    auto exists = hasXattr(ctx, inode, name);
    TRY(exists);
    if (*exists && (flags & kCreate) != 0) return fail(Errc::kExists);
    if (!*exists && (flags & kReplace) != 0) return fail(Errc::kNoAttribute);
  }
  if (name == kAccessAcl || name == kDefaultAcl)
    TRY(setAcl(ctx, inode, name, value));
  else if (name.starts_with(kSystemPrefix))
    return fail(Errc::kNotSupported);
  else
    TRY(putXattr(ctx, inode, name, value));
  if (args.getDropSgid()) inode.mode &= ~static_cast<uint32_t>(S_ISGID);
  ctx.changed(inode);
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
