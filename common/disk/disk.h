// Files and block devices accessed with direct I/O. Real: UringDisk (io_uring, O_DIRECT).
// Simulated: sim::SimDisk, which can lose what was not synced, tear it, delay it, flip bits and
// fail. All calls on the reactor's thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/reactor/task.h"

namespace cairn {

class File {
 public:
  virtual ~File() = default;  // no operation may be in flight
  // Offsets and sizes are multiples of kBlockSize, memory is kBlockSize-aligned. Reads past the end
  // fail (kInvalid). A device error is kIo. The Buffer is held until the operation has ended.
  virtual Task<Result<void>> read(Buffer into, uint64_t offset) = 0;
  // When it completes, the data is readable; durable only after sync(), or at once with `durable`
  // (RWF_DSYNC). On power loss, an unsynced write may be there whole, in part (any subset of its 4
  // KiB blocks) or not at all.
  virtual Task<Result<void>> write(std::vector<Buffer> parts, uint64_t offset, bool durable) = 0;
  // Everything that completed before this call is durable when it completes.
  virtual Task<Result<void>> sync() = 0;
  [[nodiscard]] virtual uint64_t size() const = 0;
};

struct OpenOptions {
  // Create the file with this size, its space reserved; fails with kExists if it is there.
  std::optional<uint64_t> createBytes = {};
  // With createBytes: also write zeros over the first so many bytes, so that no later write changes
  // extents.
  uint64_t zeroBytes = 0;
  bool writable = true;
  // Fails with kBusy when another process has it open exclusively (flock on files, O_EXCL on block
  // devices).
  bool exclusive = true;
};

class Disk {
 public:
  virtual ~Disk() = default;
  // A file system that refuses O_DIRECT gives kNotSupported and says which file system and what to
  // use instead.
  virtual Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) = 0;
  // Makes a directory, its parents included, that only the owner may enter; false if it was there.
  // Simulated disks have no directories: any path may be created.
  virtual Task<Result<bool>> makeDirectory(std::string /*path*/) { co_return false; }
  // Removes a file that nobody uses, or an empty directory. kNotFound, kNotEmpty.
  virtual Task<Result<void>> remove(std::string path) {
    co_return fail(Errc::kNotSupported, "cannot remove " + path);
  }
  // What files can still take on the file system of this path.
  virtual Task<Result<uint64_t>> freeBytes(std::string path) = 0;
};

}  // namespace cairn
