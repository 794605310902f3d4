#include "common/disk/uring_disk.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/base/assert.h"
#include "common/base/units.h"
#include "common/disk/open_direct.h"

namespace cairn {

namespace {

bool aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % kBlockSize == 0;
}

// The parts of one write as the kernel takes them, neighbours in memory merged. Cut off at the
// front as the write proceeds.
class IoVectors {
 public:
  explicit IoVectors(const std::vector<Buffer>& parts) {
    for (const auto& p : parts) {
      if (p.empty()) continue;
      CAIRN_ASSERT(aligned(p.data()) && p.size() % kBlockSize == 0,
                   "direct I/O has aligned memory and whole blocks");
      bytes_ += p.size();
      if (count_ > 0) {
        iovec& last = at(count_ - 1);
        if (static_cast<uint8_t*>(last.iov_base) + last.iov_len == p.data()) {
          last.iov_len += p.size();
          continue;
        }
      }
      append(p.iov());
    }
  }
  IoVectors(const IoVectors&) = delete;
  IoVectors& operator=(const IoVectors&) = delete;

  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] size_t count() const { return count_ - first_; }
  [[nodiscard]] const iovec* data() { return &at(first_); }

  void drop(size_t n) {
    bytes_ -= n;
    while (n > 0) {
      iovec& v = at(first_);
      size_t k = std::min(n, v.iov_len);
      v.iov_base = static_cast<uint8_t*>(v.iov_base) + k;
      v.iov_len -= k;
      n -= k;
      if (v.iov_len == 0) ++first_;
    }
  }

 private:
  iovec& at(size_t i) { return many_.empty() ? few_[i] : many_[i]; }
  void append(iovec v) {
    if (many_.empty() && count_ < few_.size()) {
      few_[count_++] = v;
      return;
    }
    if (many_.empty()) many_.assign(few_.begin(), few_.end());
    many_.push_back(v);
    ++count_;
  }
  std::array<iovec, 8> few_;  // no allocation for the usual write
  std::vector<iovec> many_;
  size_t first_ = 0, count_ = 0;
  uint64_t bytes_ = 0;
};

class UringFile final : public File {
 public:
  UringFile(UringReactor& reactor, std::string path, DirectFile file, bool writable)
      : reactor_(reactor), path_(std::move(path)), file_(file), writable_(writable) {}
  ~UringFile() override {
    CAIRN_ASSERT(inFlight_ == 0, "no operation is in flight when a file dies");
    ::close(file_.fd);
  }

  Task<Result<void>> read(Buffer into, uint64_t offset) override {
    CAIRN_ASSERT(aligned(into.data()) && into.size() % kBlockSize == 0 && offset % kBlockSize == 0,
                 "direct I/O has aligned memory and whole blocks");
    if (!inside(into.size(), offset)) co_return outside("read", into.size(), offset);
    ++inFlight_;
    UringOp op;
    size_t done = 0;
    int n = 0;
    while (done < into.size()) {
      prepareOne(op, into.data() + done, into.size() - done, offset + done, false);
      n = co_await op;
      if (n == -EINTR || n == -EAGAIN) continue;
      if (n <= 0) break;
      done += static_cast<size_t>(n);
    }
    --inFlight_;
    if (done == into.size()) co_return Result<void>();
    if (n < 0) co_return ioError("read", -n, offset + done);
    co_return fail(Errc::kInvalid, "read of " + path_ + " at " + std::to_string(offset + done) +
                                       ": the file ends there, it was made shorter");
  }

