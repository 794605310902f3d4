// The metadata server around the state machine: takes requests, turns changes into commands,
// answers queries, keeps what lives only in memory (open files, heartbeats), and runs the work in
// the background. See README.md for its concepts. One reactor thread.
//
// Durable: a change is, when it is answered. Exactly once: a numbered change of a session is done
// once, however often it is sent (state machine). Reads see every change that was answered before.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "common/base/env.h"
#include "common/metrics/metrics.h"
#include "common/wire/rpc.h"
#include "mds/log/command_log.h"
#include "mds/server/checkpointer.h"
#include "mds/server/garbage_collector.h"
#include "mds/server/group_reports.h"
#include "mds/server/leaks.h"
#include "mds/server/leases.h"
#include "mds/server/locks.h"
#include "mds/server/orphan_keeper.h"
#include "mds/server/osd_monitor.h"
#include "mds/server/proposer.h"
#include "mds/server/queries.h"
#include "mds/server/sessions.h"
#include "mds/server/space_watch.h"
#include "mds/server/victims.h"

namespace cairn::mds {

struct ServerOptions {
  Uuid cluster;           // of the data directory
  uint16_t replicas = 3;  // of the first pool, when the cluster is made
  Duration osdLease = 1500ms;
  Duration clientLease = 5s;
  Duration osdOutAfter = 10min;
  Duration sessionTimeout = 60s;
  Duration recallTimeout = 60s;  // a session that is heard, but gives back nothing, is expired
  Duration gcInterval = 1s;
  std::string directory;          // of the metadata; empty: its space is not watched
  uint64_t reserve = 128 * kMiB;  // with less free there, nothing new is made
  uint32_t id = 1;                // of this member
  std::string advertise;          // HOST:PORT, for status
  std::string host;               // this machine's name
  uint32_t pid = 0;
  // Told once when nothing can be changed any more (log or database failed): the daemon must end.
  std::function<void(const Error&)> onFatal;
};

class Server final : public RpcHandler {
 public:
  // `env` and `state` outlive it.
  Server(Env& env, StateMachine& state, ServerOptions options);
  ~Server() override;  // close() was called, or start() never
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // For CommandLog::openSingle.
  Result<void> onCommitted(LogIndex first, std::span<const Bytes> commands) {
    return proposer_.onCommitted(first, commands);
  }
  // After the log was replayed: makes a new cluster if the database is empty, takes the sessions
  // that were there, and starts the background work. `log` outlives close(). kWrongCluster: the
  // database is another cluster's.
  Task<Result<void>> start(CommandLog& log);
  // After the RpcServer was closed: ends the background work and makes a last checkpoint.
  Task<void> close();

  Identity identity() override;
  Task<Result<void>> onHello(const Identity& peer) override;
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;
  void onConnected(RpcPeer& peer) override;
  void onClosing(RpcPeer& peer) override;
  void onDisconnected(RpcPeer& peer) override;

  [[nodiscard]] const Sessions& sessions() const { return sessions_; }
  [[nodiscard]] const Leases& leases() const { return leases_; }
  [[nodiscard]] const Locks& locks() const { return locks_; }
  void setAdvertise(std::string advertise) { options_.advertise = std::move(advertise); }

