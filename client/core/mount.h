// The Filesystem of one mount: wires the parts together, lets operations in, and ends them. One
// reactor thread.
#pragma once

#include "client/core/access_times.h"
#include "client/core/file_locks.h"
#include "client/core/file_table.h"
#include "client/core/op_gate.h"

namespace cairn::client {

class Mount final : public Filesystem {
 public:
  Mount(Env& env, Options options, MountInfo info);
  ~Mount() override;

  // Connects; on failure the mount has been ended again.
  Task<Result<void>> start();
  Task<Result<void>> unmount() override;
  Task<void> abandon() override;
  Stamp stamp(InodeId ino) const override { return {leases_.stamp(ino), core_.nameChanges}; }
  Duration mayCache(InodeId ino) override;
  SizeDoubt sizeDoubt(InodeId ino) const override;
  void sizeRaised(InodeId ino, SizeDoubt doubt) override;
  std::vector<PageWait> pageWaits(InodeId ino) const override;
  Task<void> writesAdmitted(InodeId ino) override;
  bool writeWaits(InodeId ino) const override;
  void recordAccesses(AccessPolicy policy) override { access_.follow(policy); }

  Task<Result<Attr>> lookup(InodeId parent, std::string name) override;
  Task<Result<Attr>> getattr(InodeId ino, bool toRead = false) override;
  Task<Result<Attr>> setattr(InodeId ino, AttrChange change) override;
  Task<Result<std::string>> readlink(InodeId ino) override;
  Task<Result<Attr>> mknod(InodeId parent, std::string name, uint32_t mode, uint64_t rdev,
                           Maker maker) override;
  Task<Result<Attr>> mkdir(InodeId parent, std::string name, uint32_t mode, Maker maker) override;
  Task<Result<Attr>> symlink(InodeId parent, std::string name, std::string target,
                             Maker maker) override;
  Task<Result<Attr>> link(InodeId ino, InodeId newParent, std::string newName) override;
  Task<Result<void>> unlink(InodeId parent, std::string name) override;
  Task<Result<void>> rmdir(InodeId parent, std::string name) override;
  Task<Result<void>> rename(InodeId parent, std::string name, InodeId newParent,
                            std::string newName, uint32_t flags) override;
  Task<Result<DirPage>> readdir(InodeId dir, uint64_t cookie, uint32_t limit, bool plus,
                                bool quiet) override;
  Task<Result<std::string>> getxattr(InodeId ino, std::string name) override;
  Task<Result<std::vector<std::string>>> listxattr(InodeId ino) override;
  Task<Result<void>> setxattr(InodeId ino, std::string name, std::string value, uint32_t flags,
                              bool dropSgid) override;
  Task<Result<void>> removexattr(InodeId ino, std::string name) override;
  Task<Result<Capacity>> statfs() override;

  Task<Result<Opened>> open(InodeId ino, int flags, bool clearSuid = false) override;
  Task<Result<Opened>> create(InodeId parent, std::string name, uint32_t mode, Maker maker,
                              int flags) override;
  Task<Result<Opened>> tmpfile(InodeId parent, uint32_t mode, Maker maker, int flags) override;
  Task<Result<std::vector<Buffer>>> read(std::shared_ptr<Handle> h, uint64_t offset,
                                         uint32_t length, Reading how) override;
  Task<Result<void>> write(std::shared_ptr<Handle> h, uint64_t offset, Buffer data,
                           Writing how = {}) override;
  Task<Result<void>> flush(std::shared_ptr<Handle> h) override;
  Task<Result<void>> fsync(std::shared_ptr<Handle> h) override;
  Task<Result<void>> fdatasync(std::shared_ptr<Handle> h) override;
  Task<Result<void>> fsyncInode(InodeId ino) override;
  Task<void> release(std::shared_ptr<Handle> h) override;
  Task<Result<void>> fallocate(std::shared_ptr<Handle> h, int mode, uint64_t offset,
                               uint64_t length) override;
  Task<Result<uint64_t>> seek(std::shared_ptr<Handle> h, uint64_t offset, int whence) override;
  Task<Result<uint64_t>> copyRange(std::shared_ptr<Handle> in, uint64_t inOffset,
                                   std::shared_ptr<Handle> out, uint64_t outOffset,
                                   uint64_t length) override;
  Task<Result<void>> lock(std::shared_ptr<Handle> h, LockRequest what,
                          std::shared_ptr<LockWait> wait) override;
  Task<Result<LockPiece>> testLock(std::shared_ptr<Handle> h, LockRequest what) override;
  Task<void> unlockRanges(std::shared_ptr<Handle> h, uint64_t owner) override;

 private:
  Task<void> shutDown();
  [[nodiscard]] Result<void> unflushed() const;
  // What an answer said of an inode, as this mount shows it.
  Attr see(const ServerAttr& a) { return access_.shown(files_.see(a)); }
  Task<Result<Attr>> make(MakeRequest what);
  bool hasNoXattrs(InodeId ino);
  // A change that touches inodes which its answer does not tell of.
  Task<Result<void>> changeNames(Task<Result<void>> change);
  Task<void> noteAccesses(std::vector<InodeId> inodes);
  void doubtAccess(InodeId ino);
  Task<void> answerRecall(InodeId ino, uint64_t serial, bool toRead);
  // Locks that go with closes which are over are unlocked.
  Task<void> closesHeard(InodeId ino);
  Task<void> answerProbe(InodeId ino, uint64_t serial);
  Task<void> sendReturns(std::vector<LeaseReturn> leases);
  Task<void> forget(InodeId ino, bool directory);
  [[nodiscard]] bool muchToForget() const;
  void leasesLapsed();
  Task<Result<Opened>> createNew(MakeRequest what, int flags);
  Task<Result<void>> syncHandle(std::shared_ptr<Handle> h, bool sizeOnly);

  Env& env_;
  const Options options_;
  Event stop_;
  TaskScope scope_;
  OpGate gate_;
  OsdLinks links_;
  Session session_;
  MapCache maps_;
  LeaseTable leases_;
  MdsOps mds_;
  ChunkIo io_;
  BlockCache cache_;
  DirtyBudget budget_;
  Core core_;
  FileTable files_;
  FileLocks locks_;
  AccessTimes access_;
  bool ending_ = false;
  Result<void> lost_;  // what abandon() found unflushed
  Event ended_;
};

}  // namespace cairn::client
