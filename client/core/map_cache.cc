#include "client/core/map_cache.h"

#include <algorithm>

#include "client/core/decode.h"

namespace cairn::client {

namespace {
constexpr Duration kLongestBeat = 5s;
constexpr Duration kShortestBeat = 100ms;
}  // namespace

MapCache::MapCache(Env& env, Session& session, Event& stop, TaskScope& scope,
                   std::function<void(const ClusterMap&)> onChanged)
    : session_(session),
      stop_(stop),
      scope_(scope),
      onChanged_(std::move(onChanged)),
      map_(std::make_shared<ClusterMap>()),
      fetching_(env.reactor),
      news_(env.reactor) {}

Result<void> MapCache::take(const InMessage& reply, bool keepalive) {
  auto news = decode(reply, [&](const InMessage& m) -> Result<std::shared_ptr<const ClusterMap>> {
    auto body = m.body<schema::MdsReply>();
    if (keepalive ? !body.isKeepalive() : !body.isMap())
      return fail(Errc::kBadMessage, "not a map");
    auto answer = keepalive ? body.getKeepalive() : body.getMap();
    if (answer.getLeaseMs() != 0) lease_ = answer.getLeaseMs() * Duration(1ms);
    nearlyFull_.clear();
    for (uint32_t pool : answer.getNearlyFull()) nearlyFull_.insert(PoolId{pool});
    if (!answer.hasMap()) return std::shared_ptr<const ClusterMap>();
    return std::make_shared<const ClusterMap>(ClusterMap::read(answer.getMap()));
  });
  TRY(news);
  if (!*news || (*news)->epoch <= map_->epoch) return {};
  map_ = std::move(*news);
  onChanged_(*map_);
  news_.fire();
  return {};
}

Task<Result<void>> MapCache::refresh() {
  uint64_t before = fetches_;
  auto lock = co_await fetching_.lock();
  // A fetch that began after this call has ended meanwhile: two were in the queue before us at
  // most.
  if (fetches_ >= before + 2) co_return Result<void>{};
  auto reply = co_await session_.query(
      [this](schema::MdsRequest::Builder request) { request.setMap(map_->epoch.value); });
  ++fetches_;
  CO_TRY(reply);
  co_return take(*reply, false);
}

Task<void> MapCache::fetchQuietly() {
  (void)co_await refresh();  // the next answer or push brings the news again
  poked_ = false;
}

void MapCache::poke() {
  if (poked_ || stop_.isSet()) return;
  poked_ = true;
  scope_.spawn(fetchQuietly());
}

void MapCache::announced(MapEpoch epoch) {
  if (epoch > map_->epoch) poke();
}

Task<void> MapCache::keepAlive() {
  while (true) {
    Duration beat = lease_ == Duration::zero()
                        ? kShortestBeat
                        : std::clamp<Duration>(lease_ / 4, kShortestBeat, kLongestBeat);
    if (co_await stop_.waitFor(beat)) co_return;
    auto reply = co_await session_.query([this](schema::MdsRequest::Builder request) {
      request.initKeepalive().setMapEpoch(map_->epoch.value);
    });
    if (reply) (void)take(*reply, true);  // an unreadable one is as good as none
  }
}

}  // namespace cairn::client
