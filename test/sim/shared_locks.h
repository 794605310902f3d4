// Applications on all mounts that lock the same file: ranges and flock, waiting or not, interrupted
// or not. A referee, who sees all of them at once, notes what each has: from the answer that gave
// it to the request that gives it up. No two may have what excludes each other, what a request
// that failed does not touch is still had, and everybody who waits comes to an end.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "client/core/filesystem.h"
#include "common/reactor/clock.h"
#include "common/reactor/task.h"

namespace cairn::sim::test {

class SharedLocks {
 public:
  static constexpr size_t kAgents = 6;
  explicit SharedLocks(uint64_t seed) : random_(seed) {}

  // Makes the file. Once.
  Task<void> prepare(client::Filesystem& fs);
  // `steps` operations of one agent. Agents of one mount are owners of their own.
  Task<void> run(size_t agent, Env& env, client::Filesystem& fs, uint64_t steps);
  // The agent's mount was killed while it ran: what it had is nobody's, and its coroutine ends as
  // it may.
  void killed(size_t agent);
  [[nodiscard]] bool running(size_t agent) const { return runs_[agent]; }

  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] bool done() const { return running_ == 0; }
  // What was seen: grants, of them after a wait, refusals, deadlocks, interruptions.
  struct Seen {
    size_t granted = 0, waited = 0, refused = 0, deadlocks = 0, interrupted = 0;
  };
  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  static constexpr size_t kBytes = 8;
  struct Agent {
    size_t number;
    Env* env;
    client::Filesystem* fs;
    TaskScope* later;
    std::shared_ptr<client::Handle> handle;
    uint64_t life;  // the agent was not killed since
  };
  using Bytes = std::array<LockType, kBytes + 1>;  // the last one is the flock
  Task<bool> step(Agent& a);
  Task<void> interruptLater(Env& env, std::shared_ptr<client::LockWait> wait, Duration after);
  // Notes what the agent has from now on.
  bool note(const Agent& a, const Bytes& has, const char* when);
  [[nodiscard]] bool dead(const Agent& a) const { return lives_[a.number] != a.life; }
  bool fail(const Agent& a, const std::string& what);

  SeededRandom random_;
  std::string failure_;
  InodeId file_;
  std::array<Bytes, kAgents> has_{};
  std::array<uint64_t, kAgents> lives_{};
  std::array<bool, kAgents> runs_{};
  size_t running_ = 0;
  Seen seen_;
};

}  // namespace cairn::sim::test
