#include "osd/service/service.h"

#include <algorithm>

#include "osd/service/erasure/shard_ids.h"
#include "osd/service/request_checks.h"

namespace cairn::osd {

namespace {

constexpr Duration kDrain = 1s;
constexpr Duration kActivation = 1s;

}  // namespace

// Counts a client's request in the limits while it lives.
struct Service::Admission {
  Admission(Service& s, size_t b) : service(&s), bytes(b) {
    ++service->ops_;
    service->bytes_ += bytes;
  }
  Admission(Admission&& o) noexcept : service(std::exchange(o.service, nullptr)), bytes(o.bytes) {}
  Admission& operator=(Admission&&) = delete;
  ~Admission() {
    if (service == nullptr) return;
    --service->ops_;
    service->bytes_ -= bytes;
  }
  Service* service;
  size_t bytes;
};

Service::Service(Env& env, ServiceOptions options, Store& store, MapState& map, MapSource& source,
                 std::function<void(const Error&)> onStoreError)
    : env_(env),
      options_(options),
      store_(store),
      map_(map),
      source_(source),
      probe_(env.metrics),
      chunks_(env.reactor),
      groups_(env.reactor, map,
              [this](GroupRef group) { scope_.spawn(peering_.activate(std::move(group))); }),
      peers_(env, map, store.cluster()),
      throttle_(env.reactor),
      members_(env, options.memberTimeout, groups_, peers_, probe_),
      membership_(env, map, groups_, source),
      healer_(env, store, groups_, members_, probe_, onStoreError),
      equalizer_(env.buffers, store, chunks_, map, members_, healer_),
      replicator_(env, store, map, groups_, source, members_, membership_, equalizer_,
                  onStoreError),
      shards_(env, store, map, groups_, members_),
      stripes_(env, groups_, map, membership_, replicator_, shards_),
      resolver_(env, store, map, groups_, members_, replicator_),
      rebuilder_(env, store, chunks_, map, groups_, members_, equalizer_, replicator_, shards_,
                 probe_),
      peering_(env, store, map, groups_, source, members_, membership_, equalizer_, replicator_,
               resolver_, std::move(onStoreError)),
      recovery_(env, store, chunks_, map, groups_, members_, peers_, membership_, equalizer_,
                replicator_, rebuilder_, resolver_, stripes_, throttle_),
      scrubber_(env, options.scrub, store, map, groups_, members_, equalizer_, rebuilder_,
                throttle_, probe_),
      quiet_(env.reactor),
      scope_(env.reactor) {
  for (auto& [name, help, sample] : gauges()) env_.metrics.gauge(name, help, std::move(sample));
}

Service::~Service() {
  // The registry may be read after us.
  for (auto& [name, help, sample] : gauges()) env_.metrics.gauge(name, help, [] { return 0.0; });
}

std::vector<Service::Gauge> Service::gauges() {
  return {
      {"osd_bytes_capacity", "Room for data in the store.",
       [this] { return static_cast<double>(store_.space().totalBytes); }},
      {"osd_bytes_used", "Data in the store.",
       [this] { return static_cast<double>(store_.space().usedBytes); }},
      {"osd_chunks", "Chunks in the store.",
       [this] { return static_cast<double>(store_.space().chunks); }},
      {"osd_map_epoch", "Epoch of the cluster map in use.",
       [this] { return static_cast<double>(map_.epoch().value); }},
      {"osd_lease_seconds", "What is left of the lease on the map; 0: nothing is served.",
       [this] { return std::chrono::duration<double>(map_.leaseLeft()).count(); }},
      {"osd_ops_in_flight", "Client requests being served.",
       [this] { return static_cast<double>(ops_); }},
      {"osd_bytes_in_flight", "Data of client requests being served.",
       [this] { return static_cast<double>(bytes_); }},
      {"osd_groups_led", "Placement groups whose primary this is.",
       [this] { return static_cast<double>(groups_.all().size()); }},
      {"osd_groups_active", "Of them, those that are served.",
       [this] {
         return static_cast<double>(
             std::ranges::count_if(groups_.all(), [](auto& g) { return g.second->active; }));
       }},
      {"osd_recovery_chunks", "Chunks that members which are joining may still lack.",
       [this] { return static_cast<double>(recovery_.progress().chunksLeft); }},
      {"osd_scrub_groups_left", "Groups whose scrub is due.",
       [this] { return static_cast<double>(scrubber_.progress().groupsLeft); }},
      {"osd_scrub_unrepairable", "Chunks with blocks of which no member has a good copy.",
       [this] { return static_cast<double>(scrubber_.damaged().size()); }},
      {"osd_peers_away", "Other OSDs that do not answer.",
       [this] { return static_cast<double>(peers_.suspects().size()); }},
  };
}

void Service::start() {
  map_.onChange([this] { mapChanged(); });
  scope_.spawn(membership_.run());
  scope_.spawn(recovery_.run());
  scope_.spawn(scrubber_.run());
  mapChanged();
}

void Service::mapChanged() {
  if (closed_) return;
  peers_.follow();
  groups_.follow();
  recovery_.wake();
}

Task<void> Service::close() {
  closed_ = true;
  map_.onChange({});
  groups_.close();
  membership_.stop();
  recovery_.stop();
  scrubber_.stop();
  if (running_ != 0) co_await quiet_.waitFor(kDrain);
  co_await peers_.close();
  co_await stripes_.close();
  co_await scope_.join();
}

Identity Service::identity() {
  return {schema::Hello::Role::OSD, store_.cluster(), map_.self().value};
}

OutMessage Service::reply(const Target& target) const {
  OutMessage m;
  auto body = m.body<schema::OsdReply>();
  body.setNearlyFull(store_.space().nearlyFull);
  auto group = map_.map() ? map_.map()->group(target.pool, target.pg) : fail(Errc::kNotFound);
  if (!group) return m;
  body.setPgEpoch((*group)->epoch.value);
  // Others ask their own peers: what one has heard of us comes from us.
  const auto& members = (*group)->osds;
  if (!members.empty() && members.front() == map_.self() &&
      std::ranges::any_of(members, [this](OsdId id) { return peers_.isNearlyFull(id); }))
    body.setNearlyFull(true);
  return m;
}

Result<Service::Admission> Service::take(size_t bytes) {
  if (ops_ >= options_.maxOps || (bytes_ != 0 && bytes_ + bytes > options_.maxBytes)) {
    ++probe_.refusedBusy;
    return fail(Errc::kBusyTryLater, "osd." + std::to_string(map_.self().value) +
                                         ": too many requests at once; try again");
  }
  throttle_.noteClient();
  return Admission(*this, bytes);
}

Result<void> Service::checkFence(const Context& ctx) {
  if (!map_.map() || !map_.map()->fenced(ctx.session)) return {};
  ++probe_.refusedFenced;
  return fail(Errc::kSessionExpired, "osd." + std::to_string(map_.self().value) + ": session " +
                                         std::to_string(ctx.session.value) +
                                         " expired and is fenced in map epoch " +
                                         std::to_string(map_.epoch().value));
}

Result<Service::Served> Service::recheck(const Context& ctx, Need need,
                                         std::optional<ChunkId> chunk) {
  if (closed_) return fail(Errc::kUnavailable, "the OSD is stopping; try again");
  if (env_.reactor.now() >= ctx.deadline)
    return fail(Errc::kTimeout, "the request waited longer than its sender");
  TRY(checkFence(ctx));
  auto at = map_.check(ctx.target, need);
  if (!at && at.error().code == Errc::kStaleEpoch) ++probe_.refusedStale;
  TRY(at);
  if (chunk) TRY(MapState::checkChunk(*at, ctx.target, unstaged(*chunk)));
  const GroupId id{ctx.target.pool, ctx.target.pg};
  if (recovery_.dropping(inStore(id, at->group->shardOf(map_.self()))))
    return fail(Errc::kBusyTryLater, "what was left of the group here is being removed; try again");
  Served served{std::move(*at), need == Need::kPrimary ? groups_.find(id) : nullptr};
  if (need == Need::kPrimary && (!served.group || !served.group->committable))
    return fail(Errc::kUnavailable,
                "osd." + std::to_string(map_.self().value) + ": group " +
                    std::to_string(id.pool.value) + "." + std::to_string(id.pg.value) +
                    " is not ready: its members are being made equal, or are too few; try again");
  return served;
}

Task<Result<Service::Served>> Service::admit(const Context& ctx, Need need,
                                             std::optional<ChunkId> chunk) {
  const MapEpoch wanted = std::max(ctx.target.epoch, ctx.mapEpoch);
  if (map_.leased() && wanted > map_.epoch()) {
    (void)co_await source_.refresh(wanted);
    if (wanted > map_.epoch())
      co_return fail(Errc::kUnavailable,
                     "map epoch " + std::to_string(wanted.value) + " has not reached osd." +
                         std::to_string(map_.self().value) + " yet, which is at " +
                         std::to_string(map_.epoch().value) + "; try again");
  }
  if (need == Need::kPrimary) {
    const TimePoint until = std::min(ctx.deadline, env_.reactor.now() + kActivation);
    const GroupId id{ctx.target.pool, ctx.target.pg};
    while (env_.reactor.now() < until) {
      GroupRef group = groups_.find(id);
      if (!group || group->committable || !map_.check(ctx.target, need)) break;
      (void)co_await group->changed.event().waitFor(until - env_.reactor.now());
    }
  }
  co_return recheck(ctx, need, chunk);
}

Task<Result<OutMessage>> Service::handle(const InMessage& request, RpcPeer& peer) {
  if (closed_) co_return fail(Errc::kUnavailable, "the OSD is stopping; try again");
  struct Running {  // also when a malformed message throws
    Service& service;
    explicit Running(Service& s) : service(s) { ++service.running_; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      if (--service.running_ == 0 && service.closed_) service.quiet_.set();
    }
  } running(*this);
  co_return co_await dispatch(request, peer);
}

namespace {

// Counts the operation and passes its result on.
Task<Result<OutMessage>> timed(OpMetrics& op, Clock& clock, Task<Result<OutMessage>> task) {
  OpTimer timer(op, clock);
  auto result = co_await std::move(task);
  timer.done(result);
  co_return result;
}

}  // namespace

Task<Result<OutMessage>> Service::dispatch(const InMessage& request, RpcPeer& peer) {
  Clock& clock = env_.reactor.clock();
  auto body = request.body<schema::OsdRequest>();
  const uint32_t limitMs = request.header().getDeadlineMs();
  const Context ctx{
      {PoolId{body.getPool()}, PgIndex{body.getPg()}, MapEpoch{body.getPgEpoch()}},
      limitMs == 0 ? TimePoint::max() : clock.now() + std::chrono::milliseconds(limitMs),
      SessionId{body.getSession()},
      MapEpoch{body.getMapEpoch()}};
  switch (body.which()) {
    case schema::OsdRequest::READ: {
      auto r = body.getRead();
      auto admission = take(std::min<size_t>(r.getLength(), kMaxIoBytes));
      CO_TRY(admission);
      co_return co_await timed(probe_.read, clock,
                               read(ctx, ChunkId{r.getChunk()}, r.getOffset(), r.getLength()));
    }
    case schema::OsdRequest::WRITE: {
      auto w = body.getWrite();
      auto admission = take(request.payload().size());
      CO_TRY(admission);
      co_return co_await timed(probe_.write, clock,
                               write(ctx, ChunkId{w.getChunk()}, w.getOffset(), w.getLength(),
                                     request.payload(), asBytes(w.getCrcs())));
    }
    case schema::OsdRequest::ZERO: {
      auto z = body.getZero();
      auto admission = take(0);
      CO_TRY(admission);
      co_return co_await timed(probe_.zero, clock,
                               zero(ctx, ChunkId{z.getChunk()}, z.getOffset(), z.getLength()));
    }
    case schema::OsdRequest::ALLOCATE: {
      auto z = body.getAllocate();
      auto admission = take(0);
      CO_TRY(admission);
      co_return co_await timed(probe_.allocate, clock,
                               allocate(ctx, ChunkId{z.getChunk()}, z.getOffset(), z.getLength()));
    }
    case schema::OsdRequest::CLONE: {
      auto admission = take(0);
      CO_TRY(admission);
      CO_TRY(checkClone(body.getClone()));
      co_return co_await timed(probe_.clone, clock, clone(ctx, cloneOf(body.getClone())));
    }
    case schema::OsdRequest::EXTENTS: {
      auto e = body.getExtents();
      auto admission = take(0);
      CO_TRY(admission);
      if (peer.identity().role == schema::Hello::Role::OSD)
        co_return co_await timed(
            probe_.extents, clock,
            shardExtents(ctx, ChunkId{e.getChunk()}, e.getOffset(), peer.identity()));
      co_return co_await timed(probe_.extents, clock,
                               extents(ctx, ChunkId{e.getChunk()}, e.getOffset()));
    }
    case schema::OsdRequest::STAT:
      co_return co_await timed(probe_.stat, clock, stat(ctx, ChunkId{body.getStat().getChunk()}));
    case schema::OsdRequest::REPLICATE:
      co_return co_await timed(
          probe_.replicate, clock,
          replicate(ctx, body.getReplicate(), request.payload(), peer.identity()));
    case schema::OsdRequest::REMOVE: {
      if (peer.identity().role != schema::Hello::Role::MDS)
        co_return fail(Errc::kPermission, "only the MDS removes chunks");
      auto chunks = chunksOf(body.getRemove());
      CO_TRY(chunks);
      co_return co_await timed(probe_.remove, clock, remove(ctx, std::move(*chunks)));
    }
    case schema::OsdRequest::CHANGES: {
      auto c = body.getChanges();
      co_return co_await timed(
          probe_.changes, clock,
          changes(ctx, {ChunkVersion{c.getAfter()}, ChunkId{c.getAfterChunk()}, false},
                  c.getLimit(), peer.identity()));
    }
    case schema::OsdRequest::DIGEST: {
      auto d = body.getDigest();
      co_return co_await timed(
          probe_.digest, clock,
          digest(ctx, ChunkId{d.getChunk()}, d.getOffset(), d.getLength(), peer.identity()));
    }
    case schema::OsdRequest::FETCH: {
      auto f = body.getFetch();
      co_return co_await timed(
          probe_.fetch, clock,
          fetch(ctx, ChunkId{f.getChunk()}, f.getOffset(), f.getLength(), peer.identity()));
    }
    case schema::OsdRequest::STAGED:
      co_return co_await timed(
          probe_.staged, clock,
          stagedOps(ctx, ChunkId{body.getStaged().getChunk()}, peer.identity()));
    case schema::OsdRequest::LIST: {
      OpTimer timer(probe_.list, clock);
      auto result = list(body.getList());
      timer.done(result);
      co_return result;
    }
    case schema::OsdRequest::DAMAGED:
      co_return damaged(body.getDamaged());
    case schema::OsdRequest::SCRUB: {
      if (peer.identity().role != schema::Hello::Role::ADMIN)
        co_return fail(Errc::kPermission, "scrubs are asked for by administrators");
      CO_TRY(scrubber_.request(body.getScrub().getDeep()));
      OutMessage out;
      out.body<schema::OsdReply>().setNone();
      co_return out;
    }
    case schema::OsdRequest::PING: {
      OpTimer timer(probe_.ping, clock);
      auto result = ping();
      timer.done(result);
      co_return result;
    }
  }
  co_return fail(Errc::kNotSupported, "an operation that this release does not know");
}

}  // namespace cairn::osd
