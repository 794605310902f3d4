#include "osd/service/mds_link.h"

#include <algorithm>

#include "common/logging/log.h"
#include "common/schema/mds.capnp.h"

namespace cairn::osd {

namespace {

// Trying again does not help.
bool hopeless(const Error& error) {
  return error.code == Errc::kWrongCluster || error.code == Errc::kVersion;
}

RpcClient::Options clientOptions(Endpoint to, Uuid cluster, OsdId self) {
  RpcClient::Options options;
  options.to = std::move(to);
  options.self = {schema::Hello::Role::OSD, cluster, self.value};
  options.connectTimeout = 1s;
  options.silenceTimeout = 2s;
  return options;
}

}  // namespace

MdsLink::MdsLink(Env& env, MdsLinkOptions options, Store& store, MapState& map)
    : env_(env),
      options_(std::move(options)),
      store_(store),
      map_(map),
      interval_(options_.retryEvery),
      beating_(env.reactor),
      wake_(env.reactor) {
  for (const Endpoint& to : options_.mds) {
    auto client = clientOptions(to, store_.cluster(), store_.osdId());
    client.onPush = [this](const InMessage& m) {
      if (m.body<schema::MdsPush>().isMapChanged() &&
          m.body<schema::MdsPush>().getMapChanged() > map_.epoch().value)
        poke();
    };
    clients_.push_back(std::make_unique<RpcClient>(env_, std::move(client)));
  }
  if (store_.osdId()) map_.setSelf(store_.osdId());
}

Task<Result<InMessage>> MdsLink::call(OutMessage message) {
  RpcClient& client = *clients_[current_];
  auto answer = co_await client.call(std::move(message), options_.callTimeout);
  if (answer) co_return answer;
  Error error = answer.error();
  if (error.code == Errc::kTimeout) client.disconnect();
  if (error.retryable()) current_ = (current_ + 1) % clients_.size();
  error.message = "MDS " + client.endpoint().text() + ": " + error.message;
  co_return fail(std::move(error));
}

Task<Result<void>> MdsLink::enroll() {
  OutMessage m;
  auto r = m.body<schema::MdsRequest>().initMutate().initOsdRegister();
  r.initUuid().setHi(store_.uuid().hi);
  r.getUuid().setLo(store_.uuid().lo);
  r.setAddr(addr_);
  r.setHost(options_.host);
  r.setRack(options_.rack);
  r.setDeviceClass(options_.deviceClass);
  r.setBytesTotal(store_.space().totalBytes);
  r.setBytesUsed(store_.space().usedBytes);
  r.setPid(options_.pid);
  r.setIncarnation(options_.incarnation);
  auto answer = co_await call(std::move(m));
  CO_TRY(answer);
  auto reply = answer->body<schema::MdsReply>();
  if (!reply.isId() || reply.getId() == 0 || reply.getId() > UINT32_MAX)
    co_return fail(Errc::kBadMessage, "the MDS gave no OSD id");
  OsdId id{static_cast<uint32_t>(reply.getId())};
  if (store_.osdId() && store_.osdId() != id)
    co_return fail(Errc::kWrongCluster,
                   "this store is osd." + std::to_string(store_.osdId().value) +
                       " but the MDS calls it osd." + std::to_string(id.value) +
                       ": the MDS lost its data or was replaced; restore it");
  if (!store_.osdId()) CO_TRY(co_await store_.recordOsdId(id));
  map_.setSelf(id);
  for (auto& c : clients_) c->setIdentity({schema::Hello::Role::OSD, store_.cluster(), id.value});
  env_.log.info("registered", {{"osd", id.value}, {"addr", addr_}});
  enrolled_ = true;
  co_return Result<void>{};
}

Task<Result<void>> MdsLink::beat() {
  OutMessage m;
  auto h = m.body<schema::MdsRequest>().initHeartbeat();
  h.setOsd(map_.self().value);
  h.setIncarnation(options_.incarnation);
  h.setMapEpoch(map_.epoch().value);
  h.setBytesUsed(store_.space().usedBytes);
  h.setBytesTotal(store_.space().totalBytes);
  h.setNearlyFull(store_.space().nearlyFull);
  if (recovery_) {
    const RecoveryProgress now = recovery_();
    auto r = h.initRecovery();
    r.setChunksLeft(now.chunksLeft);
    r.setBytesLeft(now.bytesLeft);
    r.setBytesDone(now.bytesDone);
  }
  if (scrub_) {
    const ScrubProgress now = scrub_();
    auto s = h.initScrub();
    s.setGroupsLeft(now.groupsLeft);
    s.setErrorsFound(now.errorsFound);
    s.setErrorsRepaired(now.errorsRepaired);
    s.setUnrepairable(now.unrepairable);
    s.setOldestNs(now.oldestNs);
  }
  const TimePoint sentAt = env_.reactor.now();  // the lease counts from here
  auto answer = co_await call(std::move(m));
  if (!answer) {
    // Not a matter of the connection: this MDS does not know us (any more) under this incarnation.
    if (!answer.error().retryable() && answer.error().code != Errc::kCanceled) enrolled_ = false;
    co_return fail(answer.error());
  }
  auto reply = answer->body<schema::MdsReply>();
  if (!reply.isHeartbeat()) co_return fail(Errc::kBadMessage, "not an answer to a heartbeat");
  auto news = reply.getHeartbeat();
  if (news.hasMap()) {
    ClusterMap map = ClusterMap::read(news.getMap());
    if (map.cluster != store_.cluster())
      co_return fail(Errc::kWrongCluster, "the MDS sent the map of cluster " + map.cluster.text() +
                                              ", the store belongs to " + store_.cluster().text());
    const uint64_t epoch = map.epoch.value;
    if (map.epoch > map_.epoch()) env_.log.info("map changed", {{"epoch", epoch}});
    map_.adopt(std::move(map));
  }
  if (MapEpoch{news.getEpoch()} != map_.epoch())
    co_return fail(Errc::kBadMessage, "the MDS is at map epoch " + std::to_string(news.getEpoch()) +
                                          ", we at " + std::to_string(map_.epoch().value));
  const Duration lease = std::chrono::milliseconds(news.getLeaseMs());
  map_.renew(map_.epoch(), sentAt, lease, MapEpoch{news.getAdopted()});
  interval_ = std::clamp<Duration>(lease / 5, 20ms, 1s);
  if (map_.leased() && !std::exchange(joined_, true) && options_.onJoined) options_.onJoined();
  co_return Result<void>{};
}

Task<Result<void>> MdsLink::step() {
  ++steps_;
  noteFitness(options_.fit());
  CO_TRY(fit_);
  // A message from the network may be malformed anywhere; its accessors say so by throwing.
  Result<void> result = fail(Errc::kBadMessage, "the MDS's answer is not readable");
  try {
    if (!enrolled_) CO_TRY(co_await enroll());
    result = co_await beat();
  } catch (const kj::Exception&) {  // `result` says it
  }
  co_return result;
}

void MdsLink::noteFitness(const Result<void>& fit) {
  if (!fit && fit_)
    env_.log.warning("no heartbeats, so that others take over", {{"reason", fit.error().message}});
  if (fit && !fit_) env_.log.info("heartbeats again");
  fit_ = fit;
}

void MdsLink::note(const Result<void>& outcome) {
  if (!fit_) return;  // it was not asked
  if (!outcome && outcome_) env_.log.warning("MDS is away", {{"reason", outcome.error().message}});
  if (outcome && !outcome_) env_.log.info("MDS is back");
  outcome_ = outcome;
}

Task<Result<void>> MdsLink::run() {
  while (!closed_) {
    Result<void> outcome;
    {
      auto guard = co_await beating_.lock();
      if (closed_) break;
      outcome = co_await step();
    }
    if (closed_) break;
    note(outcome);
    if (!outcome && hopeless(outcome.error())) co_return outcome;
    // A push says that there is a newer map.
    if (!std::exchange(poked_, false))
      co_await wake_.waitFor(outcome ? interval_ : options_.retryEvery);
    wake_.reset();
    if (closed_) break;
  }
  co_return Result<void>{};
}

Task<Result<void>> MdsLink::refresh(MapEpoch atLeast) {
  // However many ask for however wild an epoch: one attempt at a time, and whoever waited while one
  // was begun takes its outcome, a failure too.
  if (closed_) co_return fail(Errc::kCanceled, "closing");
  const uint64_t before = steps_;
  auto guard = co_await beating_.lock();
  if (closed_) co_return fail(Errc::kCanceled, "closing");
  if (map_.epoch() >= atLeast || steps_ > before) co_return Result<void>{};
  co_return co_await step();
}

void MdsLink::poke() {
  poked_ = true;
  wake_.set();
}

Task<Result<void>> MdsLink::report(std::vector<GroupReport> changes) {
  if (closed_) co_return fail(Errc::kCanceled, "closing");
  OutMessage m;
  auto list = m.body<schema::MdsRequest>().initMutate().initGroupReport(
      static_cast<uint32_t>(changes.size()));
  for (uint32_t i = 0; i < changes.size(); ++i) {
    list[i].setPool(changes[i].group.pool.value);
    list[i].setPg(changes[i].group.pg.value);
    list[i].setEpoch(changes[i].epoch.value);
    list[i].setMember(changes[i].member.value);
    list[i].setKind(changes[i].synced ? schema::GroupChange::Kind::SYNCED
                                      : schema::GroupChange::Kind::FAILED);
  }
  auto answer = co_await call(std::move(m));
  CO_TRY(answer);
  co_return co_await refresh(MapEpoch{map_.epoch().value + 1});
}

Task<void> MdsLink::close() {
  closed_ = true;
  poke();
  for (auto& c : clients_) co_await c->close();
  auto guard = co_await beating_.lock();  // whoever waited for it has seen closed_
}

Task<Result<Uuid>> askCluster(Env& env, std::vector<Endpoint> mds, Duration patience, Event& stop) {
  const TimePoint deadline = env.reactor.now() + patience;
  for (size_t i = 0;; i = (i + 1) % mds.size()) {
    RpcClient client(env, clientOptions(mds[i], {}, {}));
    OutMessage m;
    m.body<schema::MdsRequest>().setMap(UINT64_MAX);
    // Whatever it answers, it said hello, and that names the cluster.
    auto answer = co_await client.call(std::move(m), 2s);
    Uuid cluster = client.peerIdentity().cluster;
    const bool isMds = client.peerIdentity().role == schema::Hello::Role::MDS;
    co_await client.close();
    if (cluster && isMds) co_return cluster;
    Error error = answer ? Error(Errc::kUnavailable, "says nothing of a cluster") : answer.error();
    if (cluster) error = Error(Errc::kUnavailable, "that is not a metadata server");
    if (error.code == Errc::kVersion) co_return fail(error);
    if (co_await stop.waitFor(200ms)) co_return fail(Errc::kCanceled, "stopped");
    if (env.reactor.now() >= deadline)
      co_return fail(Errc::kUnavailable, mds[i].text() + ": no metadata server answers there (" +
                                             error.message + "); start it, or correct osd.mds");
  }
}

}  // namespace cairn::osd
