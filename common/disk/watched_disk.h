// A Disk that knows for how long the oldest of its operations has been under way: a disk that hangs
// fails nothing, it only never answers. Opening and removing are not watched.
#pragma once

#include <list>

#include "common/disk/disk.h"
#include "common/reactor/clock.h"

namespace cairn {

class WatchedDisk final : public Disk {
 public:
  // Both outlive it and the files that it opens, which it outlives.
  WatchedDisk(Disk& disk, const Clock& clock) : disk_(disk), clock_(clock) {}
  WatchedDisk(const WatchedDisk&) = delete;
  WatchedDisk& operator=(const WatchedDisk&) = delete;

  Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) override;
  Task<Result<bool>> makeDirectory(std::string path) override {
    return disk_.makeDirectory(std::move(path));
  }
  Task<Result<void>> remove(std::string path) override { return disk_.remove(std::move(path)); }
  Task<Result<uint64_t>> freeBytes(std::string path) override {
    return disk_.freeBytes(std::move(path));
  }

  // Zero when nothing is under way.
  [[nodiscard]] Duration oldest() const {
    return began_.empty() ? Duration::zero() : clock_.now() - began_.front();
  }

 private:
  class Watched;
  using Began = std::list<TimePoint>;  // of what is under way, oldest first

  Disk& disk_;
  const Clock& clock_;
  Began began_;
};

}  // namespace cairn
