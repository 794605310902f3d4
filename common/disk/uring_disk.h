// Files and block devices on a UringReactor, with O_DIRECT. Thread and lifetime: as the reactor,
// which outlives it and the files it opened.
//
// Opening, which may reserve and zero space, runs on the reactor's pool. Reads and writes are
// operations of the ring; one whose memory is a single piece of the registered arena uses it as a
// fixed buffer. A durable write is RWF_DSYNC, sync() is fdatasync.
#pragma once

#include "common/disk/disk.h"
#include "common/reactor/uring_reactor.h"

namespace cairn {

class UringDisk final : public Disk {
 public:
  explicit UringDisk(UringReactor& reactor) : reactor_(reactor) {}
  Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) override;
  Task<Result<bool>> makeDirectory(std::string path) override;
  Task<Result<void>> remove(std::string path) override;
  Task<Result<uint64_t>> freeBytes(std::string path) override;

 private:
  UringReactor& reactor_;
};

}  // namespace cairn
