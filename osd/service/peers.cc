#include "osd/service/peers.h"

#include "common/logging/log.h"
#include "common/schema/osd.capnp.h"

namespace cairn::osd {

namespace {
constexpr Duration kBelieved = 5s;  // of a peer that has little room; the MDS knows it by then, too
}  // namespace

Peers::Peers(Env& env, const MapState& map, Uuid cluster)
    : env_(env), map_(map), cluster_(cluster), scope_(env.reactor) {}

Task<Result<void>> Peers::verifyPeer(RpcClient& client, OsdId expected) {
  // Ports are reused: after a restart somebody else may listen where the map says.
  const Identity& peer = client.peerIdentity();
  if (peer.role != schema::Hello::Role::OSD || peer.peer != expected.value)
    co_return fail(Errc::kUnavailable, client.endpoint().text() + ": not osd." +
                                           std::to_string(expected.value) + " any more");
  co_return Result<void>{};
}

Result<std::shared_ptr<RpcClient>> Peers::client(OsdId to) {
  if (closed_) return fail(Errc::kCanceled, "closing");
  const OsdEntry* entry = map_.map() ? map_.map()->osd(to) : nullptr;
  if (entry == nullptr)
    return fail(Errc::kUnavailable, "osd." + std::to_string(to.value) + ": not in the map");
  auto at = parseEndpoint(entry->addr);
  TRY(at);
  auto& slot = clients_[to];
  if (slot && slot->endpoint() == *at) return slot;
  if (slot) scope_.spawn(retire(std::move(slot)));
  RpcClient::Options options;
  options.to = *at;
  options.self = {schema::Hello::Role::OSD, cluster_, map_.self().value};
  options.connectTimeout = 1s;
  options.silenceTimeout = 2s;
  options.onConnect = [to](RpcClient& c) { return verifyPeer(c, to); };
  slot = std::make_shared<RpcClient>(env_, std::move(options));
  return slot;
}

Task<void> Peers::retire(std::shared_ptr<RpcClient> client) {
  co_await client->close();
}

Task<Result<InMessage>> Peers::attempt(OsdId to, OutMessage message, Duration timeout) {
  auto peer = client(to);
  CO_TRY(peer);
  std::shared_ptr<RpcClient> held = *peer;  // outlives the call even if it is retired meanwhile
  auto answer = co_await held->call(std::move(message), timeout);
  if (answer) co_return answer;
  const Error& error = answer.error();
  if (error.code == Errc::kTimeout) held->disconnect();
  if (error.code == Errc::kTimeout || error.code == Errc::kCanceled ||
      error.code == Errc::kBadMessage)
    co_return fail(Errc::kUnavailable, "osd." + std::to_string(to.value) + " at " +
                                           held->endpoint().text() + ": " + error.text());
  co_return answer;
}

void Peers::noteSpace(OsdId peer, bool nearlyFull) {
  if (nearlyFull)
    saidNearlyFull_[peer] = env_.reactor.now();
  else
    saidNearlyFull_.erase(peer);
}

bool Peers::isNearlyFull(OsdId peer) const {
  auto it = saidNearlyFull_.find(peer);
  return it != saidNearlyFull_.end() && env_.reactor.now() - it->second < kBelieved;
}

Task<Result<InMessage>> Peers::call(OsdId to, OutMessage message, Duration timeout) {
  auto answer = co_await attempt(to, std::move(message), timeout);
  const bool away = !answer && answer.error().code == Errc::kUnavailable;
  if (away && !closed_ && suspects_.insert(to).second)
    env_.log.warning("osd is away", {{"osd", to.value}, {"reason", answer.error().message}});
  if (!away && suspects_.erase(to) != 0) env_.log.info("osd answers again", {{"osd", to.value}});
  co_return answer;
}

void Peers::follow() {
  for (auto& [id, client] : clients_) {
    const OsdEntry* entry = map_.map() ? map_.map()->osd(id) : nullptr;
    if (client && (entry == nullptr || !entry->up)) client->disconnect();
  }
}

Task<bool> Peers::probe(OsdId peer, Duration timeout) {
  OutMessage ping;
  ping.body<schema::OsdRequest>().setPing();
  auto answer = co_await attempt(peer, std::move(ping), timeout);
  if (!answer || closed_) co_return false;
  if (suspects_.erase(peer) != 0) env_.log.info("osd answers again", {{"osd", peer.value}});
  co_return true;
}

Task<void> Peers::close() {
  closed_ = true;
  for (auto& [id, client] : clients_)
    if (client) scope_.spawn(retire(std::move(client)));
  clients_.clear();
  co_await scope_.join();
}

}  // namespace cairn::osd
