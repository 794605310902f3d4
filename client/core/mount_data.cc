// Open files.
#include <fcntl.h>

#include <algorithm>

#include "client/core/file_copy.h"
#include "client/core/mount.h"

namespace cairn::client {

namespace {
// create() without O_EXCL may lose the name to others in both of its steps.
constexpr int kCreateTries = 8;

// A new file that is open from the start.
MakeRequest openFile(InodeId parent, std::string name, uint32_t mode, const Maker& maker) {
  return {.parent = parent,
          .name = std::move(name),
          .mode = S_IFREG | (mode & 07777),
          .uid = maker.uid,
          .gid = maker.gid,
          .umask = maker.umask,
          .rdev = 0,
          .target = {},
          .open = true,
          .unnamed = false};
}

bool writable(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}
}  // namespace

Task<Result<Filesystem::Opened>> Mount::open(InodeId ino, int flags, bool clearSuid) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto opened = co_await files_.open(ino, flags, clearSuid);
  if (opened) opened->attr = access_.shown(opened->attr);
  co_return opened;
}

Task<Result<Filesystem::Opened>> Mount::create(InodeId parent, std::string name, uint32_t mode,
                                               Maker maker, int flags) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  const MakeRequest what = openFile(parent, std::move(name), mode, maker);
  for (int i = 0;; ++i) {
    auto made = co_await createNew(what, flags);
    if (made || made.error().code != Errc::kExists || (flags & O_EXCL) != 0) co_return made;
    auto there = co_await mds_.lookup(parent, what.name);
    if (there) {
      files_.see(*there);
      // Nobody has checked whether the caller may open what others have made there, and what is no
      // file is not opened here. The kernel takes ESTALE for a reason to look again.
      if (maker.uid != 0 || !S_ISREG(there->mode)) co_return fail(Errc::kStale);
      co_return co_await files_.open(there->ino, flags, false);
    }
    if (there.error().code != Errc::kNotFound || i == kCreateTries) co_return fail(there.error());
  }
}

Task<Result<Filesystem::Opened>> Mount::tmpfile(InodeId parent, uint32_t mode, Maker maker,
                                                int flags) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  MakeRequest what = openFile(parent, {}, mode, maker);
  what.unnamed = true;
  co_return co_await createNew(std::move(what), flags);
}

Task<Result<Filesystem::Opened>> Mount::createNew(MakeRequest what, int flags) {
  uint64_t connections = session_.connections();
  leases_.changed(what.parent);
  const InodeId parent = what.parent;
  auto entry = co_await mds_.make(std::move(what));
  leases_.changed(parent);
  CO_TRY(entry);
  Opened opened = files_.adopt(*entry, flags);
  if (connections != session_.connections()) {
    // A reclaim in between did not name the new inode: say that it is open.
    auto again = co_await mds_.open(entry->attr.ino, true);
    if (!again) {
      files_.release(*opened.handle);
      co_return fail(again.error());
    }
  }
  co_return opened;
}

Task<Result<std::vector<Buffer>>> Mount::read(std::shared_ptr<Handle> h, uint64_t offset,
                                              uint32_t length, Reading how) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto parts = co_await h->file->read(*h, offset, length, how);
  if (how.intoPages && h->file->mapped()) leases_.pageShown(h->file->ino());
  if (parts && !how.quiet) access_.read(h->file->attr());
  co_return parts;
}

std::vector<Filesystem::PageWait> Mount::pageWaits(InodeId ino) const {
  auto file = files_.find(ino);
  return file ? file->pageWaits() : std::vector<PageWait>{};
}

bool Mount::writeWaits(InodeId ino) const {
  auto file = files_.find(ino);
  return file && file->writeWaits();
}

Task<void> Mount::writesAdmitted(InodeId ino) {
  if (auto file = files_.find(ino)) co_await file->writesAdmitted();
}

Task<Result<void>> Mount::write(std::shared_ptr<Handle> h, uint64_t offset, Buffer data,
                                Writing how) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto written = co_await h->file->write(*h, offset, std::move(data), how);
  leases_.changed(h->file->ino());
  CO_TRY(written);
  if (!how.clearSuid || (h->file->attr().mode & (S_ISUID | S_ISGID)) == 0) co_return written;
  AttrChange change;
  change.clearSuid = true;
  CO_TRY(co_await h->file->setattr(std::move(change)));
  leases_.changed(h->file->ino());
  co_return Result<void>{};
}

Task<Result<void>> Mount::syncHandle(std::shared_ptr<Handle> h, bool sizeOnly) {
  auto synced = co_await h->file->sync(sizeOnly);
  if (auto e = h->file->errors().check(h->seen)) co_return fail(std::move(*e));
  co_return synced;
}

Task<Result<void>> Mount::flush(std::shared_ptr<Handle> h) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  // Closing a descriptor that cannot write has nothing to wait for.
  if (!writable(h->flags)) co_return Result<void>{};
  co_return co_await syncHandle(std::move(h), false);
}

Task<Result<void>> Mount::fsync(std::shared_ptr<Handle> h) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await syncHandle(std::move(h), false);
}

Task<Result<void>> Mount::fdatasync(std::shared_ptr<Handle> h) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await syncHandle(std::move(h), true);
}

Task<Result<void>> Mount::fsyncInode(InodeId ino) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto file = files_.find(ino);
  if (!file) co_return Result<void>{};
  CO_TRY(co_await file->sync(false));
  if (auto e = file->errors().untold()) co_return fail(std::move(*e));
  co_return Result<void>{};
}

Task<void> Mount::release(std::shared_ptr<Handle> h) {
  OpGate::Pass pass(gate_);
  if (!pass.admitted()) co_return;  // the session goes as a whole
  co_await locks_.released(h);
  files_.release(*h);
}

Task<Result<void>> Mount::lock(std::shared_ptr<Handle> h, LockRequest what,
                               std::shared_ptr<LockWait> wait) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  if (locks_.tookThroughAnother(*h, what)) co_await closesHeard(h->file->ino());
  co_return co_await locks_.lock(std::move(h), what, std::move(wait));
}

Task<Result<LockPiece>> Mount::testLock(std::shared_ptr<Handle> h, LockRequest what) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto held = co_await mds_.testLock({h->file->ino(), what.space, what.owner, what.piece});
  CO_TRY(h->usable());
  co_return held;
}

Task<void> Mount::unlockRanges(std::shared_ptr<Handle> h, uint64_t owner) {
  OpGate::Pass pass(gate_);
  if (!pass.admitted()) co_return;
  co_await locks_.unlockRanges(h->file->ino(), owner);
}

Task<Result<void>> Mount::fallocate(std::shared_ptr<Handle> h, int mode, uint64_t offset,
                                    uint64_t length) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto done = co_await h->file->fallocate(*h, mode, offset, length);
  leases_.changed(h->file->ino());
  co_return done;
}

Task<Result<uint64_t>> Mount::seek(std::shared_ptr<Handle> h, uint64_t offset, int whence) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await h->file->seek(offset, whence);
}

Task<Result<uint64_t>> Mount::copyRange(std::shared_ptr<Handle> in, uint64_t inOffset,
                                        std::shared_ptr<Handle> out, uint64_t outOffset,
                                        uint64_t length) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  if (in->file == out->file && inOffset < outOffset + length && outOffset < inOffset + length)
    co_return fail(Errc::kInvalid, "the ranges overlap");
  access_.read(in->file->attr());
  const InodeId target = out->file->ino();
  auto copied =
      co_await client::copyRange(std::move(in), inOffset, std::move(out), outOffset, length);
  leases_.changed(target);
  co_return copied;
}

}  // namespace cairn::client
