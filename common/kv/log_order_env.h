// What LevelDB's environment lacks for a store that syncs rarely: order among its logs.
//
// LevelDB appends to one log until the memtable is full, then starts another. With sync=false it
// never syncs the log it leaves, so a later synced write makes the new log durable while the tail
// of the old one is not: a power cut before the memtable's table is written loses a *middle* part
// of history. This wrapper keeps three invariants:
//
//   1. A log is durable as a whole before the next one takes its first record. So what survives
//      power loss is always a prefix of the write order, synced or not: a batch that carries an
//      "applied up to here" mark implies everything written before it.
//   2. Opening a database ends its old logs for good: that CURRENT names the new MANIFEST is
//   durable
//      before the first write. LevelDB does not sync that rename; losing it after writes to the new
//      log would bring back the old logs, which may be torn by an earlier crash, in front of it.
//   3. A log that failed once (append, flush or sync) takes nothing more, and neither does a later
//      one: after a failed append the log may end in half a record, and after a failed fsync the
//      kernel may have dropped the pages. Writes fail until the database is opened again.
//
// It also lets syncLog() run on another thread beside appends, which LevelDB's own synced write
// does not (it makes every writer queue behind the fsync), and hides a tail that power loss left
// zero-filled (some file systems extend a file before its data is written), which LevelDB in
// paranoid mode would take for damage.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "leveldb/env.h"

namespace cairn {

// The log file that takes records now. append and flush by one thread at a time; sync by any thread
// at any time: it makes durable what was flushed before the call.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual leveldb::Status append(const leveldb::Slice& data) = 0;
  virtual leveldb::Status flush() = 0;
  virtual leveldb::Status sync() = 0;
};

// One for each open database. `base` nullptr: the host's file system. Not owned.
class LogOrderEnv final : public leveldb::EnvWrapper {
 public:
  explicit LogOrderEnv(leveldb::Env* base);
  ~LogOrderEnv() override;

  // The sink of the newest log: take it on the writing thread, sync it on any. Null before the
  // database is open.
  [[nodiscard]] std::shared_ptr<LogSink> currentLog();
  // sink.sync(), and invariant 3 if it fails. Any thread.
  leveldb::Status syncLog(LogSink& sink);
  // True when LockFile was refused because somebody else holds the lock.
  [[nodiscard]] bool lockRefused() const { return lockRefused_; }

  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status NewSequentialFile(const std::string& name,
                                    leveldb::SequentialFile** file) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& name, leveldb::FileLock** lock) override;

 private:
  class LogFile;
  [[nodiscard]] leveldb::Status failure();
  leveldb::Status remember(leveldb::Status status);

  const bool onHost_;
  bool lockRefused_ = false;
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards what follows
  leveldb::Status firstFailure_;
  std::shared_ptr<LogSink> current_;
};

}  // namespace cairn
