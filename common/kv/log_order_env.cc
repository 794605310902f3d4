#include "common/kv/log_order_env.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "common/kv/log_tail.h"
#include "leveldb/slice.h"

namespace cairn {

using leveldb::Slice;
using leveldb::Status;

namespace {

std::string_view baseName(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}
std::string directoryOf(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}
bool isLog(std::string_view path) {
  return path.ends_with(".log");
}
bool isManifest(std::string_view path) {
  return baseName(path).starts_with("MANIFEST-");
}

Status ioError(const std::string& path, int err) {
  char buf[128];
  const char* text = strerror_r(err, buf, sizeof buf);
  return err == ENOENT ? Status::NotFound(path, text) : Status::IOError(path, text);
}

// A log on the host's file system: one write(2) a record, and fdatasync beside appends.
class HostLog final : public LogSink {
 public:
  HostLog(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~HostLog() override { ::close(fd_); }

  Status append(const Slice& data) override {
    buffer_.append(data.data(), data.size());
    return Status::OK();
  }

  Status flush() override {
    const char* p = buffer_.data();
    size_t left = buffer_.size();
    while (left != 0) {
      ssize_t n = ::write(fd_, p, left);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ioError(path_, errno);
      p += n;
      left -= static_cast<size_t>(n);
    }
    written_ += buffer_.size();
    buffer_.clear();
    // Start the write-back early, so that the sync before the next log (invariant 1) finds little
    // left to write: it holds up the reactor's thread.
    if (written_ - writeBack_ >= kWriteBackBytes) {
      ::sync_file_range(fd_, static_cast<off64_t>(writeBack_),
                        static_cast<off64_t>(written_ - writeBack_), SYNC_FILE_RANGE_WRITE);
      writeBack_ = written_;
    }
    return Status::OK();
  }

  Status sync() override {
    // POSIX makes the name durable by a sync of the directory, not of the file.
    if (!nameDurable_.load(std::memory_order_acquire)) {
      const std::string dir = directoryOf(path_);
      int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0) return ioError(dir, errno);
      int rc = ::fsync(fd);
      int err = errno;
      ::close(fd);
      if (rc != 0) return ioError(dir, err);
      nameDurable_.store(true, std::memory_order_release);
    }
    if (::fdatasync(fd_) != 0) return ioError(path_, errno);
    return Status::OK();
  }

 private:
  static constexpr uint64_t kWriteBackBytes = 1u << 20;
  const std::string path_;
  const int fd_;
  std::string buffer_;      // this and the next two: the appending thread
  uint64_t written_ = 0;    // bytes handed to the kernel
  uint64_t writeBack_ = 0;  // of those, bytes whose write-back was started
  std::atomic<bool> nameDurable_{false};
};

// A log of another Env, whose files take one caller at a time.
class EnvLog final : public LogSink {
 public:
  explicit EnvLog(leveldb::WritableFile* file) : file_(file) {}
  Status append(const Slice& data) override {
    std::lock_guard lock(mutex_);
    return file_->Append(data);
  }
  Status flush() override {
    std::lock_guard lock(mutex_);
    return file_->Flush();
  }
  Status sync() override {
    std::lock_guard lock(mutex_);
    return file_->Sync();
  }

 private:
  std::mutex mutex_;
  std::unique_ptr<leveldb::WritableFile> file_;
};

// The bytes of a log without its torn tail.
class MemoryFile final : public leveldb::SequentialFile {
 public:
  explicit MemoryFile(std::string bytes) : bytes_(std::move(bytes)) {}
  Status Read(size_t n, Slice* result, char* scratch) override {
    n = std::min(n, bytes_.size() - pos_);
    std::memcpy(scratch, bytes_.data() + pos_, n);
    pos_ += n;
    *result = Slice(scratch, n);
    return Status::OK();
  }
  Status Skip(uint64_t n) override {
    pos_ += std::min<uint64_t>(n, bytes_.size() - pos_);
    return Status::OK();
  }

 private:
  std::string bytes_;
  size_t pos_ = 0;
};

// True if no log that is newer than `name` holds anything: only then may `name` end in the middle
// of a record, because of invariant 1.
bool isNewestWithRecords(leveldb::Env& env, const std::string& name) {
  const std::string dir = directoryOf(name);
  std::vector<std::string> children;
  if (!env.GetChildren(dir, &children).ok()) return false;
  const uint64_t number = std::strtoull(baseName(name).data(), nullptr, 10);
  for (const auto& child : children) {
    if (!isLog(child) || std::strtoull(child.c_str(), nullptr, 10) <= number) continue;
    uint64_t size = 0;
    if (!env.GetFileSize(dir + "/" + child, &size).ok() || size != 0) return false;
  }
  return true;
}

// Whether the last byte is zero, which is rare in a whole log: spares reading it twice.
bool endsInZero(leveldb::Env& env, const std::string& name) {
  uint64_t size = 0;
  if (!env.GetFileSize(name, &size).ok() || size == 0) return false;
  leveldb::RandomAccessFile* raw = nullptr;
  if (!env.NewRandomAccessFile(name, &raw).ok()) return false;
  std::unique_ptr<leveldb::RandomAccessFile> file(raw);
  char byte = 1;
  Slice got;
  return file->Read(size - 1, 1, &got, &byte).ok() && got.size() == 1 && got[0] == 0;
}

}  // namespace

// What LevelDB holds: checks invariant 3 around every call and keeps invariant 1 when it is let go.
// LevelDB 1.23 drops a log without Close(), later versions close it first: both end here.
class LogOrderEnv::LogFile final : public leveldb::WritableFile {
 public:
  LogFile(LogOrderEnv& env, std::shared_ptr<LogSink> sink) : env_(env), sink_(std::move(sink)) {}
  ~LogFile() override { static_cast<void>(Close()); }

