// setxattr(2) with XATTR_CREATE and XATTR_REPLACE.
//
// Errors: kStale, kNoBuffer (name empty or above 255 bytes), kInvalid (NUL in the name, flags),
// kTooBig (value above 64 KiB), kExists (CREATE), kNoAttribute (REPLACE), kNoSpace (all names
// together above what listxattr(2) can show).
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/state/keys.h"

namespace cairn::mds::ops {

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
  const auto key = keys::xattr(inode.ino, name);
  bool exists = false;
  if (inode.xattrCount != 0) {
    auto old = ctx.state().txn.get(key);
    TRY(old);
    exists = old->has_value();
  }
  if (exists && (flags & kCreate) != 0) return fail(Errc::kExists);
  if (!exists && (flags & kReplace) != 0) return fail(Errc::kNoAttribute);
  if (!exists) {
    const auto bytes = static_cast<uint32_t>(name.size() + 1);
    if (inode.xattrListBytes + bytes > kMaxXattrListBytes) return fail(Errc::kNoSpace);
    inode.xattrListBytes += bytes;
    ++inode.xattrCount;
  }
  ctx.state().txn.put(key, encodeXattr(value));
  ctx.changed(inode);
  ctx.replyAttr(inode);
  return {};
}

}  // namespace cairn::mds::ops
