// Names and attributes: the MDS does the work; what this client has not flushed yet is added to
// what it says.
#include <fcntl.h>

#include "client/core/mount.h"

namespace cairn::client {

namespace {
// What is learned of an inode while it is being changed may be of before or after.
class Changing {
 public:
  Changing(LeaseTable& leases, InodeId ino) : leases_(leases), ino_(ino) { leases_.changed(ino_); }
  ~Changing() { leases_.changed(ino_); }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  LeaseTable& leases_;
  const InodeId ino_;
};

class ChangingXattrs {
 public:
  ChangingXattrs(LeaseTable& leases, InodeId ino)
      : leases_(leases), ino_(ino), changing_(leases, ino) {
    leases_.learnBare(ino_, false);
  }
  ~ChangingXattrs() { leases_.learnBare(ino_, false); }
  ChangingXattrs(const ChangingXattrs&) = delete;
  ChangingXattrs& operator=(const ChangingXattrs&) = delete;

 private:
  LeaseTable& leases_;
  const InodeId ino_;
  Changing changing_;
};
}  // namespace

Task<Result<Attr>> Mount::lookup(InodeId parent, std::string name) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto attr = co_await mds_.lookup(parent, std::move(name));
  CO_TRY(attr);
  co_return see(*attr);
}

Task<Result<Attr>> Mount::getattr(InodeId ino, bool toRead) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto file = files_.find(ino);
  // A write(2) on this machine may put its bytes into a page before it is read: under the lease
  // they may be seen.
  if (toRead && file && file->mapped()) {
    CO_TRY(co_await file->holdToMap());
  }
  if (file && file->current()) co_return access_.shown(file->attr());
  const uint64_t asked = core_.nameChanges;
  auto attr = co_await mds_.getattr(ino);
  CO_TRY(attr);
  file = files_.find(ino);
  if (!file) co_return access_.shown(*attr);
  file->learn(*attr, {.nameChanges = asked, .chunkVersion = 0});
  co_return access_.shown(file->attr());
}

// Whatever is learned between its beginning and its end may be of before or after.
Task<Result<void>> Mount::changeNames(Task<Result<void>> change) {
  ++core_.nameChanges;
  auto done = co_await std::move(change);
  ++core_.nameChanges;
  co_return done;
}

Task<Result<Attr>> Mount::setattr(InodeId ino, AttrChange change) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  Changing changing(leases_, ino);
  if (change.atime) co_await access_.supersede(ino);
  auto file = files_.find(ino);
  if (change.size) {
    auto known = co_await files_.fetch(ino);
    CO_TRY(known);
    file = *known;
  }
  if (file) {
    auto attr = co_await file->setattr(std::move(change));
    CO_TRY(attr);
    co_return access_.shown(*attr);
  }
  auto attr = co_await mds_.setattr(ino, std::move(change));
  CO_TRY(attr);
  co_return see(*attr);
}

Task<Result<std::string>> Mount::readlink(InodeId ino) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto target = co_await mds_.readlink(ino);
  CO_TRY(target);
  access_.read(target->link);
  co_return std::move(target->path);
}

Task<Result<Attr>> Mount::make(MakeRequest what) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  Changing changing(leases_, what.parent);
  auto entry = co_await mds_.make(std::move(what));
  CO_TRY(entry);
  co_return see(entry->attr);
}

Task<Result<Attr>> Mount::mknod(InodeId parent, std::string name, uint32_t mode, uint64_t rdev,
                                Maker maker) {
  return make({.parent = parent,
               .name = std::move(name),
               .mode = mode,
               .uid = maker.uid,
               .gid = maker.gid,
               .umask = maker.umask,
               .rdev = rdev,
               .target = {},
               .open = false,
               .unnamed = false});
}

Task<Result<Attr>> Mount::mkdir(InodeId parent, std::string name, uint32_t mode, Maker maker) {
  return mknod(parent, std::move(name), S_IFDIR | (mode & 07777), 0, maker);
}

Task<Result<Attr>> Mount::symlink(InodeId parent, std::string name, std::string target,
                                  Maker maker) {
  return make({.parent = parent,
               .name = std::move(name),
               .mode = S_IFLNK | 0777,
               .uid = maker.uid,
               .gid = maker.gid,
               .umask = 0,
               .rdev = 0,
               .target = std::move(target),
               .open = false,
               .unnamed = false});
}

Task<Result<Attr>> Mount::link(InodeId ino, InodeId newParent, std::string newName) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  Changing inode(leases_, ino);
  Changing directory(leases_, newParent);
  auto attr = co_await mds_.link(ino, newParent, std::move(newName));
  CO_TRY(attr);
  co_return see(*attr);
}

Task<Result<void>> Mount::unlink(InodeId parent, std::string name) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await changeNames(mds_.remove(parent, std::move(name), false));
}

Task<Result<void>> Mount::rmdir(InodeId parent, std::string name) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await changeNames(mds_.remove(parent, std::move(name), true));
}

Task<Result<void>> Mount::rename(InodeId parent, std::string name, InodeId newParent,
                                 std::string newName, uint32_t flags) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await changeNames(
      mds_.rename(parent, std::move(name), newParent, std::move(newName), flags));
}

Task<Result<DirPage>> Mount::readdir(InodeId dir, uint64_t cookie, uint32_t limit, bool plus,
                                     bool quiet) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  auto page = co_await mds_.readdir(dir, cookie, limit, plus);
  CO_TRY(page);
  auto& [out, attrs, directory] = *page;
  if (!quiet) access_.read(directory);
  for (size_t i = 0; i < attrs.size(); ++i)
    if (attrs[i].ino) out.entries[i].attr = see(attrs[i]);
  co_return std::move(out);
}

// Asked of nearly every inode that is used (access control lists, security.capability), and nearly
// none has any.
bool Mount::hasNoXattrs(InodeId ino) {
  const auto use = leases_.tryUse(ino, LeaseMode::kRead);
  return use && leases_.bare(ino);
}

Task<Result<std::string>> Mount::getxattr(InodeId ino, std::string name) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  // The kernel keeps access control lists, also that there is none, until it is told.
  if (auto file = files_.find(ino); file && name.starts_with("system.posix_acl_"))
    file->attrsKept();
  if (hasNoXattrs(ino)) co_return fail(Errc::kNoAttribute);
  co_return co_await mds_.getxattr(ino, std::move(name));
}

Task<Result<std::vector<std::string>>> Mount::listxattr(InodeId ino) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  if (hasNoXattrs(ino)) co_return std::vector<std::string>{};
  co_return co_await mds_.listxattr(ino);
}

Task<Result<void>> Mount::setxattr(InodeId ino, std::string name, std::string value, uint32_t flags,
                                   bool dropSgid) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  ChangingXattrs changing(leases_, ino);
  co_return co_await changeNames(
      mds_.setxattr(ino, std::move(name), std::move(value), flags, dropSgid));
}

Task<Result<void>> Mount::removexattr(InodeId ino, std::string name) {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  ChangingXattrs changing(leases_, ino);
  co_return co_await changeNames(mds_.removexattr(ino, std::move(name)));
}

Task<Result<Capacity>> Mount::statfs() {
  OpGate::Pass pass(gate_);
  CO_TRY(pass.admitted());
  co_return co_await mds_.statfs();
}

}  // namespace cairn::client
