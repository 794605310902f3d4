#include "mds/ops/xattrs.h"

#include <sys/stat.h>

#include "mds/ops/limits.h"
#include "mds/state/keys.h"
#include "mds/state/records.h"

namespace cairn::mds::ops {
namespace {

constexpr uint32_t kAccessBits = 0777;

Result<std::optional<std::string>> find(OpContext& ctx, const Inode& inode, std::string_view name) {
  std::optional<std::string> none;
  if (inode.xattrCount == 0) return none;
  const auto key = keys::xattr(inode.ino, name);
  auto record = ctx.state().txn.get(key);
  TRY(record);
  if (!*record) return none;
  auto value = decodeXattr(key, **record);
  TRY(value);
  return std::optional(std::move(*value));
}

void setAccessBits(Inode& inode, uint32_t bits) {
  inode.mode = (inode.mode & ~kAccessBits) | (bits & kAccessBits);
}

}  // namespace

Result<bool> hasXattr(OpContext& ctx, const Inode& inode, std::string_view name) {
  auto value = find(ctx, inode, name);
  TRY(value);
  return value->has_value();
}

Result<void> putXattr(OpContext& ctx, Inode& inode, std::string_view name, std::string_view value) {
  auto exists = hasXattr(ctx, inode, name);
  TRY(exists);
  if (!*exists) {
    const auto bytes = static_cast<uint32_t>(name.size() + 1);
    if (inode.xattrListBytes + bytes > kMaxXattrListBytes) return fail(Errc::kNoSpace);
    inode.xattrListBytes += bytes;
    ++inode.xattrCount;
  }
  ctx.state().txn.put(keys::xattr(inode.ino, name), encodeXattr(value));
  ctx.touch(inode);
  return {};
}

Result<bool> dropXattr(OpContext& ctx, Inode& inode, std::string_view name) {
  auto exists = hasXattr(ctx, inode, name);
  TRY(exists);
  if (!*exists) return false;
  ctx.state().txn.del(keys::xattr(inode.ino, name));
  --inode.xattrCount;
  inode.xattrListBytes -= static_cast<uint32_t>(name.size() + 1);
  ctx.touch(inode);
  return true;
}

Result<std::optional<Acl>> aclOf(OpContext& ctx, const Inode& inode, std::string_view name) {
  auto value = find(ctx, inode, name);
  TRY(value);
  std::optional<Acl> none;
  if (!*value) return none;
  auto acl = Acl::parse(**value);
  TRY(acl);
  return std::optional(std::move(*acl));
}

Result<void> setAccessAcl(OpContext& ctx, Inode& inode, const Acl& acl) {
  setAccessBits(inode, acl.mode());
  if (!acl.minimal()) return putXattr(ctx, inode, kAccessAcl, acl.encode());
  TRY(dropXattr(ctx, inode, kAccessAcl));
  return {};
}

Result<void> setMode(OpContext& ctx, Inode& inode, uint32_t mode) {
  inode.mode = (inode.mode & S_IFMT) | (mode & 07777);
  auto acl = aclOf(ctx, inode, kAccessAcl);
  TRY(acl);
  if (!*acl) return {};
  (*acl)->setMode(mode);
  return putXattr(ctx, inode, kAccessAcl, (*acl)->encode());
}

Result<void> inheritAcl(OpContext& ctx, const Inode& dir, Inode& made, uint32_t umask) {
  if (S_ISLNK(made.mode)) return {};
  auto inherited = aclOf(ctx, dir, kDefaultAcl);
  TRY(inherited);
  if (!*inherited) {
    made.mode &= ~(umask & kAccessBits);
    return {};
  }
  if (made.isDirectory()) TRY(putXattr(ctx, made, kDefaultAcl, (*inherited)->encode()));
  (*inherited)->limit(made.mode);
  return setAccessAcl(ctx, made, **inherited);
}

}  // namespace cairn::mds::ops
