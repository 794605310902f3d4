// This mount's session with the MDS: who we are, which member answers, and the guarantee that every
// mutation is executed exactly once.
//
// Mutations carry a sequence number and are repeated with the same one, over as many connections as
// it takes, until they are answered; the MDS answers a repetition with the first answer. Queries
// are simply repeated. After a connection was made again, the MDS is told which inodes are open
// ("reclaim") before anything else is sent.
//
// If the MDS says that the session has expired, the hooks are told (unflushed data is lost, see
// Errc::kSessionExpired), a new session is opened, and operations go on in it. A mutation whose
// fate in the old session is unknown fails with kIo, unless it may be repeated harmlessly.
//
// One reactor thread. `env`, `options` and `stop` outlive the session; close() before destruction.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "client/core/filesystem.h"
#include "client/core/held_lock.h"
#include "client/core/retry.h"
#include "common/reactor/sync.h"
#include "common/schema/mds.capnp.h"
#include "common/wire/rpc.h"

namespace cairn::client {

// Whether a mutation may be executed again in another session when it is unknown if it was.
enum class Repeat : uint8_t { kNever, kHarmless };

class Session {
 public:
  struct Holdings {
    std::vector<InodeId> open, read, write;  // open inodes, leases
    std::vector<HeldLock> locks;
  };
  struct Hooks {
    // What this mount holds, for the reclaim.
    std::function<Holdings()> holdings;
    // The old session is gone with its unflushed data. Called once for each, before the new one is
    // opened.
    std::function<void()> onExpired;
    // A new session is open.
    std::function<void(SessionId)> onOpened;
    // Pushed by the MDS.
    std::function<void(MapEpoch)> onMapChanged;
    std::function<void(InodeId, uint64_t serial, bool toRead)> onRecall;
    // Called when the push is read: before answers that came with it, or after them, are.
    std::function<void(uint64_t id, uint64_t serial)> onLockGranted;
    // Others are about to be refused for locks of this mount on the inode, if they stand.
    std::function<void(InodeId, uint64_t serial)> onLockProbe;
    // Others have read inodes of which this mount holds leases.
    std::function<void(std::vector<InodeId>)> onAccessed;
    // A request of the open session that was sent at this time was answered.
    std::function<void(TimePoint sentAt)> onAnswered;
    // Data requests must carry at least this epoch (see LEASES.md).
    std::function<void(MapEpoch)> onBarrier;
  };
  // Writes the request's union; called once for each attempt.
  using Fill = std::function<void(schema::MdsRequest::Builder)>;

  Session(Env& env, const Options& options, MountInfo info, Event& stop, Hooks hooks);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Opens the first session within `patience` (0 = wait for ever).
  Task<Result<void>> open(Duration patience);
  Task<Result<InMessage>> query(Fill fill);
  // The same, but not repeated once `givenUp` says so: the error is that of the last attempt, after
  // which the MDS is told all that this mount holds before it hears anything else. `early`, when
  // set, ends the wait between attempts.
  Task<Result<InMessage>> query(Fill fill, std::function<bool()> givenUp, Event* early);
  Task<Result<InMessage>> mutate(Fill fill, Repeat repeat);
  // Tells the MDS that the session is over, if it can be reached soon. Nothing else is sent after.
  Task<void> end();
  // Ends every call with kCanceled and waits until nothing runs here. `stop` is set.
  Task<void> close();

  [[nodiscard]] SessionId id() const { return id_; }
  [[nodiscard]] Uuid cluster() const { return cluster_; }
  // Grows with every connection; two equal values: no reclaim was sent in between.
  [[nodiscard]] uint64_t connections() const { return connections_; }

 private:
  Task<Result<InMessage>> attempt(const Fill& fill, SessionId session, uint64_t seq,
                                  Duration timeout);
  Task<Result<void>> reclaim(RpcClient& client);
  // Makes sure that a session other than `expired` is open.
  Task<Result<void>> renew(SessionId expired, Duration patience);
  Task<Result<void>> openNew(Duration patience);
  void identify(SessionId id);
  void settle(SessionId session, uint64_t seq);

  Env& env_;
  const Options& options_;
  const MountInfo info_;
  Event& stop_;
  const Hooks hooks_;
  std::vector<std::unique_ptr<RpcClient>> members_;  // one for each address of the MDS group
  size_t current_ = 0;                               // the member that we believe leads
  SessionId id_;                                     // 0: none open
  Uuid cluster_;
  uint64_t connections_ = 0;
  uint64_t nextSeq_ = 1;
  std::set<uint64_t> unanswered_;  // sequence numbers of the session `id_`
  AsyncMutex renewing_;
};

}  // namespace cairn::client
