// The command log: a narrow interface that a single member's ring log (the embedded default), a
// replicated group (C-Raft) and the simulator implement. One reactor thread.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "common/base/buffer.h"
#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/reactor/task.h"

namespace cairn::mds {

class CommandLog {
 public:
  // Called with committed commands in log order, each index once, from the loop; also during
  // recovery. An error stops the log.
  using OnCommitted = std::function<Result<void>(LogIndex first, std::span<const Bytes> commands)>;

  virtual ~CommandLog() = default;
  // Appends; completes after the command is committed (durable on a quorum) AND OnCommitted has
  // returned for it. kNotLeader: ask another member; kUnavailable/kTimeout: whether it will be
  // committed is unknown.
  virtual Task<Result<LogIndex>> append(Buffer command) = 0;
  [[nodiscard]] virtual bool isLeader() const = 0;
  // The state machine holds everything up to here durably.
  virtual void trim(LogIndex upTo) = 0;
  // Bytes until a trim is needed, as a fraction of the capacity: 0 empty .. 1 full.
  [[nodiscard]] virtual double fullness() const = 0;
  virtual Task<void> close() = 0;

  // One member, one file (made with `bytes` if missing). Commands after `applied` are replayed
  // through `onCommitted` first.
  static Task<Result<std::unique_ptr<CommandLog>>> openSingle(Env& env, std::string path,
                                                              uint64_t bytes, LogIndex applied,
                                                              OnCommitted onCommitted);
};

}  // namespace cairn::mds
