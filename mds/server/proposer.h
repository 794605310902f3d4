// The way of a change: command -> log -> state machine -> answer. Stamps commands with the leader's
// time and random number, and gives each answer to whoever proposed the command. One reactor
// thread.
//
// A command is known by its random number while it is under way: indices are only known after it
// was committed, and a follower's commands are answered elsewhere.
#pragma once

#include <functional>
#include <unordered_map>

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "mds/log/command_log.h"
#include "mds/server/flat_message.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

// A command that is being made; `words` bounds its size beyond the fixed fields.
class Draft {
 public:
  explicit Draft(size_t words = 64) : message_(words + kFixedWords) {}
  schema::Command::Builder command() { return message_.root<schema::Command>(); }
  schema::Mutation::Builder mutation() { return command().getMutation(); }
  Result<Buffer> finish(BufferPool& buffers) { return message_.finish(buffers); }

 private:
  static constexpr size_t kFixedWords = 32;
  FlatBuilder message_;
};

class Proposer {
 public:
  // Called for every command that was applied, in order, before its proposer goes on; also for
  // those replayed at the start.
  using Observer = std::function<void(schema::Command::Reader, const Applied&)>;
  // After a group of commands was applied.
  using AfterGroup = std::function<void()>;

  // `env` and `state` outlive it.
  Proposer(Env& env, StateMachine& state, Observer observer, AfterGroup afterGroup);
  // The log that commands go to from now on; outlives every propose().
  void attach(CommandLog& log) { log_ = &log; }

  // For CommandLog: applies the commands.
  Result<void> onCommitted(LogIndex first, std::span<const Bytes> commands);

  // The state machine's answer to the command: its serialized MdsReply (see Applied), or its Error.
  // Durable when it completes. An error that is not the state machine's stopped the log; onFatal
  // was told.
  Task<Result<std::string>> propose(Draft draft);

  // Told once when the log or the database has failed: nothing can be changed any more.
  std::function<void(const Error&)> onFatal;

  [[nodiscard]] uint64_t proposed() const { return proposed_; }

 private:
  void fatal(const Error& error);

  Env& env_;
  StateMachine& state_;
  Observer observer_;
  AfterGroup afterGroup_;
  CommandLog* log_ = nullptr;
  std::unordered_map<uint64_t, Applied*> waiting_;  // by the command's random number
  int64_t lastTimeNs_ = 0;
  uint64_t proposed_ = 0;
  bool failed_ = false;
};

}  // namespace cairn::mds
