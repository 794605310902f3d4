#include "common/sim/sim_kv_env.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/base/assert.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

using leveldb::Slice;
using leveldb::Status;

namespace {

// Worded as the real environment words them: LevelKv reads the end of the message.
Status errnoStatus(const std::string& path, int err) {
  return err == ENOENT ? Status::NotFound(path, std::strerror(err))
                       : Status::IOError(path, std::strerror(err));
}

bool isManifest(const std::string& path) {
  return path.find("/MANIFEST-") != std::string::npos;
}

constexpr size_t kPage = 4096;

class SimSequentialFile final : public leveldb::SequentialFile {
 public:
  explicit SimSequentialFile(std::shared_ptr<KvInode> inode) : inode_(std::move(inode)) {}
  Status Read(size_t n, Slice* result, char* scratch) override {
    n = std::min(n, inode_->bytes.size() - std::min(pos_, inode_->bytes.size()));
    std::memcpy(scratch, inode_->bytes.data() + pos_, n);
    pos_ += n;
    *result = Slice(scratch, n);
    return Status::OK();
  }
  Status Skip(uint64_t n) override {
    pos_ = std::min(pos_ + n, inode_->bytes.size());
    return Status::OK();
  }

 private:
  std::shared_ptr<KvInode> inode_;
  size_t pos_ = 0;
};

class SimRandomFile final : public leveldb::RandomAccessFile {
 public:
  explicit SimRandomFile(std::shared_ptr<KvInode> inode) : inode_(std::move(inode)) {}
  Status Read(uint64_t offset, size_t n, Slice* result, char* scratch) const override {
    const size_t from = std::min<uint64_t>(offset, inode_->bytes.size());
    n = std::min(n, inode_->bytes.size() - from);
    std::memcpy(scratch, inode_->bytes.data() + from, n);
    *result = Slice(scratch, n);
    return Status::OK();
  }

 private:
  std::shared_ptr<KvInode> inode_;
};

class SimFileLock final : public leveldb::FileLock {
 public:
  explicit SimFileLock(std::string p) : path(std::move(p)) {}
  const std::string path;
};

}  // namespace

class SimKvFile final : public leveldb::WritableFile {
 public:
  SimKvFile(SimKvEnv& env, std::string path, std::shared_ptr<KvInode> inode)
      : env_(env), path_(std::move(path)), inode_(std::move(inode)) {}

  Status Append(const Slice& data) override {
    if (Status s = env_.mutate(path_); !s.ok()) return s;
    SimVolume& volume = env_.volume_;
    const auto& limit = volume.faults.capacityBytes;
    if (limit && volume.usedBytes() + data.size() > *limit) {
      // write(2) takes what fits before it fails.
      inode_->bytes.append(data.data(), *limit - std::min<uint64_t>(*limit, volume.usedBytes()));
      return errnoStatus(path_, ENOSPC);
    }
    if (volume.world_.chance(volume.faults.appendError)) return errnoStatus(path_, EIO);
    inode_->bytes.append(data.data(), data.size());
    return Status::OK();
  }
  Status Close() override { return Status::OK(); }
  Status Flush() override { return Status::OK(); }
  Status Sync() override {
    if (Status s = env_.mutate(path_); !s.ok()) return s;
    SimVolume& volume = env_.volume_;
    if (volume.world_.chance(volume.faults.syncError)) return errnoStatus(path_, EIO);
    volume.sync(*inode_, isManifest(path_));
    return Status::OK();
  }

 private:
  SimKvEnv& env_;
  const std::string path_;
  std::shared_ptr<KvInode> inode_;
};

// ---- SimVolume ----

std::vector<std::string> SimVolume::list() const {
  std::vector<std::string> names;
  for (const auto& [path, inode] : names_) names.push_back(path);
  return names;
}

std::shared_ptr<KvInode> SimVolume::find(const std::string& path) const {
  auto it = names_.find(path);
  return it == names_.end() ? nullptr : it->second;
}

bool SimVolume::anyBelow(const std::string& directory) const {
  auto it = names_.lower_bound(directory + "/");
  return it != names_.end() && it->first.starts_with(directory + "/");
}

