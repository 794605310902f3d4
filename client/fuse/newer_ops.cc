// Operations of the kernel's protocol that libfuse 3.14 does not know: STATX, which alone tells
// when a file was made, and TMPFILE. Parsed and answered here, in the kernel's own structures
// (linux/fuse.h; those that Debian 12's copy of it lacks are declared below).
#include "client/fuse/newer_ops.h"

#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

namespace cairn::client {

namespace {

constexpr uint32_t kStatx = 52;  // FUSE_STATX, Linux 6.6

struct StatxTime {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};

struct Statx {  // struct fuse_statx
  uint32_t mask;
  uint32_t blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, spare0;
  uint64_t ino, size, blocks, attributesMask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdevMajor, rdevMinor, devMajor, devMinor;
  uint64_t spare2[14];
};

struct StatxOut {  // struct fuse_statx_out
  uint64_t attrValid;
  uint32_t attrValidNsec, flags;
  uint64_t spare[2];
  Statx stat;
};
static_assert(sizeof(Statx) == 256 && sizeof(StatxOut) == 288);

void setTimeout(double seconds, uint64_t& whole, uint32_t& nanoseconds) {
  whole = static_cast<uint64_t>(seconds);
  nanoseconds = static_cast<uint32_t>((seconds - std::floor(seconds)) * 1e9);
}

StatxTime timeOf(const timespec& t) {
  return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec), 0};
}

template <typename T>
std::string bytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

Task<Result<std::string>> statx(FuseEdge& edge, InodeId ino) {
  auto attr = co_await edge.settledAttr(ino, false);
  CO_TRY(attr);
  const struct stat st = FuseEdge::statOf(*attr);
  StatxOut out{};
  setTimeout(edge.attrTimeout(ino), out.attrValid, out.attrValidNsec);
  Statx& x = out.stat;
  x.mask = STATX_BASIC_STATS | STATX_BTIME;
  x.blksize = static_cast<uint32_t>(st.st_blksize);
  x.nlink = static_cast<uint32_t>(st.st_nlink);
  x.uid = st.st_uid;
  x.gid = st.st_gid;
  x.mode = static_cast<uint16_t>(st.st_mode);
  x.ino = st.st_ino;
  x.size = static_cast<uint64_t>(st.st_size);
  x.blocks = static_cast<uint64_t>(st.st_blocks);
  x.atime = timeOf(st.st_atim);
  x.mtime = timeOf(st.st_mtim);
  x.ctime = timeOf(st.st_ctim);
  x.btime = timeOf(FuseEdge::timeOf(attr->btimeNs));
  x.rdevMajor = major(st.st_rdev);
  x.rdevMinor = minor(st.st_rdev);
  co_return bytesOf(out);
}

fuse_attr attrOf(const struct stat& st) {
  fuse_attr a{};
  a.ino = st.st_ino;
  a.size = static_cast<uint64_t>(st.st_size);
  a.blocks = static_cast<uint64_t>(st.st_blocks);
  a.atime = static_cast<uint64_t>(st.st_atim.tv_sec);
  a.mtime = static_cast<uint64_t>(st.st_mtim.tv_sec);
  a.ctime = static_cast<uint64_t>(st.st_ctim.tv_sec);
  a.atimensec = static_cast<uint32_t>(st.st_atim.tv_nsec);
  a.mtimensec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
  a.ctimensec = static_cast<uint32_t>(st.st_ctim.tv_nsec);
  a.mode = st.st_mode;
  a.nlink = static_cast<uint32_t>(st.st_nlink);
  a.uid = st.st_uid;
  a.gid = st.st_gid;
  a.rdev = static_cast<uint32_t>(st.st_rdev);
  a.blksize = static_cast<uint32_t>(st.st_blksize);
  return a;
}

struct TmpfileOut {
  fuse_entry_out entry;
  fuse_open_out open;
};

// The answer hands an open file to the kernel: it is let go again if the kernel does not take it.
Task<Result<void>> tmpfile(FuseEdge& edge, uint64_t unique, InodeId parent, fuse_create_in in,
                           Maker maker) {
  const int flags = static_cast<int>(in.flags);
  auto opened = co_await edge.fs.tmpfile(parent, in.mode, maker, flags);
  CO_TRY(opened);
  auto file = std::make_unique<OpenFile>(opened->handle, flags);
  const fuse_entry_param e = edge.entryOf(&opened->attr, parent);
  TmpfileOut out{};
  out.entry.nodeid = e.ino;
  out.entry.generation = e.generation;
  setTimeout(e.entry_timeout, out.entry.entry_valid, out.entry.entry_valid_nsec);
  setTimeout(e.attr_timeout, out.entry.attr_valid, out.entry.attr_valid_nsec);
  out.entry.attr = attrOf(e.attr);
  out.open.fh = reinterpret_cast<uint64_t>(file.get());
  out.open.open_flags = FuseEdge::bypassesPages(flags) ? FOPEN_DIRECT_IO : 0;
  if (edge.answer(unique, 0, bytesOf(out)) == -ENOENT) {
    co_await edge.fs.release(file->handle);
  } else {
    edge.handedOut(std::move(file));
    edge.entryGiven(e.ino);
  }
  co_return Result<void>{};
}

Task<Result<void>> replyBytes(FuseEdge& edge, uint64_t unique, Task<Result<std::string>> task) {
  auto bytes = co_await std::move(task);
  CO_TRY(bytes);
  edge.answer(unique, 0, *bytes);
  co_return Result<void>{};
}

}  // namespace

bool takeNewer(FuseEdge& edge, std::span<const uint8_t> request) {
  fuse_in_header header{};
  if (request.size() < sizeof header) return false;
  std::memcpy(&header, request.data(), sizeof header);
  const InodeId ino{header.nodeid};
  switch (header.opcode) {
    case kStatx:
      edge.run(header.unique, "statx", replyBytes(edge, header.unique, statx(edge, ino)));
      return true;
    case FUSE_TMPFILE: {
      fuse_create_in in{};
      if (request.size() < sizeof header + sizeof in) return false;
      std::memcpy(&in, request.data() + sizeof header, sizeof in);
      const Maker maker{.uid = header.uid, .gid = header.gid, .umask = in.umask};
      edge.run(header.unique, "tmpfile", tmpfile(edge, header.unique, ino, in, maker));
      return true;
    }
    default:
      return false;
  }
}

}  // namespace cairn::client
