// lookup, mknod, mkdir, symlink, readlink, link, unlink, rmdir, rename, create.
#include "client/fuse/edge.h"

namespace cairn::client {

namespace {

Task<Result<void>> replyEntry(FuseEdge& edge, fuse_req_t request, InodeId parent,
                              Task<Result<Attr>> task) {
  auto attr = co_await std::move(task);
  CO_TRY(attr);
  fuse_entry_param e = edge.entryOf(&*attr, parent);
  if (fuse_reply_entry(request, &e) == 0) edge.entryGiven(e.ino);
  co_return Result<void>{};
}

// That a name does not exist may be cached too.
Task<Result<void>> replyLookup(FuseEdge& edge, fuse_req_t request, InodeId parent,
                               Task<Result<Attr>> task) {
  auto attr = co_await std::move(task);
  if (!attr && attr.error().code != Errc::kNotFound) co_return fail(attr.error());
  fuse_entry_param e = edge.entryOf(attr ? &*attr : nullptr, parent);
  if (!attr && e.entry_timeout == 0) co_return fail(attr.error());
  if (fuse_reply_entry(request, &e) == 0 && e.ino != 0) edge.entryGiven(e.ino);
  co_return Result<void>{};
}

Task<Result<void>> replyLink(fuse_req_t request, Task<Result<std::string>> task) {
  auto target = co_await std::move(task);
  CO_TRY(target);
  fuse_reply_readlink(request, target->c_str());
  co_return Result<void>{};
}

Task<Result<void>> replyCreate(FuseEdge& edge, fuse_req_t request, fuse_file_info info,
                               InodeId parent, Task<Result<Filesystem::Opened>> task) {
  auto opened = co_await std::move(task);
  CO_TRY(opened);
  auto file = std::make_unique<OpenFile>(opened->handle, info.flags);
  info.fh = reinterpret_cast<uint64_t>(file.get());
  info.direct_io = FuseEdge::bypassesPages(info.flags) ? 1 : 0;
  fuse_entry_param e = edge.entryOf(&opened->attr, parent);
  if (fuse_reply_create(request, &e, &info) == -ENOENT) {
    co_await edge.fs.release(file->handle);  // the caller was interrupted: no release will come
  } else {
    edge.handedOut(std::move(file));
    edge.entryGiven(e.ino);
  }
  co_return Result<void>{};
}

Maker makerOf(fuse_req_t request) {
  const fuse_ctx* c = fuse_req_ctx(request);
  return {.uid = c->uid, .gid = c->gid, .umask = c->umask};
}

void lookup(fuse_req_t r, fuse_ino_t parent, const char* name) {
  auto& e = FuseEdge::of(r);
  e.run(r, "lookup", replyLookup(e, r, InodeId(parent), e.fs.lookup(InodeId(parent), name)));
}

void mknod(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  auto& e = FuseEdge::of(r);
  e.run(
      r, "mknod",
      replyEntry(e, r, InodeId(parent), e.fs.mknod(InodeId(parent), name, mode, rdev, makerOf(r))));
}

void mkdir(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode) {
  auto& e = FuseEdge::of(r);
  e.run(r, "mkdir",
        replyEntry(e, r, InodeId(parent), e.fs.mkdir(InodeId(parent), name, mode, makerOf(r))));
}

void symlink(fuse_req_t r, const char* target, fuse_ino_t parent, const char* name) {
  auto& e = FuseEdge::of(r);
  e.run(r, "symlink",
        replyEntry(e, r, InodeId(parent), e.fs.symlink(InodeId(parent), name, target, makerOf(r))));
}

void readlink(fuse_req_t r, fuse_ino_t ino) {
  auto& e = FuseEdge::of(r);
  e.run(r, "readlink", replyLink(r, e.fs.readlink(InodeId(ino))));
}

void link(fuse_req_t r, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  auto& e = FuseEdge::of(r);
  e.run(r, "link",
        replyEntry(e, r, InodeId(parent), e.fs.link(InodeId(ino), InodeId(parent), name)));
}

void unlink(fuse_req_t r, fuse_ino_t parent, const char* name) {
  auto& e = FuseEdge::of(r);
  e.run(r, "unlink", replyDone(r, e.fs.unlink(InodeId(parent), name)));
}

void rmdir(fuse_req_t r, fuse_ino_t parent, const char* name) {
  auto& e = FuseEdge::of(r);
  e.run(r, "rmdir", replyDone(r, e.fs.rmdir(InodeId(parent), name)));
}

void rename(fuse_req_t r, fuse_ino_t parent, const char* name, fuse_ino_t newParent,
            const char* newName, unsigned flags) {
  auto& e = FuseEdge::of(r);
  e.run(r, "rename",
        replyDone(r, e.fs.rename(InodeId(parent), name, InodeId(newParent), newName, flags)));
}

void create(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "create",
        replyCreate(e, r, *info, InodeId(parent),
                    e.fs.create(InodeId(parent), name, mode, makerOf(r), info->flags)));
}

}  // namespace

void addNamespaceOps(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.readlink = readlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
  ops.create = create;
}

}  // namespace cairn::client
