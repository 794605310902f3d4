#include "mds/server/server.h"

#include <algorithm>

#include "common/logging/log.h"
#include "mds/server/admission.h"
#include "mds/server/status.h"

namespace cairn::mds {

Server::Server(Env& env, StateMachine& state, ServerOptions options)
    : env_(env),
      state_(state),
      options_(std::move(options)),
      proposer_(
          env, state, [this](schema::Command::Reader c, const Applied& r) { applied(c, r); },
          [this] { afterGroup(); }),
      sessions_(options_.sessionTimeout),
      leases_(env, sessions_, [this](const Recall& r) { pushRecall(r); }),
      locks_(
          env.reactor, sessions_, [this](const LockGrant& g) { pushGrant(g); },
          [this](const LockProbe& p) { pushProbe(p); }),
      queries_(state, leases_),
      names_(env.reactor),
      removals_(env.reactor),
      osds_(env, state, proposer_, {options_.osdLease, options_.osdOutAfter}),
      reports_(env, state, proposer_, osds_),
      garbage_(env, state, proposer_, options_.gcInterval),
      orphans_(env, state, proposer_, sessions_),
      leaks_(env, state, proposer_),
      space_(env, options_.directory, options_.reserve),
      stopped_(env.reactor),
      scope_(env.reactor) {
  proposer_.onFatal = [this](const Error& error) {
    env_.log.error("nothing can be changed any more", {{"reason", error.text()}});
    if (options_.onFatal) options_.onFatal(error);
  };
}

Server::~Server() = default;  // scope_ asserts that close() drained it

Task<Result<void>> Server::start(CommandLog& log) {
  log_ = &log;
  proposer_.attach(log);
  checkpointer_ = std::make_unique<Checkpointer>(env_, state_, log);
  const Uuid found = state_.map().cluster;
  if (found && found != options_.cluster)
    co_return fail(Errc::kWrongCluster, "the metadata belongs to cluster " + found.text() +
                                            ", the directory to " + options_.cluster.text());
  if (!found) {
    Draft draft;
    auto b = draft.mutation().initBootstrap();
    b.initCluster().setHi(options_.cluster.hi);
    b.getCluster().setLo(options_.cluster.lo);
    b.setReplicas(options_.replicas);
    auto made = co_await proposer_.propose(std::move(draft));
    CO_TRY(made);
    env_.log.info("new cluster", {{"cluster", options_.cluster.text()}});
  }
  const TimePoint now = env_.reactor.now();
  for (const SessionInfo& s : state_.sessions()) sessions_.addKnown(s.id, now);
  // No run grants as many as nanoseconds pass, so time makes them grow from run to run. Where the
  // clock was set back, sessions are told with their reclaim (MdsReply.leaseSerial).
  leases_.start(now, static_cast<uint64_t>(std::max<WallNs>(env_.reactor.wallNow(), 1)));
  locks_.start(now);
  osds_.start();
  serving_ = true;
  afterGroup();
  orphans_.kick();
  addGauges();
  scope_.spawn(tick());
  if (!options_.directory.empty()) scope_.spawn(watchSpace());
  scope_.spawn(garbage_.run());
  scope_.spawn(orphans_.run());
  scope_.spawn(checkpoints());
  co_return Result<void>{};
}

Task<void> Server::close() {
  stopped_.set();
  orphans_.stop();
  if (checkpointer_) checkpointer_->stop();
  co_await garbage_.stop();
  co_await scope_.join();
  // Spares the next start the replay; the log has it all anyway.
  if (checkpointer_ && serving_) (void)co_await checkpointer_->checkpoint();
}

Identity Server::identity() {
  return {schema::Hello::Role::MDS, state_.map().cluster, options_.id};
}

Task<Result<void>> Server::onHello(const Identity& peer) {
  if (peer.role == schema::Hello::Role::CLIENT && peer.peer != 0)
    co_return sessions_.touch(SessionId{peer.peer}, env_.reactor.now());
  co_return Result<void>{};
}

void Server::onConnected(RpcPeer& peer) {
  const Identity& who = peer.identity();
  const bool client = who.role == schema::Hello::Role::CLIENT;
  const SessionId session = client ? SessionId{who.peer} : SessionId{};
  peers_.emplace_back(peer, session);
  if (who.role == schema::Hello::Role::OSD)
    peers_.back().osd = OsdId(static_cast<uint32_t>(who.peer));
  peerAt_[&peer] = std::prev(peers_.end());
  if (session) peerOf_[session] = &peer;
}

void Server::onClosing(RpcPeer& peer) {
  callerOf(peer).leave();
}

void Server::onDisconnected(RpcPeer& peer) {
  auto at = peerAt_.find(&peer);
  if (at == peerAt_.end()) return;
  auto newest = peerOf_.find(at->second->session);
  if (newest != peerOf_.end() && newest->second == &peer) peerOf_.erase(newest);
  peers_.erase(at->second);
  peerAt_.erase(at);
}

Task<Result<OutMessage>> Server::handle(const InMessage& request, RpcPeer& peer) {
  auto body = request.body<schema::MdsRequest>();
  OpTimer timer(metricsOf(body), env_.reactor.clock());
  auto answer = co_await dispatch(body, peer);
  timer.done(answer);
  // Data that the receiver asks for now must not be what a fenced session still writes.
  if (const MapEpoch fence = state_.fenceEpoch(); answer && fence != MapEpoch{})
    answer->header().getBody().getAs<schema::MdsReply>().setBarrier(fence.value);
  co_return answer;
}

// Dropped where the session is not connected: it is sent again once the session has reclaimed.
void Server::pushRecall(const Recall& recall) {
  auto to = peerOf_.find(recall.session);
  if (to == peerOf_.end()) return;
  OutMessage push;
  auto body = push.body<schema::MdsPush>().initRecall();
  body.setIno(recall.ino.value);
  body.setSerial(recall.serial);
  body.setToRead(recall.keep == LeaseMode::kRead);
  to->second->push(std::move(push));
}

OpMetrics& Server::metricsOf(schema::MdsRequest::Reader request) {
  OpMetrics*& op = metrics_[operationName(request)];
  if (op == nullptr) op = &env_.metrics.op(std::string(operationName(request)));
  return *op;
}

// Called for every command, in the order of the log.
void Server::applied(schema::Command::Reader command, const Applied& result) {
  if (!serving_) return;  // what is replayed is taken from the state afterwards
  auto mutation = command.getMutation();
  using Kind = schema::Mutation::Which;
  switch (mutation.which()) {
    case Kind::REMOVE:
    case Kind::RENAME:
    case Kind::SETATTR:
    case Kind::REMOVE_CHUNKS:
      orphans_.kick();
      break;
    case Kind::RELEASE_ORPHAN:
      orphans_.kick();
      forgetIfGone(InodeId{mutation.getReleaseOrphan().getIno()});
      break;
    case Kind::PURGE:
      forgetIfGone(InodeId{mutation.getPurge().getIno()});
      break;
    case Kind::MAKE:
      // Known as open before anything later in the log can remove it.
      if (mutation.getMake().getOpen() && result.code == Errc::kOk) {
        FlatReader reply(
            {reinterpret_cast<const uint8_t*>(result.reply.data()), result.reply.size()});
        const SessionId session{command.getSession()};
        const InodeId ino{reply.root<schema::MdsReply>().getEntry().getAttr().getIno()};
        sessions_.noteOpen(session, ino);
      }
      break;
    case Kind::OSD_REGISTER:
      if (result.code == Errc::kOk) {
        FlatReader reply(
            {reinterpret_cast<const uint8_t*>(result.reply.data()), result.reply.size()});
        osds_.registered(OsdId(static_cast<uint32_t>(reply.root<schema::MdsReply>().getId())));
      }
      break;
    case Kind::SESSION_OPEN:
      if (result.code == Errc::kOk) {
        FlatReader reply(
            {reinterpret_cast<const uint8_t*>(result.reply.data()), result.reply.size()});
        sessions_.addNew(SessionId{reply.root<schema::MdsReply>().getId()}, env_.reactor.now(),
                         mutation.getSessionOpen().getLeases());
      }
      break;
    case Kind::SESSION_END: {
      const SessionId session{mutation.getSessionEnd().getSession()};
      sessions_.remove(session);
      leases_.drop(session);
      locks_.drop(session);
      orphans_.kick();
      // One that closes itself waits for the answer on its connection.
      if (mutation.getSessionEnd().getExpired())
        for (auto& connection : peers_)
          if (connection.session == session) connection.peer->disconnect();
      break;
    }
    default:
      break;
  }
}

void Server::afterGroup() {
  if (!serving_) return;
  checkpointer_->noteAppended();
  const ClusterMap& map = state_.map();
  if (map.epoch == pushed_) return;
  pushed_ = map.epoch;
  placed_.clear();
  for (const auto& [id, pool] : map.pools)
    if (whyNotPlaced(map, &pool).empty()) placed_.insert(id);
  for (auto& connection : peers_) {
    RpcPeer* peer = connection.peer;
    const auto role = peer->identity().role;
    if (role != schema::Hello::Role::CLIENT && role != schema::Hello::Role::OSD) continue;
    OutMessage push;
    push.body<schema::MdsPush>().setMapChanged(map.epoch.value);
    peer->push(std::move(push));
  }
}

// Who was silent for too long: OSDs and sessions.
Task<void> Server::tick() {
  const Duration interval =
      std::clamp<Duration>(std::min(options_.osdLease, options_.sessionTimeout) / 15, 20ms, 1s);
  TimePoint last = env_.reactor.now();
  while (!co_await stopped_.waitFor(interval)) {
    const TimePoint now = env_.reactor.now();
    if (now - last > 2 * interval) {
      // This process was stopped or starved. What was sent to us meanwhile is still in the sockets.
      osds_.forgive(now - last);
      sessions_.forgive(now - last);
      leases_.forgive(now - last);
      locks_.forgive(now - last);
      reports_.forgive(now - last);
    }
    // Judged at one moment, before anything is waited for.
    const auto expired = toExpire();
    co_await osds_.check();
    co_await reports_.decide();
    for (SessionId id : expired) {
      if (!sessions_.alive(id)) continue;  // it closed itself meanwhile
      env_.log.warning("session expired", {{"session", id.value}});
      if (!co_await endSession(id, true)) break;  // the log is closed
    }
    last = env_.reactor.now();  // what the commands took was no pause
  }
}

// Those that were silent for too long: for much less when others wait for them.
std::vector<SessionId> Server::toExpire() {
  const TimePoint now = env_.reactor.now();
  auto out = sessions_.expired(now);
  const Duration silence = options_.clientLease + options_.clientLease / 4;
  auto add = [&out](const std::vector<SessionId>& more) {
    for (SessionId id : more)
      if (std::find(out.begin(), out.end(), id) == out.end()) out.push_back(id);
  };
  add(leases_.overdue(now, silence, options_.recallTimeout, osds_.writableSince()));
  add(locks_.overdue(now, silence));
  return out;
}

Task<void> Server::watchSpace() {
  constexpr Duration kInterval = 1s;
  do co_await space_.look();
  while (!co_await stopped_.waitFor(kInterval));
}

Task<void> Server::checkpoints() {
  auto ended = co_await checkpointer_->run();
  if (!ended && !stopped_.isSet()) proposer_.onFatal(ended.error());
}

void Server::addGauges() {
  // The registry outlives this server, and may be asked after its end.
  auto add = [this](const char* name, const char* help, double (*sample)(const Server&)) {
    env_.metrics.gauge(name, help, [this, sample, alive = std::weak_ptr<bool>(alive_)] {
      return alive.expired() ? 0 : sample(*this);
    });
  };
  using S = const Server&;
  add("mds_sessions", "Clients that have this filesystem mounted",
      [](S s) { return static_cast<double>(s.sessions_.size()); });
  add("mds_open_files", "Inodes that clients have open",
      [](S s) { return static_cast<double>(s.sessions_.opens().size()); });
  add("mds_leases", "Leases that clients hold",
      [](S s) { return static_cast<double>(s.leases_.table().size()); });
  for (double q : {0.5, 0.95, 0.99}) {
    env_.metrics.gauge(
        "mds_recall_seconds", "From a recall to its answer, since the start",
        [this, q, alive = std::weak_ptr<bool>(alive_)] {
          return alive.expired() ? 0 : leases_.answers().quantileSeconds(q);
        },
        metricLabel("quantile", q == 0.5    ? "0.5"
                                : q == 0.95 ? "0.95"
                                            : "0.99"));
  }
  add("mds_locks", "File locks that are held, in pieces",
      [](S s) { return static_cast<double>(s.locks_.table().size()); });
  add("mds_lock_waits", "Requests that wait for a file lock",
      [](S s) { return static_cast<double>(s.locks_.table().waiting()); });
  add("mds_claims", "Requests that lay claim to an inode, times inodes",
      [](S s) { return static_cast<double>(s.leases_.claims().size()); });
  add("mds_osds_up", "OSDs that serve", [](S s) { return static_cast<double>(s.osds_.upCount()); });
  add("mds_map_epoch", "Epoch of the cluster map",
      [](S s) { return static_cast<double>(s.state_.map().epoch.value); });
  add("mds_inodes", "Inodes", [](S s) { return static_cast<double>(s.state_.counts().inodes); });
  add("mds_chunks", "Chunks of files",
      [](S s) { return static_cast<double>(s.state_.counts().chunks); });
  add("mds_garbage_chunks", "Deleted chunks whose space was not given back yet",
      [](S s) { return static_cast<double>(s.state_.counts().garbage); });
  add("mds_log_fullness", "Part of the command log in use, 0 to 1",
      [](S s) { return s.log_->fullness(); });
  add("mds_log_commands", "Commands applied since the cluster was made",
      [](S s) { return static_cast<double>(s.state_.applied().value); });
}

OutMessage answerOf(const std::string& reply) {
  OutMessage out;
  if (reply.empty()) {
    out.body<schema::MdsReply>().setNone();
    return out;
  }
  FlatReader reader({reinterpret_cast<const uint8_t*>(reply.data()), reply.size()});
  out.header().getBody().setAs<schema::MdsReply>(reader.root<schema::MdsReply>());
  return out;
}

}  // namespace cairn::mds