uint64_t SimVolume::usedBytes() const {
  uint64_t bytes = 0;
  for (const auto& [path, inode] : names_) bytes += inode->bytes.size();
  return bytes;
}

void SimVolume::apply(Names& names, const NameOp& op) {
  if (op.inode)
    names[op.path] = op.inode;
  else
    names.erase(op.path);
  if (!op.renamedFrom.empty()) names.erase(op.renamedFrom);
}

void SimVolume::setName(const std::string& path, std::shared_ptr<KvInode> inode,
                        std::string renamedFrom) {
  const uint64_t number = nextNameOp_++;
  if (inode) inode->lastNameOp = number;
  journal_.push_back({number, path, std::move(inode), std::move(renamedFrom)});
  apply(names_, journal_.back());
}

void SimVolume::commitNames(uint64_t upTo) {
  while (!journal_.empty() && journal_.front().number <= upTo) {
    apply(durableNames_, journal_.front());
    journal_.pop_front();
  }
}

void SimVolume::sync(KvInode& inode, bool wholeDirectory) {
  inode.syncedBytes = inode.bytes.size();
  commitNames(wholeDirectory ? nextNameOp_ : inode.lastNameOp);
}

void SimVolume::losePower() {
  Random& random = world_.random();
  commitNames(random.below(2) == 0 || journal_.empty()
                  ? 0
                  : journal_.front().number + random.below(journal_.size()));
  journal_.clear();
  names_ = durableNames_;
  for (auto& [path, inode] : names_) {
    const size_t unsynced = inode->bytes.size() - inode->syncedBytes;
    if (unsynced == 0) continue;
    size_t kept = inode->syncedBytes;
    switch (random.below(4)) {
      case 0:
        break;  // all of it is lost
      case 1:
        kept = inode->bytes.size();
        break;
      default:
        kept += random.below(unsynced + 1);
    }
    if (world_.chance(faults.zeroTail)) {
      // The file was extended, its last pages were never written.
      kept = std::min(std::max(inode->syncedBytes, roundUp(kept, kPage)), inode->bytes.size());
      std::fill(inode->bytes.begin() + static_cast<ptrdiff_t>(kept), inode->bytes.end(), '\0');
    } else {
      inode->bytes.resize(kept);
    }
    inode->syncedBytes = inode->bytes.size();
  }
  locks_.clear();
}

// ---- SimKvEnv ----

SimKvEnv::~SimKvEnv() {
  CAIRN_ASSERT(background_.empty(), "databases are closed before their environment goes");
  freeze();
}

void SimKvEnv::freeze() {
  frozen_ = true;
  std::erase_if(volume_.locks_, [this](const auto& lock) { return lock.second == this; });
}

void SimKvEnv::beforeMutation(uint64_t n, std::function<void()> f) {
  hookAt_ = mutations_ + n;
  hook_ = std::move(f);
}

Status SimKvEnv::mutate(const std::string& path) {
  if (frozen_) return Status::IOError(path, "the process was killed");
  ++mutations_;
  volume_.world_.trace(TraceKind::kKv, node_.id(), mutations_);
  if (hook_ && mutations_ >= hookAt_) std::exchange(hook_, nullptr)();
  if (frozen_) return Status::IOError(path, "the process was killed");
  return Status::OK();
}

void SimKvEnv::planBackground(Duration delay) {
  if (background_.empty() || planned_ || frozen_) return;
  planned_ = true;
  SimWorld& world = node_.world();
  // The node outlives its databases, and work that is gone by then was run when they were closed.
  world.schedule(world.jittered(Duration::zero(), delay), [this] {
    node_.reactor().call([this] {
      planned_ = false;
      runBackground();
    });
  });
}

void SimKvEnv::runBackground() {
  while (!background_.empty()) {
    auto [function, arg] = background_.front();
    background_.pop_front();
    function(arg);
  }
}

Status SimKvEnv::NewSequentialFile(const std::string& path, leveldb::SequentialFile** file) {
  *file = nullptr;
  auto inode = volume_.find(path);
  if (!inode) return errnoStatus(path, ENOENT);
  *file = new SimSequentialFile(std::move(inode));
  return Status::OK();
}