  Status Append(const Slice& data) override {
    if (Status s = env_.failure(); !s.ok()) return s;
    return env_.remember(sink_->append(data));
  }
  Status Flush() override {
    if (Status s = env_.failure(); !s.ok()) return s;
    return env_.remember(sink_->flush());
  }
  Status Sync() override {
    if (Status s = Flush(); !s.ok()) return s;
    return env_.syncLog(*sink_);
  }
  Status Close() override {
    if (closed_) return Status::OK();
    closed_ = true;
    return Sync();
  }

 private:
  LogOrderEnv& env_;
  std::shared_ptr<LogSink> sink_;
  bool closed_ = false;
};

LogOrderEnv::LogOrderEnv(leveldb::Env* base)
    : EnvWrapper(base != nullptr ? base : leveldb::Env::Default()), onHost_(base == nullptr) {}

LogOrderEnv::~LogOrderEnv() = default;

std::shared_ptr<LogSink> LogOrderEnv::currentLog() {
  std::lock_guard lock(mutex_);
  return current_;
}

Status LogOrderEnv::failure() {
  if (!failed_.load(std::memory_order_acquire)) return Status::OK();
  std::lock_guard lock(mutex_);
  return firstFailure_;
}

Status LogOrderEnv::remember(Status status) {
  if (status.ok()) return status;
  std::lock_guard lock(mutex_);
  if (!failed_.load(std::memory_order_relaxed)) {
    firstFailure_ = status;
    failed_.store(true, std::memory_order_release);
  }
  return status;
}

Status LogOrderEnv::syncLog(LogSink& sink) {
  if (Status s = failure(); !s.ok()) return s;
  return remember(sink.sync());
}

Status LogOrderEnv::NewWritableFile(const std::string& name, leveldb::WritableFile** file) {
  if (!isLog(name)) return target()->NewWritableFile(name, file);
  *file = nullptr;
  if (Status s = failure(); !s.ok()) return s;
  std::shared_ptr<LogSink> sink;
  if (onHost_) {
    int fd = ::open(name.c_str(), O_TRUNC | O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return ioError(name, errno);
    sink = std::make_shared<HostLog>(name, fd);
  } else {
    leveldb::WritableFile* raw = nullptr;
    if (Status s = target()->NewWritableFile(name, &raw); !s.ok()) return s;
    sink = std::make_shared<EnvLog>(raw);
  }
  *file = new LogFile(*this, sink);
  std::lock_guard lock(mutex_);
  current_ = std::move(sink);
  return Status::OK();
}

Status LogOrderEnv::NewSequentialFile(const std::string& name, leveldb::SequentialFile** file) {
  const bool mayBeTorn = isManifest(name) || (isLog(name) && isNewestWithRecords(*target(), name));
  if (mayBeTorn && endsInZero(*target(), name)) {
    std::string bytes;
    if (Status s = leveldb::ReadFileToString(target(), name, &bytes); !s.ok()) return s;
    if (auto cut = tornLogTail(bytes)) {
      bytes.resize(*cut);
      *file = new MemoryFile(std::move(bytes));
      return Status::OK();
    }
  }
  return target()->NewSequentialFile(name, file);
}

Status LogOrderEnv::RenameFile(const std::string& from, const std::string& to) {
  if (Status s = target()->RenameFile(from, to); !s.ok()) return s;
  if (baseName(to) != "CURRENT") return Status::OK();
  // LevelDB's interface syncs a directory only together with a MANIFEST that is in it.
  std::string manifest;
  if (Status s = leveldb::ReadFileToString(target(), to, &manifest); !s.ok()) return s;
  while (manifest.ends_with('\n')) manifest.pop_back();
  leveldb::WritableFile* raw = nullptr;
  if (Status s = target()->NewAppendableFile(directoryOf(to) + "/" + manifest, &raw); !s.ok())
    return s;
  std::unique_ptr<leveldb::WritableFile> file(raw);
  if (Status s = file->Sync(); !s.ok()) return s;
  return file->Close();
}

Status LogOrderEnv::LockFile(const std::string& name, leveldb::FileLock** lock) {
  Status s = target()->LockFile(name, lock);
  // LevelDB's statuses carry text only: what its lock table says, or what fcntl(2) says.
  const std::string text = s.ToString();
  lockRefused_ = !s.ok() && (text.find("already held") != std::string::npos ||
                             text.find(std::strerror(EAGAIN)) != std::string::npos);
  return s;
}

}  // namespace cairn