  Task<Result<void>> write(std::vector<Buffer> parts, uint64_t offset, bool durable) override {
    CAIRN_ASSERT(offset % kBlockSize == 0, "direct I/O has aligned memory and whole blocks");
    IoVectors vectors(parts);
    if (!writable_) co_return fail(Errc::kReadOnly, path_ + " was opened for reading");
    if (!inside(vectors.bytes(), offset)) co_return outside("write", vectors.bytes(), offset);
    ++inFlight_;
    UringOp op;
    Result<void> result;
    while (vectors.bytes() > 0) {
      const iovec* v = vectors.data();
      if (vectors.count() == 1)
        prepareOne(op, v->iov_base, v->iov_len, offset, true)->rw_flags = durable ? RWF_DSYNC : 0;
      else
        io_uring_prep_writev2(reactor_.sqe(&op), file_.fd, v,
                              static_cast<unsigned>(std::min<size_t>(vectors.count(), 1024)),
                              offset, durable ? RWF_DSYNC : 0);
      int n = co_await op;
      if (n == -EINTR || n == -EAGAIN) continue;
      if (n <= 0) {
        result = ioError("write", n < 0 ? -n : EIO, offset);
        break;
      }
      vectors.drop(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    --inFlight_;
    co_return result;
  }

  Task<Result<void>> sync() override {
    ++inFlight_;
    UringOp op;
    int n = -EINTR;
    while (n == -EINTR || n == -EAGAIN) {
      io_uring_prep_fsync(reactor_.sqe(&op), file_.fd, IORING_FSYNC_DATASYNC);
      n = co_await op;
    }
    --inFlight_;
    if (n < 0) co_return ioError("sync", -n, 0);
    co_return Result<void>();
  }

  [[nodiscard]] uint64_t size() const override { return file_.sizeBytes; }

 private:
  io_uring_sqe* prepareOne(UringOp& op, void* data, size_t size, uint64_t offset, bool write) {
    io_uring_sqe* sqe = reactor_.sqe(&op);
    auto length = static_cast<unsigned>(std::min<size_t>(size, 1u << 30));
    bool fixed = reactor_.isRegistered(data, length);
    int opcode = write ? (fixed ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE)
                       : (fixed ? IORING_OP_READ_FIXED : IORING_OP_READ);
    io_uring_prep_rw(opcode, sqe, file_.fd, data, length, offset);
    sqe->buf_index = 0;
    return sqe;
  }

  [[nodiscard]] bool inside(uint64_t bytes, uint64_t offset) const {
    return offset <= file_.sizeBytes && bytes <= file_.sizeBytes - offset;
  }
  [[nodiscard]] std::unexpected<Error> outside(const char* what, uint64_t bytes,
                                               uint64_t offset) const {
    return fail(Errc::kInvalid, std::string(what) + " of " + std::to_string(bytes) + " bytes at " +
                                    std::to_string(offset) + " of " + path_ + ": it has only " +
                                    std::to_string(file_.sizeBytes));
  }
  // A device answers with many an errno that means something else to other callers (ETIMEDOUT,
  // EREMOTEIO, ENODATA): all but those of the file system are kIo.
  [[nodiscard]] std::unexpected<Error> ioError(const char* what, int err, uint64_t offset) const {
    Error e = errnoError(
        err, std::string(what) + " of " + path_ + " at " + std::to_string(offset) + " failed");
    if (err != ENOSPC && err != EDQUOT && err != EROFS && err != EINVAL) e.code = Errc::kIo;
    return fail(std::move(e));
  }

  UringReactor& reactor_;
  const std::string path_;
  const DirectFile file_;
  const bool writable_;
  size_t inFlight_ = 0;
};

}  // namespace

Task<Result<std::unique_ptr<File>>> UringDisk::open(std::string path, OpenOptions options) {
  Result<DirectFile> file;
  co_await offloaded(reactor_, [&] { file = openDirect(path, options); });
  CO_TRY(file);
  bool writable = options.writable || options.createBytes.has_value();
  co_return std::make_unique<UringFile>(reactor_, std::move(path), *file, writable);
}

Task<Result<bool>> UringDisk::makeDirectory(std::string path) {
  Result<bool> made = false;
  co_await offloaded(reactor_, [&] { made = makeDirectories(path); });
  co_return made;
}

Task<Result<void>> UringDisk::remove(std::string path) {
  Result<void> removed;
  co_await offloaded(reactor_, [&] { removed = removePath(path); });
  co_return removed;
}

Task<Result<uint64_t>> UringDisk::freeBytes(std::string path) {
  Result<uint64_t> free = 0;
  co_await offloaded(reactor_, [&] { free = freeSpace(path); });
  co_return free;
}

}  // namespace cairn