Status SimKvEnv::NewRandomAccessFile(const std::string& path, leveldb::RandomAccessFile** file) {
  *file = nullptr;
  auto inode = volume_.find(path);
  if (!inode) return errnoStatus(path, ENOENT);
  *file = new SimRandomFile(std::move(inode));
  return Status::OK();
}

Status SimKvEnv::NewWritableFile(const std::string& path, leveldb::WritableFile** file) {
  *file = nullptr;
  if (Status s = mutate(path); !s.ok()) return s;
  auto inode = std::make_shared<KvInode>();
  volume_.setName(path, inode);
  *file = new SimKvFile(*this, path, std::move(inode));
  return Status::OK();
}

Status SimKvEnv::NewAppendableFile(const std::string& path, leveldb::WritableFile** file) {
  auto inode = volume_.find(path);
  if (!inode) return NewWritableFile(path, file);
  *file = new SimKvFile(*this, path, std::move(inode));
  return Status::OK();
}

bool SimKvEnv::FileExists(const std::string& path) {
  return volume_.find(path) != nullptr;
}

Status SimKvEnv::GetChildren(const std::string& dir, std::vector<std::string>* names) {
  names->clear();
  const std::string prefix = dir + "/";
  for (auto it = volume_.names_.lower_bound(prefix);
       it != volume_.names_.end() && it->first.starts_with(prefix); ++it)
    names->push_back(it->first.substr(prefix.size()));
  if (names->empty() && !volume_.directories_.contains(dir)) return errnoStatus(dir, ENOENT);
  return Status::OK();
}

Status SimKvEnv::RemoveFile(const std::string& path) {
  if (Status s = mutate(path); !s.ok()) return s;
  if (!volume_.find(path)) return errnoStatus(path, ENOENT);
  volume_.setName(path, nullptr);
  return Status::OK();
}

Status SimKvEnv::CreateDir(const std::string& dir) {
  volume_.directories_.insert(dir);
  return Status::OK();
}

Status SimKvEnv::RemoveDir(const std::string& dir) {
  volume_.directories_.erase(dir);
  return Status::OK();
}

Status SimKvEnv::GetFileSize(const std::string& path, uint64_t* bytes) {
  auto inode = volume_.find(path);
  *bytes = inode ? inode->bytes.size() : 0;
  return inode ? Status::OK() : errnoStatus(path, ENOENT);
}

Status SimKvEnv::RenameFile(const std::string& from, const std::string& to) {
  if (Status s = mutate(from); !s.ok()) return s;
  auto inode = volume_.find(from);
  if (!inode) return errnoStatus(from, ENOENT);
  volume_.setName(to, std::move(inode), from);
  return Status::OK();
}

Status SimKvEnv::LockFile(const std::string& path, leveldb::FileLock** lock) {
  *lock = nullptr;
  if (frozen_) return Status::IOError(path, "the process was killed");
  if (!volume_.locks_.emplace(path, this).second)
    return Status::IOError("lock " + path, std::strerror(EAGAIN));
  *lock = new SimFileLock(path);
  return Status::OK();
}

Status SimKvEnv::UnlockFile(leveldb::FileLock* lock) {
  auto* held = static_cast<SimFileLock*>(lock);
  auto it = volume_.locks_.find(held->path);
  if (it != volume_.locks_.end() && it->second == this) volume_.locks_.erase(it);
  delete held;
  return Status::OK();
}

void SimKvEnv::Schedule(void (*function)(void*), void* arg) {
  background_.emplace_back(function, arg);
}

void SimKvEnv::StartThread(void (*function)(void*), void* arg) {
  Schedule(function, arg);
}

Status SimKvEnv::GetTestDirectory(std::string* path) {
  *path = "/test";
  return Status::OK();
}

Status SimKvEnv::NewLogger(const std::string& path, leveldb::Logger** logger) {
  *logger = nullptr;
  return Status::NotSupported(path, "no info log in simulation");
}

uint64_t SimKvEnv::NowMicros() {
  return static_cast<uint64_t>(volume_.world_.elapsed().count()) / 1000;
}

}  // namespace cairn::sim
