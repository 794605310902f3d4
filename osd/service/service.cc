#include "osd/service/service.h"

#include <algorithm>

#include "osd/service/request_checks.h"

namespace cairn::osd {

namespace {

constexpr size_t kMaxRemoved = 4096;
constexpr Duration kDrain = 1s;

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
      peers_(env, map, store.cluster()),
      replicator_(env, options.replicator, store, chunks_, map, source, peers_, probe_,
                  std::move(onStoreError)),
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
      {"osd_owed_blocks", "Blocks that a replica may hold differently after a failed write.",
       [this] { return static_cast<double>(chunks_.owedBlocks()); }},
      {"osd_replicas_away", "Other OSDs that do not answer.",
       [this] { return static_cast<double>(peers_.suspects().size()); }},
  };
}

void Service::start() {
  scope_.spawn(replicator_.run());
}

Task<void> Service::close() {
  closed_ = true;
  replicator_.stop();
  if (running_ != 0) co_await quiet_.waitFor(kDrain);
  co_await peers_.close();
  co_await scope_.join();
}

Identity Service::identity() {
  return {schema::Hello::Role::OSD, store_.cluster(), map_.self().value};
}

OutMessage Service::reply(const Target& target) const {
  OutMessage m;
  auto body = m.body<schema::OsdReply>();
  if (map_.map())
    if (auto group = map_.map()->group(target.pool, target.pg))
      body.setPgEpoch((*group)->epoch.value);
  return m;
}

Result<Service::Admission> Service::take(size_t bytes) {
  if (ops_ >= options_.maxOps || (bytes_ != 0 && bytes_ + bytes > options_.maxBytes)) {
    ++probe_.refusedBusy;
    return fail(Errc::kBusyTryLater, "osd." + std::to_string(map_.self().value) +
                                         ": too many requests at once; try again");
  }
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

Result<Placement> Service::recheck(const Context& ctx, Need need, ChunkId chunk) {
  if (closed_) return fail(Errc::kUnavailable, "the OSD is stopping; try again");
  if (env_.reactor.now() >= ctx.deadline)
    return fail(Errc::kTimeout, "the request waited longer than its sender");
  TRY(checkFence(ctx));
  auto at = map_.check(ctx.target, need);
  if (!at && at.error().code == Errc::kStaleEpoch) ++probe_.refusedStale;
  TRY(at);
  TRY(MapState::checkChunk(*at, ctx.target, chunk));
  return at;
}

Task<Result<Placement>> Service::admit(const Context& ctx, Need need, ChunkId chunk) {
  const MapEpoch wanted = std::max(ctx.target.epoch, ctx.mapEpoch);
  if (map_.leased() && wanted > map_.epoch()) {
    (void)co_await source_.refresh(wanted);
    if (wanted > map_.epoch())
      co_return fail(Errc::kUnavailable,
                     "map epoch " + std::to_string(wanted.value) + " has not reached osd." +
                         std::to_string(map_.self().value) + " yet, which is at " +
                         std::to_string(map_.epoch().value) + "; try again");
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
      auto c = body.getClone();
      auto admission = take(0);
      CO_TRY(admission);
      CO_TRY(checkClone(c));
      co_return co_await timed(probe_.clone, clock, clone(ctx, ChunkId{c.getTarget()}, cloneOf(c)));
    }
    case schema::OsdRequest::EXTENTS: {
      auto e = body.getExtents();
      auto admission = take(0);
      CO_TRY(admission);
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
      auto list = body.getRemove().getChunks();
      if (list.size() > kMaxRemoved)
        co_return fail(Errc::kInvalid, "more than " + std::to_string(kMaxRemoved) + " chunks");
      std::vector<ChunkId> chunks;
      chunks.reserve(list.size());
      for (uint64_t id : list) chunks.emplace_back(id);
      co_return co_await timed(probe_.remove, clock,
                               remove({ctx.target.pool, ctx.target.pg}, std::move(chunks)));
    }
    case schema::OsdRequest::LIST: {
      OpTimer timer(probe_.list, clock);
      auto l = body.getList();
      auto result = list(ChunkId{l.getAfter()}, l.getLimit());
      timer.done(result);
      co_return result;
    }
    case schema::OsdRequest::PING: {
      OpTimer timer(probe_.ping, clock);
      auto result = ping();
      timer.done(result);
      co_return result;
    }
    case schema::OsdRequest::CHANGES:
    case schema::OsdRequest::DIGEST:
    case schema::OsdRequest::FETCH:
      break;
  }
  co_return fail(Errc::kNotSupported, "an operation that this release does not know");
}

}  // namespace cairn::osd
