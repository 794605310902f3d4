// The data directory of cairn-mds on the host's file system: whose it is, in which format, and that
// one daemon at a time uses it. Used before anything is served: its calls block. Not durable until
// commit().
//
//   version   the format's number; another one is refused (kVersion)
//   cluster   the cluster's UUID
//   lock      locked (flock) while a daemon uses the directory; holds its process id
//   making    there while the directory is being made: what lies beside it is worth nothing yet
//   meta/     LevelDB, see mds/FORMAT.md
//   log       the command log, see mds/log/FORMAT.md
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/base/uuid.h"

namespace cairn::mds {

inline constexpr int kDirectoryFormat = 1;

class DataDirectory {
 public:
  // Looks at `path` and locks it if it is there. Nothing is made yet. kBusy names the process that
  // uses it; kVersion, kCorrupt; kInvalid where something else lies in it.
  static Result<DataDirectory> open(const std::string& path);
  DataDirectory(DataDirectory&& o) noexcept;
  DataDirectory& operator=(DataDirectory&&) = delete;
  ~DataDirectory();

  // It holds no cluster: prepare() and commit() make it one.
  [[nodiscard]] bool fresh() const { return fresh_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] Uuid cluster() const { return cluster_; }

  // A fresh one: makes and locks the directory, clears what an interrupted start left, picks the
  // cluster's UUID.
  Result<void> prepare();
  // It is whole, durably.
  Result<void> commit();
  // Takes back what prepare() did; everything in the directory goes.
  void discard();

 private:
  explicit DataDirectory(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] std::string at(const char* name) const { return path_ + "/" + name; }
  Result<void> lock();
  [[nodiscard]] Result<void> checkEmpty() const;
  Result<void> readFormat();
  void clear();

  std::string path_;
  Uuid cluster_;
  bool fresh_ = true, madeDirectory_ = false, prepared_ = false;
  int lockFd_ = -1;
};

}  // namespace cairn::mds
