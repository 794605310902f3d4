// A file system in memory that tracks what is durable (SimVolume, one a host) and LevelDB's way to
// it (SimKvEnv, one a process).
//
// The model is a journaling file system in its usual mode (ext4, XFS):
//   - appended bytes are durable after a sync of the file; on power loss an unsynced tail is cut at
//     a random point, or (sometimes) its lost part is there as zeros;
//   - creations, renames and removals become durable in their order: power loss keeps a prefix of
//     them. A sync of a file makes durable those up to its own last one, a sync of a MANIFEST all
//     of them, because LevelDB's real environment syncs the directory with it;
//   - a process that is killed loses nothing that it wrote. (The real environment buffers 64 KiB in
//     the process, but LevelDB hands every log record on at once, and syncs other files before they
//     matter.)
//
// LevelDB's background work runs on the caller's thread, when runBackground() is called: nothing of
// a database runs by itself, and the simulation stays deterministic. The price: a call that would
// wait for background work must not be made before runBackground() (SimKv sees to that).
//
// Limits: one volume is one directory tree with one journal; there are no hard links; LevelDB's own
// info log is not kept; time does not pass inside a call.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/sim/faults.h"
#include "leveldb/env.h"

namespace cairn::sim {

class SimKvEnv;
class SimNode;
class SimWorld;

struct KvInode {
  std::string bytes;
  size_t syncedBytes = 0;
  uint64_t lastNameOp = 0;  // the number of the last change of its name
};

class SimVolume {
 public:
  explicit SimVolume(SimWorld& world) : world_(world) {}

  KvFaults faults;

  // ---- For the harness ----
  [[nodiscard]] std::vector<std::string> list() const;
  // Null when there is no such file. Its bytes may be changed: that is damage.
  [[nodiscard]] std::shared_ptr<KvInode> find(const std::string& path) const;
  [[nodiscard]] bool anyBelow(const std::string& directory) const;
  // Of all files that have a name.
  [[nodiscard]] uint64_t usedBytes() const;
  void losePower();

 private:
  friend class SimKvEnv;
  friend class SimKvFile;
  struct NameOp {
    uint64_t number;
    std::string path;
    std::shared_ptr<KvInode> inode;  // null: removed
    std::string renamedFrom;         // this name goes in the same step
  };
  using Names = std::map<std::string, std::shared_ptr<KvInode>>;
  static void apply(Names& names, const NameOp& op);
  void setName(const std::string& path, std::shared_ptr<KvInode> inode,
               std::string renamedFrom = {});
  void commitNames(uint64_t upTo);
  void sync(KvInode& inode, bool wholeDirectory);

  SimWorld& world_;
  Names names_;
  Names durableNames_;
  std::deque<NameOp> journal_;  // applied to names_, not yet to durableNames_
  uint64_t nextNameOp_ = 1;
  std::set<std::string> directories_;
  std::map<std::string, const SimKvEnv*> locks_;
};

class SimKvEnv final : public leveldb::Env {
 public:
  SimKvEnv(SimNode& node, SimVolume& volume) : node_(node), volume_(volume) {}
  ~SimKvEnv() override;

  // From now on nothing is changed any more; every attempt fails. Releases the locks.
  void freeze();
  [[nodiscard]] bool frozen() const { return frozen_; }
  // Calls `f` before the `n`-th change from now on takes effect. Once.
  void beforeMutation(uint64_t n, std::function<void()> f);
  [[nodiscard]] uint64_t mutations() const { return mutations_; }

  [[nodiscard]] bool hasBackground() const { return !background_.empty(); }
  // Has it run within `delay`, in an event of the node.
  void planBackground(Duration delay);
  // Runs what LevelDB has scheduled, and what that schedules.
  void runBackground();

  leveldb::Status NewSequentialFile(const std::string& path,
                                    leveldb::SequentialFile** file) override;
  leveldb::Status NewRandomAccessFile(const std::string& path,
                                      leveldb::RandomAccessFile** file) override;
  leveldb::Status NewWritableFile(const std::string& path, leveldb::WritableFile** file) override;
  leveldb::Status NewAppendableFile(const std::string& path, leveldb::WritableFile** file) override;
  bool FileExists(const std::string& path) override;
  leveldb::Status GetChildren(const std::string& dir, std::vector<std::string>* names) override;
  leveldb::Status RemoveFile(const std::string& path) override;
  leveldb::Status CreateDir(const std::string& dir) override;
  leveldb::Status RemoveDir(const std::string& dir) override;
  leveldb::Status GetFileSize(const std::string& path, uint64_t* bytes) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& path, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  void Schedule(void (*function)(void*), void* arg) override;
  void StartThread(void (*function)(void*), void* arg) override;
  leveldb::Status GetTestDirectory(std::string* path) override;
  leveldb::Status NewLogger(const std::string& path, leveldb::Logger** logger) override;
  uint64_t NowMicros() override;
  void SleepForMicroseconds(int) override {}

 private:
  friend class SimKvFile;
  // Stands before every change: what stops it, if anything.
  leveldb::Status mutate(const std::string& path);

  SimNode& node_;
  SimVolume& volume_;
  bool frozen_ = false;
  uint64_t mutations_ = 0;
  uint64_t hookAt_ = 0;
  std::function<void()> hook_;
  std::deque<std::pair<void (*)(void*), void*>> background_;
  bool planned_ = false;
};

}  // namespace cairn::sim
