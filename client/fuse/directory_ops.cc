// opendir, readdir, readdirplus, fsyncdir, releasedir.
#include <algorithm>

#include "client/fuse/edge.h"

namespace cairn::client {

namespace {

constexpr uint32_t kPageEntries = 1024;

OpenDir& dirOf(const fuse_file_info* info) {
  return *reinterpret_cast<OpenDir*>(info->fh);
}

// Puts `dir` where `offset` says, fetching a page if the entries there are not at hand.
Task<Result<void>> seekTo(FuseEdge& edge, OpenDir& dir, uint64_t offset, bool plus) {
  bool continues = dir.loaded && offset != 0 && offset == dir.lastCookie && (!plus || dir.plus);
  if (continues && (dir.position < dir.page.entries.size() || dir.page.end))
    co_return Result<void>{};
  auto page = co_await edge.fs.readdir(dir.ino, offset, kPageEntries, plus, dir.quiet);
  CO_TRY(page);
  dir.page = std::move(*page);
  dir.stamps.clear();
  if (plus)
    for (const DirEntry& d : dir.page.entries) dir.stamps.push_back(edge.fs.stamp(d.ino));
  dir.position = 0;
  dir.plus = plus;
  dir.loaded = true;
  dir.lastCookie = offset;
  co_return Result<void>{};
}

// Attributes that may have changed since the page was fetched are not given: the kernel then asks.
// `given`: the inode of which the kernel gets an entry, or 0.
size_t addEntry(FuseEdge& edge, fuse_req_t r, char* to, size_t room, const OpenDir& dir, bool plus,
                uint64_t& given) {
  const DirEntry& d = dir.page.entries[dir.position];
  if (!plus) {
    struct stat st{};
    st.st_ino = d.ino.value;
    st.st_mode = static_cast<mode_t>(d.type)
                 << 12;  // DT_* are the type bits of st_mode shifted down
    return fuse_add_direntry(r, to, room, d.name.c_str(), &st, static_cast<off_t>(d.cookie));
  }
  fuse_entry_param e{};
  if (d.attr && dir.stamps[dir.position] == edge.fs.stamp(d.ino) && d.name != "." &&
      d.name != "..") {
    e = edge.entryOf(&*d.attr, dir.ino);
  } else {
    e.attr.st_ino = d.ino.value;  // e.ino stays 0: no lookup is implied
    e.attr.st_mode = static_cast<mode_t>(d.type) << 12;
  }
  given = e.ino;
  return fuse_add_direntry_plus(r, to, room, d.name.c_str(), &e, static_cast<off_t>(d.cookie));
}

Task<Result<void>> list(FuseEdge& edge, fuse_req_t r, OpenDir& dir, uint64_t offset, size_t size,
                        bool plus) {
  CO_TRY(co_await seekTo(edge, dir, offset, plus));
  Buffer out = edge.env.buffers.get(size);
  char* base = reinterpret_cast<char*>(out.data());
  size_t used = 0;
  std::vector<uint64_t> given;
  auto& entries = dir.page.entries;
  while (dir.position < entries.size()) {
    uint64_t ino = 0;
    size_t n = addEntry(edge, r, base + used, size - used, dir, plus, ino);
    if (n > size - used) break;
    used += n;
    if (ino != 0) given.push_back(ino);
    dir.lastCookie = entries[dir.position].cookie;
    ++dir.position;
  }
  if (fuse_reply_buf(r, base, used) == 0)
    for (uint64_t ino : given) edge.entryGiven(ino);
  co_return Result<void>{};
}

void opendir(fuse_req_t r, fuse_ino_t ino, fuse_file_info* info) {
  auto dir = std::make_unique<OpenDir>();
  dir->ino = InodeId(ino);
  dir->quiet = (info->flags & O_NOATIME) != 0;
  fuse_file_info reply = *info;
  reply.fh = reinterpret_cast<uint64_t>(dir.get());
  if (fuse_reply_open(r, &reply) != -ENOENT) dir.release();
}

void readdir(fuse_req_t r, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "readdir", list(e, r, dirOf(info), static_cast<uint64_t>(offset), size, false));
}

void readdirplus(fuse_req_t r, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  auto& e = FuseEdge::of(r);
  e.run(r, "readdirplus", list(e, r, dirOf(info), static_cast<uint64_t>(offset), size, true));
}

void fsyncdir(fuse_req_t r, fuse_ino_t, int, fuse_file_info*) {
  fuse_reply_err(r, 0);  // namespace operations are durable when they complete
}

void releasedir(fuse_req_t r, fuse_ino_t, fuse_file_info* info) {
  delete &dirOf(info);
  fuse_reply_err(r, 0);
}

}  // namespace

void addDirectoryOps(fuse_lowlevel_ops& ops) {
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.fsyncdir = fsyncdir;
  ops.releasedir = releasedir;
}

}  // namespace cairn::client
