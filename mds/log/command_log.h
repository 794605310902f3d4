// The command log: a narrow interface that a single member's ring log (the embedded default), a
// replicated group (C-Raft) and the simulator implement. One reactor thread. Records of the single
// member's log: mds/log/FORMAT.md.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "common/base/buffer.h"
#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/uuid.h"
#include "common/reactor/task.h"

namespace cairn::mds {

// Where a single member keeps its log, and what it has to fit to.
struct SingleLogOptions {
  std::string path;     // one file
  uint64_t bytes = 0;   // its size, when it is made; a multiple of kBlockSize, at least 1 MiB
  Uuid identity;        // of the cluster; the log of another one is refused
  LogIndex applied;     // the database holds the effects of every command up to here
  bool create = false;  // make it if it is missing, provided that `applied` is zero
};

class CommandLog {
 public:
  // Called with committed commands in log order, each index once, from the loop; also during
  // recovery. Those that became durable together come together. An error stops the log.
  using OnCommitted = std::function<Result<void>(LogIndex first, std::span<const Bytes> commands)>;

  virtual ~CommandLog() = default;  // close() was called
  // Appends; completes after the command is committed (durable on a quorum) AND OnCommitted has
  // returned for it. Commands commit in the order of the calls. kNotLeader: ask another member;
  // kUnavailable/kTimeout: whether it will be committed is unknown. kTooBig: nothing was appended.
  // Every other error stopped the log for good: the daemon must end, and recovery decides.
  virtual Task<Result<LogIndex>> append(Buffer command) = 0;
  [[nodiscard]] virtual bool isLeader() const = 0;
  // The state machine holds everything up to here durably.
  virtual void trim(LogIndex upTo) = 0;
  // Bytes until a trim is needed, as a fraction of the capacity: 0 empty .. 1 full. append() waits
  // while it is full.
  [[nodiscard]] virtual double fullness() const = 0;
  // Waits for what was appended; later appends fail with kCanceled.
  virtual Task<void> close() = 0;

  // One member, one file. Commands after `applied` are replayed through `onCommitted` first.
  // kBusy: another process has it. kWrongCluster: of another cluster. kNotFound: missing though the
  // database has commands. kCorrupt: damaged, or does not join up with the database.
  static Task<Result<std::unique_ptr<CommandLog>>> openSingle(Env& env, SingleLogOptions options,
                                                              OnCommitted onCommitted);
};

}  // namespace cairn::mds
