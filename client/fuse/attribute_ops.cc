// getattr, setattr, xattrs, statfs.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "client/fuse/edge.h"

namespace cairn::client {

namespace {

Task<Result<void>> replyAttr(FuseEdge& edge, fuse_req_t request, Task<Result<Attr>> task) {
  auto attr = co_await std::move(task);
  CO_TRY(attr);
  struct stat st = FuseEdge::statOf(*attr);
  fuse_reply_attr(request, &st, edge.attrTimeout(attr->ino));
  co_return Result<void>{};
}

// The two-step protocol of getxattr(2) and listxattr(2): size 0 asks for the size.
Result<void> replyValue(fuse_req_t request, const std::string& value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > size) {
    return fail(Errc::kNoBuffer);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
  return {};
}

Task<Result<void>> replyXattr(fuse_req_t request, size_t size, Task<Result<std::string>> task) {
  auto value = co_await std::move(task);
  CO_TRY(value);
  co_return replyValue(request, *value, size);
}

Task<Result<void>> replyXattrNames(fuse_req_t request, size_t size,
                                   Task<Result<std::vector<std::string>>> task) {
  auto names = co_await std::move(task);
  CO_TRY(names);
  std::string all;
  for (const auto& n : *names) all.append(n).push_back('\0');
  co_return replyValue(request, all, size);
}

Task<Result<void>> replyStatfs(fuse_req_t request, Task<Result<Capacity>> task) {
  auto c = co_await std::move(task);
  CO_TRY(c);
  struct statvfs v{};
  v.f_bsize = kMiB;
  v.f_frsize = kBlockSize;
  v.f_blocks = c->bytesTotal / kBlockSize;
  v.f_bfree = v.f_bavail = c->bytesFree / kBlockSize;
  v.f_files = c->inodes + c->inodesFree;
  v.f_ffree = v.f_favail = c->inodesFree;
  v.f_namemax = kMaxNameBytes;
  fuse_reply_statfs(request, &v);
  co_return Result<void>{};
}

// For a read(2) or lseek(2) the kernel names the open file, for a stat(2) it does not.
void getattr(fuse_req_t r, fuse_ino_t ino, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  const bool throughPages = info != nullptr && !openFileOf(info).direct;
  e.run(r, "getattr", replyAttr(e, r, e.settledAttr(InodeId(ino), throughPages)));
}

void setattr(fuse_req_t r, fuse_ino_t ino, struct stat* st, int valid, fuse_file_info*) {
  auto& e = FuseEdge::of(r);
  AttrChange c;
  auto ns = [](const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; };
  if (valid & FUSE_SET_ATTR_MODE) c.mode = st->st_mode & 07777;
  if (valid & FUSE_SET_ATTR_UID) c.uid = st->st_uid;
  if (valid & FUSE_SET_ATTR_GID) c.gid = st->st_gid;
  if (valid & FUSE_SET_ATTR_SIZE) c.size = static_cast<uint64_t>(st->st_size);
  if (valid & FUSE_SET_ATTR_ATIME_NOW)
    c.atime = AttrChange::Time{true, 0};
  else if (valid & FUSE_SET_ATTR_ATIME)
    c.atime = AttrChange::Time{false, ns(st->st_atim)};
  if (valid & FUSE_SET_ATTR_MTIME_NOW)
    c.mtime = AttrChange::Time{true, 0};
  else if (valid & FUSE_SET_ATTR_MTIME)
    c.mtime = AttrChange::Time{false, ns(st->st_mtim)};
  e.run(r, "setattr", replyAttr(e, r, e.fs.setattr(InodeId(ino), c)));
}

// xattr(7): a name outside the namespaces is refused. Who may use which is checked by the kernel.
bool isXattrName(std::string_view name) {
  return name.starts_with("user.") || name.starts_with("trusted.") ||
         name.starts_with("security.") || name.starts_with("system.");
}

// As Linux does where a file system does not know the namespace.
bool refuse(fuse_req_t request, const char* name) {
  if (isXattrName(name)) return false;
  fuse_reply_err(request, EOPNOTSUPP);
  return true;
}

void getxattr(fuse_req_t r, fuse_ino_t ino, const char* name, size_t size) {
  if (refuse(r, name)) return;
  auto& e = FuseEdge::of(r);
  e.run(r, "getxattr", replyXattr(r, size, e.fs.getxattr(InodeId(ino), name)));
}

void listxattr(fuse_req_t r, fuse_ino_t ino, size_t size) {
  auto& e = FuseEdge::of(r);
  e.run(r, "listxattr", replyXattrNames(r, size, e.fs.listxattr(InodeId(ino))));
}

// Of whoever waits for the answer, as proc(5) tells: libfuse 3.14 reads past the end of its buffer
// in fuse_req_getgroups().
bool inGroup(fuse_req_t request, uint32_t gid) {
  const fuse_ctx* c = fuse_req_ctx(request);
  if (c->uid == 0 || c->gid == gid) return true;
  std::ifstream status("/proc/" + std::to_string(c->pid) + "/status");
  constexpr std::string_view kKey = "Groups:";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kKey)) continue;
    std::istringstream groups(line.substr(kKey.size()));
    for (uint32_t group = 0; groups >> group;)
      if (group == gid) return true;
    break;
  }
  return false;
}

// Setting an access ACL is a chmod(2): setgid goes if its group is not the caller's.
Task<Result<void>> setAccessAcl(FuseEdge& edge, fuse_req_t request, InodeId ino, std::string name,
                                std::string value, uint32_t flags) {
  auto attr = co_await edge.fs.getattr(ino);
  CO_TRY(attr);
  const bool dropSgid = (attr->mode & S_ISGID) != 0 && !inGroup(request, attr->gid);
  co_return co_await edge.fs.setxattr(ino, std::move(name), std::move(value), flags, dropSgid);
}

void setxattr(fuse_req_t r, fuse_ino_t ino, const char* name, const char* value, size_t size,
              int flags) {
  if (refuse(r, name)) return;
  auto& e = FuseEdge::of(r);
  std::string bytes(value, size);
  auto how = static_cast<uint32_t>(flags);
  e.run(r, "setxattr",
        replyDone(r, std::strcmp(name, "system.posix_acl_access") == 0
                         ? setAccessAcl(e, r, InodeId(ino), name, std::move(bytes), how)
                         : e.fs.setxattr(InodeId(ino), name, std::move(bytes), how, false)));
}

void removexattr(fuse_req_t r, fuse_ino_t ino, const char* name) {
  if (refuse(r, name)) return;
  auto& e = FuseEdge::of(r);
  e.run(r, "removexattr", replyDone(r, e.fs.removexattr(InodeId(ino), name)));
}

void statfs(fuse_req_t r, fuse_ino_t) {
  auto& e = FuseEdge::of(r);
  e.run(r, "statfs", replyStatfs(r, e.fs.statfs()));
}

}  // namespace

void addAttributeOps(fuse_lowlevel_ops& ops) {
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.setxattr = setxattr;
  ops.removexattr = removexattr;
  ops.statfs = statfs;
}

}  // namespace cairn::client
