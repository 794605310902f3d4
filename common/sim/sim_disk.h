// Simulated disks: the files of a host (SimDiskStore) and one process's way to them (SimDisk), with
// the contract of common/disk/disk.h.
//
// Every block remembers what is durable and the versions written since. A write completes after the
// disk's latency, and is readable then; operations in flight complete in any order. On power loss
// each unsynced block is found as it was durable or as any of its later versions, and may mix two
// of them by 512-byte sectors; writes in flight count too, each block by chance. When only the
// process dies, its writes in flight are stored whole, in part or not at all.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/units.h"
#include "common/disk/disk.h"
#include "common/reactor/clock.h"
#include "common/sim/faults.h"

namespace cairn::sim {

class SimNode;
class SimWorld;

using BlockBytes = std::array<uint8_t, kBlockSize>;
// Null: zeros.
using BlockRef = std::shared_ptr<const BlockBytes>;

// One file's blocks and their history.
class StoredFile {
 public:
  StoredFile(std::string path, uint64_t sizeBytes) : path_(std::move(path)), size_(sizeBytes) {}

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  // Offsets and lengths are multiples of kBlockSize and inside the file.
  void read(uint64_t offset, MutBytes into) const;
  void write(uint64_t offset, Bytes bytes, bool durable);
  // A mark for syncTo(): what has been written so far.
  [[nodiscard]] uint64_t version() const { return version_; }
  void syncTo(uint64_t version);
  void losePower(Random& random, uint64_t tornPer1024);
  // Whether the block at that offset was ever written.
  [[nodiscard]] bool written(uint64_t offset) const {
    return blocks_.contains(offset / kBlockSize);
  }
  // In every version of the block.
  void flipBit(uint64_t byteOffset, unsigned bit);
  [[nodiscard]] size_t unsyncedBlocks() const { return dirty_.size(); }

  const void* lockOwner = nullptr;  // the open File that has it exclusively
  SimNode* lockNode = nullptr;

 private:
  struct Version {
    uint64_t number;
    BlockRef bytes;
  };
  struct Block {
    BlockRef durable;
    std::vector<Version> unsynced;  // oldest first
  };
  static const BlockRef& now(const Block& b) {
    return b.unsynced.empty() ? b.durable : b.unsynced.back().bytes;
  }
  const std::string path_;
  const uint64_t size_;
  std::unordered_map<uint64_t, Block> blocks_;  // those ever written; never iterated
  std::set<uint64_t> dirty_;                    // those with unsynced versions
  uint64_t version_ = 0;
};

// A write between submission and completion.
struct WriteInFlight {
  SimNode* node;
  std::shared_ptr<StoredFile> file;
  uint64_t offset;
  const std::vector<Buffer>* parts;
};

class SimDiskStore {
 public:
  explicit SimDiskStore(SimWorld& world) : world_(world) {}

  DiskOptions options;
  DiskFaults faults;

  // ---- For the harness ----
  [[nodiscard]] std::vector<std::string> list() const;
  // Null when there is no such file. What a read would return now: `file->read()`.
  [[nodiscard]] std::shared_ptr<StoredFile> find(const std::string& path) const;

  // ---- For the simulation ----
  Result<std::shared_ptr<StoredFile>> create(const std::string& path, uint64_t sizeBytes);
  Result<void> remove(const std::string& path);
  // True if anything is below this directory.
  [[nodiscard]] bool anyBelow(const std::string& directory) const;
  std::set<std::string> directories;
  // How long an operation of `bytes` takes now.
  Duration transit(Duration base, size_t bytes);
  std::list<WriteInFlight> inFlight;
  // The process died: its locks go, and its writes in flight end somehow.
  void abandon(SimNode& node);
  void losePower();

 private:
  SimWorld& world_;
  std::map<std::string, std::shared_ptr<StoredFile>> files_;
  TimePoint busyUntil_;
};

class SimDisk final : public Disk {
 public:
  explicit SimDisk(SimNode& node) : node_(node) {}
  // A created file is durable, as the real disk syncs it and its directory.
  Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) override;
  Task<Result<bool>> makeDirectory(std::string path) override;
  Task<Result<void>> remove(std::string path) override;
  // Of what databases may take: files have their space from the start.
  Task<Result<uint64_t>> freeBytes(std::string path) override;

 private:
  SimNode& node_;
};

}  // namespace cairn::sim
