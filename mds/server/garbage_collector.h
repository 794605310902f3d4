// Gives deleted chunks' space back: takes them from the garbage queue, asks the primary of their
// placement group to remove them, and records those that it has. A chunk whose group takes no
// mutations waits in the queue; the others go on. One reactor thread.
//
// Durable: a chunk leaves the queue only after the primary has answered that it is gone, which it
// says once that is durable at every member in sync; the others learn of it when they join. remove
// is idempotent, so repeating it after a crash is harmless.
#pragma once

#include <map>
#include <memory>

#include "common/base/env.h"
#include "common/wire/rpc.h"
#include "mds/server/proposer.h"

namespace cairn::mds {

class GarbageCollector {
 public:
  // All outlive it.
  GarbageCollector(Env& env, StateMachine& state, Proposer& proposer, Duration interval);

  // Runs until stop().
  Task<void> run();
  // Ends run() soon; calls under way fail.
  Task<void> stop();

  [[nodiscard]] uint64_t removed() const { return removed_; }

 private:
  struct Group {
    PoolId pool;
    PgIndex pg;
    std::vector<Garbage> chunks;
  };
  // Once through the queue.
  Task<void> pass();
  Task<bool> collect(std::vector<Group> groups);  // whether any chunk left the queue
  Task<void> removeGroup(Group group, std::vector<uint64_t>& done);
  Task<Result<void>> removeAt(OsdId osd, PoolId pool, PgIndex pg, MapEpoch epoch,
                              std::vector<ChunkId> chunks);
  RpcClient* client(OsdId id, const std::string& addr);
  std::vector<Group> group(std::vector<Garbage> batch) const;

  Env& env_;
  StateMachine& state_;
  Proposer& proposer_;
  const Duration interval_;
  struct Link {
    std::string addr;
    std::unique_ptr<RpcClient> client;
  };
  std::map<OsdId, Link> links_;
  std::vector<std::unique_ptr<RpcClient>> retired_;  // of addresses that OSDs have left
  Semaphore slots_;                                  // groups at work
  Event stopped_;
  uint64_t removed_ = 0;
  uint64_t& counter_;
};

}  // namespace cairn::mds
