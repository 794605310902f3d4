// Applications on all mounts that work on the same two files at once, without closing them.
//
// In one file everybody overwrites *slots*. A slot holds one number, repeated; every write raises
// it. A read must return a number that was there at some moment while it ran, whole, and never one
// that is older than what a read before it has returned: reads and writes of a slot are
// linearizable. To the other file everybody appends records: each is there once, whole, and in its
// author's order, and whoever looks sees all that were appended before.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "client/core/filesystem.h"
#include "common/reactor/clock.h"
#include "common/reactor/task.h"

namespace cairn::sim::test {

class SharedFiles {
 public:
  static constexpr size_t kAgents = 4;
  explicit SharedFiles(uint64_t seed) : random_(seed) {}

  // Makes the files. Once.
  Task<void> prepare(Env& env, client::Filesystem& fs);
  // `steps` operations of one agent.
  Task<void> run(size_t agent, Env& env, client::Filesystem& fs, uint64_t steps);
  // All slots and records, at rest.
  Task<void> verify(Env& env, client::Filesystem& fs);

  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] bool done() const { return running_ == 0; }

 private:
  struct Slot {
    uint64_t offset = 0;
    uint32_t length = 0;
    uint64_t begun = 0;  // the largest number whose write has begun
    uint64_t seen = 0;   // whose write has ended, or that a read has returned
    bool writing = false;
  };
  struct Agent {
    Env* env;
    client::Filesystem* fs;
    std::shared_ptr<client::Handle> slots, log;
    size_t number;
  };
  Task<bool> step(Agent& a);
  Task<bool> writeSlot(Agent& a, Slot& slot);
  Task<bool> readSlot(Agent& a, Slot& slot);
  Task<bool> append(Agent& a);
  Task<bool> readLog(Agent& a);
  Task<bool> readAll(Agent& a, std::shared_ptr<client::Handle> h, uint64_t from, uint64_t length,
                     std::string& out);
  bool fail(const Agent& a, const std::string& what);
  bool failed(const Agent& a, const char* what, const Error& error);

  SeededRandom random_;
  std::string failure_;
  InodeId slotsFile_, logFile_;
  std::vector<Slot> slots_;
  std::array<uint64_t, kAgents> appended_{};  // records of each agent that are in the log
  size_t running_ = 0;
};

}  // namespace cairn::sim::test
