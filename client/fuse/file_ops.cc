// open, read, write, flush, fsync, release, fallocate, lseek, copy_file_range.
#include <linux/fuse.h>

#include <cstring>

#include "client/fuse/edge.h"

namespace cairn::client {

namespace {

// Of a write request whose bytes these are. libfuse does not pass this flag on; requests are read
// into memory as they are, so what it belongs to lies before the bytes.
bool killsPrivileges(const char* written) {
  fuse_write_in request;
  std::memcpy(&request, written - sizeof request, sizeof request);
  return (request.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
}

// A read or write that goes past the kernel's pages names whose it is (FUSE_READ_LOCKOWNER,
// FUSE_WRITE_LOCKOWNER), one that goes through them does not.
bool fillsPages(const fuse_file_info& info) {
  return info.lock_owner == 0;
}

Task<Result<void>> replyOpen(FuseEdge& edge, fuse_req_t request, fuse_file_info info,
                             Task<Result<Filesystem::Opened>> task) {
  auto opened = co_await std::move(task);
  CO_TRY(opened);
  auto file = std::make_unique<OpenFile>(opened->handle, info.flags);
  info.fh = reinterpret_cast<uint64_t>(file.get());
  info.direct_io = FuseEdge::bypassesPages(info.flags) ? 1 : 0;
  info.keep_cache = opened->dataUnchanged && !edge.dropping(opened->attr.ino) ? 1 : 0;
  co_await edge.dropped(opened->attr.ino);
  if (fuse_reply_open(request, &info) == -ENOENT) {
    co_await edge.fs.release(file->handle);  // the caller was interrupted: no release will come
  } else {
    edge.handedOut(std::move(file));
  }
  co_return Result<void>{};
}

Task<Result<void>> replyRead(fuse_req_t request, Task<Result<std::vector<Buffer>>> task) {
  auto parts = co_await std::move(task);
  CO_TRY(parts);
  std::vector<iovec> iov;
  iov.reserve(parts->size());
  for (const auto& b : *parts)
    if (!b.empty()) iov.push_back(b.iov());
  fuse_reply_iov(request, iov.data(), static_cast<int>(iov.size()));
  co_return Result<void>{};
}

Task<Result<void>> replyWritten(fuse_req_t request, size_t size, Task<Result<void>> task) {
  CO_TRY(co_await std::move(task));
  fuse_reply_write(request, size);
  co_return Result<void>{};
}

// close(2): the owner's POSIX locks go, whatever became of the data. Of one that was killed they go
// when it is let go, for the next process may get its number.
Task<Result<void>> flushFile(FuseEdge& edge, fuse_req_t request, uint64_t unique,
                             std::shared_ptr<Handle> handle, uint64_t owner) {
  edge.onGivenUp[unique] = [&edge, handle, owner] {
    edge.start(edge.fs.unlockRanges(handle, owner));
  };
  auto flushed = co_await edge.fs.flush(handle);
  if (edge.onGivenUp.erase(unique) != 0) co_await edge.fs.unlockRanges(std::move(handle), owner);
  CO_TRY(flushed);
  fuse_reply_err(request, 0);
  co_return Result<void>{};
}

Task<Result<void>> releaseFile(FuseEdge& edge, fuse_req_t request, std::unique_ptr<OpenFile> file) {
  co_await edge.fs.release(std::move(file->handle));
  fuse_reply_err(request, 0);
  co_return Result<void>{};
}

Task<Result<void>> replySeek(fuse_req_t request, Task<Result<uint64_t>> task) {
  auto offset = co_await std::move(task);
  if (!offset && offset.error().code == Errc::kNoAttribute) {
    fuse_reply_err(request, ENXIO);  // lseek(2): beyond the end, or no more data
    co_return Result<void>{};
  }
  CO_TRY(offset);
  fuse_reply_lseek(request, static_cast<off_t>(*offset));
  co_return Result<void>{};
}

Task<Result<void>> replyCopied(fuse_req_t request, Task<Result<uint64_t>> task) {
  auto n = co_await std::move(task);
  CO_TRY(n);
  fuse_reply_write(request, *n);
  co_return Result<void>{};
}

void open(fuse_req_t r, fuse_ino_t ino, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  // Of the right to keep the bits (CAP_FSETID) the request does not say anything: root has it.
  const bool clearSuid = fuse_req_ctx(r)->uid != 0;
  e.run(r, "open", replyOpen(e, r, *info, e.fs.open(InodeId(ino), info->flags, clearSuid)));
}

void read(fuse_req_t r, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(
      r, "read",
      replyRead(
          r, e.fs.read(handleOf(info), static_cast<uint64_t>(offset), static_cast<uint32_t>(size),
                       {.intoPages = fillsPages(*info), .quiet = (info->flags & O_NOATIME) != 0})));
}

void write(fuse_req_t r, fuse_ino_t, const char* data, size_t size, off_t offset,
           fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  const bool fromMapping = info->writepage != 0;
  const bool intoPages = !fromMapping && fillsPages(*info);
  // The kernel takes the bits off before it writes through its pages, if it knows of them: not if
  // another mount has set them since it looked.
  const bool clearSuid = killsPrivileges(data) || (intoPages && fuse_req_ctx(r)->uid != 0);
  const Writing how{.fromMapping = fromMapping, .intoPages = intoPages, .clearSuid = clearSuid};
  e.run(r, "write",
        replyWritten(r, size,
                     e.fs.write(handleOf(info), static_cast<uint64_t>(offset),
                                e.takeWritten(data, size), how)));
}

void flush(fuse_req_t r, fuse_ino_t, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "flush", flushFile(e, r, e.taking(), handleOf(info), info->lock_owner));
}

void fsync(fuse_req_t r, fuse_ino_t, int, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "fsync", replyDone(r, e.fs.fsync(handleOf(info))));
}

void release(fuse_req_t r, fuse_ino_t, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "release", releaseFile(e, r, e.takeBack(info)));
}

void fallocate(fuse_req_t r, fuse_ino_t, int mode, off_t offset, off_t length,
               fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "fallocate",
        replyDone(r, e.fs.fallocate(handleOf(info), mode, static_cast<uint64_t>(offset),
                                    static_cast<uint64_t>(length))));
}

void lseek(fuse_req_t r, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "lseek", replySeek(r, e.fs.seek(handleOf(info), static_cast<uint64_t>(offset), whence)));
}

void copyFileRange(fuse_req_t r, fuse_ino_t, off_t inOffset, fuse_file_info* in, fuse_ino_t,
                   off_t outOffset, fuse_file_info* out, size_t length, int) {
  auto& e = FuseEdge::of(r);
  e.run(r, "copy_file_range",
        replyCopied(r, e.fs.copyRange(handleOf(in), static_cast<uint64_t>(inOffset), handleOf(out),
                                      static_cast<uint64_t>(outOffset), length)));
}

}  // namespace

void addFileOps(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.read = read;
  ops.write = write;
  ops.flush = flush;
  ops.fsync = fsync;
  ops.release = release;
  ops.fallocate = fallocate;
  ops.lseek = lseek;
  ops.copy_file_range = copyFileRange;
}

}  // namespace cairn::client