 private:
  struct Connection {
    Connection(RpcPeer& p, SessionId s) : peer(&p), session(s) {}
    RpcPeer* peer;
    SessionId session;
    OsdId osd;  // of an OSD, once it has one
    Caller caller;
    uint64_t reclaimSerial = 0;   // while the session reclaims: of what it listed so far
    std::vector<FileLock> locks;  // and the locks among it
  };
  using Answer = Result<OutMessage>;
  Task<Answer> dispatch(schema::MdsRequest::Reader request, RpcPeer& peer);
  // mutations.cc
  Task<Answer> mutate(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Answer> groupReport(schema::Mutation::Reader mutation, RpcPeer& peer);
  Task<Result<void>> endSession(SessionId session, bool expired);
  Result<void> checkPlaced(schema::Mutation::Reader mutation);
  Result<void> checkWriteLease(schema::MdsRequest::Reader request, bool repeated);
  Result<OutMessage> answerWithLeases(const std::string& reply, SessionId session, bool repeated,
                                      LeaseMode wanted);
  void forgetIfGone(InodeId ino);
  // access_times.cc
  Task<Answer> accessed(schema::MdsRequest::Reader request);
  void pushAccessed(SessionId session, const std::vector<InodeId>& inodes);
  void addTimes(Answer& answer, InodeId ino);
  // requests.cc: queries, with the state as it is once nobody's writes are behind it. `claim` holds
  // what was waited for until the answer is built.
  using MaybeClaim = std::optional<Leases::Claim>;
  Task<Answer> lookup(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Answer> queryInode(schema::MdsRequest::Reader request, InodeId ino, RpcPeer& peer);
  Task<Answer> resolve(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Answer> open(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Answer> lease(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Result<void>> settle(SessionId session, InodeId ino, RpcPeer& peer, MaybeClaim& claim);
  Answer release(SessionId session, capnp::List<uint64_t>::Reader inodes);
  Answer leaseReturn(SessionId session, capnp::List<schema::LeaseReturn>::Reader leases);
  Answer reclaim(SessionId session, schema::Reclaim::Reader reclaim, RpcPeer& peer);
  Task<void> resend(SessionId session, std::vector<Recall> recalls);
  Task<Answer> removeLeaked(capnp::List<schema::StoredChunk>::Reader suspects, RpcPeer& peer);
  Answer statfs();
  Answer status();
  void writeMap(MapEpoch known, Duration lease, schema::MapReply::Builder reply);
  // For clients.
  void writeNearlyFull(schema::MapReply::Builder reply);
  // lock_requests.cc
  Task<Answer> lock(schema::MdsRequest::Reader request, RpcPeer& peer);
  Task<Answer> lockTest(schema::MdsRequest::Reader request, RpcPeer& peer);
  Result<void> reclaimLocks(Connection& connection, SessionId session,
                            schema::Reclaim::Reader reclaim);
  Task<void> expire(SessionId session);
  void pushGrant(const LockGrant& grant);
  void pushProbe(const LockProbe& probe);
  // server.cc
  void pushRecall(const Recall& recall);
  Caller& callerOf(RpcPeer& peer) { return peerAt_.at(&peer)->caller; }
  [[nodiscard]] std::vector<SessionId> toExpire();
  void applied(schema::Command::Reader command, const Applied& result);
  void afterGroup();
  Task<void> tick();
  Task<void> watchSpace();
  Task<void> checkpoints();
  OpMetrics& metricsOf(schema::MdsRequest::Reader request);
  void addGauges();

  Env& env_;
  StateMachine& state_;
  ServerOptions options_;
  Proposer proposer_;
  Sessions sessions_;
  Leases leases_;
  Locks locks_;
  Queries queries_;
  NameLocks names_;
  RemovalGate removals_;
  OsdMonitor osds_;
  GroupReports reports_;
  GarbageCollector garbage_;
  OrphanKeeper orphans_;
  Leaks leaks_;
  SpaceWatch space_;
  CommandLog* log_ = nullptr;
  std::unique_ptr<Checkpointer> checkpointer_;
  // In the order in which they came, so that what goes to all goes in the same order in every
  // simulated run.
  std::list<Connection> peers_;
  std::unordered_map<RpcPeer*, std::list<Connection>::iterator> peerAt_;
  std::unordered_map<SessionId, RpcPeer*> peerOf_;            // the newest of each session
  std::unordered_map<std::string_view, OpMetrics*> metrics_;  // by operationName()
  MapEpoch pushed_;                                           // peers know of this map
  std::set<PoolId> placed_;  // pools all of whose groups have lists
  bool serving_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for gauges: they outlive us
  Event stopped_;
  TaskScope scope_;
};

// The answer that the state machine built.
OutMessage answerOf(const std::string& reply);

}  // namespace cairn::mds
