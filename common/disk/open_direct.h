// Opening and making files for direct I/O with the blocking system calls; UringDisk runs it off the
// reactor's thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "common/disk/disk.h"

namespace cairn {

struct DirectFile {
  int fd = -1;  // O_DIRECT, close-on-exec; whoever holds the struct closes it
  uint64_t sizeBytes = 0;
};

// As Disk::open. When a created file is returned, its size, its zeros and its name are durable; on
// failure a file that this call made is gone again.
Result<DirectFile> openDirect(const std::string& path, const OpenOptions& options);

// As Disk::makeDirectory and Disk::remove; durable when they return.
Result<bool> makeDirectories(const std::string& path);
Result<void> removePath(const std::string& path);
// As Disk::freeBytes.
Result<uint64_t> freeSpace(const std::string& path);

// "ext4", "tmpfs", ...: the name of a statfs(2) f_type, or its number in hex.
std::string fileSystemName(uint64_t type);

}  // namespace cairn
