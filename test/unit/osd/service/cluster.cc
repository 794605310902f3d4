#include "test/unit/osd/service/cluster.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/schema/osd.capnp.h"

namespace cairn::osd::test {

namespace {
constexpr uint16_t kPort = 7800;

MdsLinkOptions linkOptions(sim::SimNode& node) {
  MdsLinkOptions o;
  o.mds = {Endpoint{"mds", 7700}};
  o.host = node.host();
  o.incarnation = node.id();
  return o;
}
ServiceOptions serviceOptions() {
  ServiceOptions o;
  o.scrub = {.light = 30min, .deep = 1h};
  return o;
}
}  // namespace

std::vector<uint8_t> bytesOf(size_t count, uint32_t seed) {
  std::vector<uint8_t> v(count);
  uint32_t x = seed * 2654435761u + 1;
  for (auto& b : v) b = static_cast<uint8_t>((x = x * 1664525 + 1013904223) >> 24);
  return v;
}

// ---- FakeMds ----

void FakeMds::writeNews(schema::MapReply::Builder out, MapEpoch known) const {
  out.setEpoch(map.epoch.value);
  out.setLeaseMs(static_cast<uint32_t>(lease / 1ms));
  out.setAdopted(adopted().value);
  if (known != map.epoch) map.write(out.initMap());
}

// What every OSD that is up has said to have.
MapEpoch FakeMds::adopted() const {
  MapEpoch least = map.epoch;
  for (const auto& [id, osd] : map.osds) {
    if (!osd.up) continue;
    auto told = told_.find(id);
    least = std::min(least, told == told_.end() ? MapEpoch{} : told->second);
  }
  return least;
}

void FakeMds::newEpoch() {
  ++map.epoch.value;
  if (target.empty()) return;  // a test without groups, or that moves nobody
  PlacementGroup& group = map.pools[kPool].pgs[0];
  const PlacementGroup before = group;
  auto isUp = [&](OsdId id) { return map.osds[id].up; };
  if (std::ranges::any_of(group.osds, isUp))
    std::erase_if(group.osds, [&](OsdId id) { return !isUp(id); });
  group.joining.clear();
  for (OsdId id : target)
    if (isUp(id) && std::ranges::count(group.osds, id) == 0) group.joining.push_back(id);
  const Pool& pool = map.pools[kPool];
  if (group.inSync() < pool.minSize) {
    // Who was down left when too few were there to go on, and has what they have.
    for (OsdId id : before.osds)
      if (std::ranges::count(group.osds, id) == 0) group.complete.push_back(id);
    if (pool.erasureCoded() && group.inSync() < pool.needed())
      for (OsdId id : group.complete)
        if (isUp(id) && std::ranges::count(group.osds, id) == 0) {
          group.osds.push_back(id);
          std::erase(group.joining, id);
        }
    std::erase_if(group.complete,
                  [&](OsdId id) { return std::ranges::count(group.osds, id) != 0; });
  } else {
    group.complete.clear();
  }
  const bool all = std::ranges::all_of(
      target, [&](OsdId id) { return std::ranges::count(group.osds, id) != 0; });
  if (all) group.osds = target;
  if (group.osds != before.osds || group.joining != before.joining) group.epoch = map.epoch;
}

void FakeMds::markDown(OsdId id) {
  map.osds[id].up = false;
  newEpoch();
}

void FakeMds::report(schema::GroupChange::Reader change) {
  PlacementGroup& group = map.pools[kPool].pgs[0];
  const OsdId member{change.getMember()};
  if (MapEpoch{change.getEpoch()} != group.epoch) return;
  if (change.getKind() == schema::GroupChange::Kind::FAILED) {
    PlacementGroup without = group;
    std::erase(without.osds, member);
    if (group.inSync() >= map.pools[kPool].needed()) std::erase(without.complete, member);
    if (without.inSync() < map.pools[kPool].needed()) return;
    group = std::move(without);
  } else if (std::ranges::count(group.joining, member) != 0) {
    group.osds.push_back(member);
  } else {
    return;
  }
  newEpoch();
  group.epoch = map.epoch;
}

Task<Result<OutMessage>> FakeMds::handle(const InMessage& request, RpcPeer&) {
  if (mute) co_return fail(Errc::kUnavailable, "mute");
  auto r = request.body<schema::MdsRequest>();
  OutMessage out;
  auto reply = out.body<schema::MdsReply>();
  switch (r.which()) {
    case schema::MdsRequest::HEARTBEAT: {
      ++heartbeats;
      auto h = r.getHeartbeat();
      auto known = map.osds.find(OsdId{h.getOsd()});
      if (known == map.osds.end() || known->second.incarnation != h.getIncarnation())
        co_return fail(Errc::kNotFound, "register first");
      if (mutedOsds[OsdId{h.getOsd()}]) co_return fail(Errc::kUnavailable, "muted");
      told_[OsdId{h.getOsd()}] = MapEpoch{h.getMapEpoch()};
      if (!known->second.up) {
        known->second.up = true;
        newEpoch();
      }
      writeNews(reply.initHeartbeat(), MapEpoch{h.getMapEpoch()});
      break;
    }
    case schema::MdsRequest::MUTATE: {
      if (r.getMutate().isGroupReport()) {
        ++reports;
        if (ignoreReports) co_return fail(Errc::kUnavailable, "ignored");
        for (auto change : r.getMutate().getGroupReport()) report(change);
        reply.setNone();
        break;
      }
      ++registrations;
      auto reg = r.getMutate().getOsdRegister();
      const Uuid uuid{reg.getUuid().getHi(), reg.getUuid().getLo()};
      OsdEntry* osd = nullptr;
      for (auto& [id, entry] : map.osds)
        if (entry.uuid == uuid) osd = &entry;
      if (osd == nullptr) {
        if (!admitNew) co_return fail(Errc::kInvalid, "not in this test");
        const OsdId id{static_cast<uint32_t>(map.osds.size() + 1)};
        osd = &map.osds[id];
        osd->id = id;
        osd->uuid = uuid;
      }
      osd->addr = reg.getAddr().cStr();
      osd->incarnation = reg.getIncarnation();
      osd->up = true;
      told_.erase(osd->id);
      newEpoch();
      reply.setId(osd->id.value);
      break;
    }
    case schema::MdsRequest::MAP:
      writeNews(reply.initMap(), MapEpoch{r.getMap()});
      break;
    default:
      co_return fail(Errc::kNotSupported, "not in this test");
  }
  co_return out;
}

// ---- TestOsd ----

TestOsd::TestOsd(sim::SimNode& n, std::shared_ptr<FakeDisk> d)
    : node(n),
      env(n.env()),
      disk(std::move(d)),
      store(env, disk),
      map(env.reactor.clock()),
      link(env, linkOptions(n), store, map),
      service(env, serviceOptions(), store, map, link,
              [this](const Error& e) { storeErrors.push_back(e); }),
      server(env, service),
      scope(env.reactor) {
  REQUIRE(server.start({n.host(), kPort}));
  link.setAddress(n.host() + ":" + std::to_string(kPort));
  service.start();
  scope.spawn([](MdsLink& l) -> Task<void> { (void)co_await l.run(); }(link));
}

Task<void> TestOsd::stop() {
  co_await service.close();
  co_await link.close();
  co_await server.close();
  co_await scope.join();
  stopped = true;
}

// ---- TestCluster ----

namespace {

Pool replicated(size_t count) {
  Pool pool;
  pool.replicas = static_cast<uint16_t>(count);
  pool.minSize = static_cast<uint16_t>(count - count / 2);
  return pool;
}

Pool striped(TestCluster::Stripes stripes) {
  Pool pool;
  pool.ecData = stripes.data;
  pool.ecParity = stripes.parity;
  pool.stripeUnit = stripes.unit * kB;
  pool.minSize = stripes.minSize != 0 ? stripes.minSize : stripes.data;
  return pool;
}

}  // namespace

TestCluster::TestCluster(size_t count, uint64_t seed) : TestCluster(replicated(count), seed) {}

TestCluster::TestCluster(Stripes stripes, uint64_t seed) : TestCluster(striped(stripes), seed) {}

TestCluster::TestCluster(Pool pool, uint64_t seed)
    : world(seed),
      mdsNode_(world.addNode("mds")),
      mdsEnv_(mdsNode_.env()),
      mdsServer_(mdsEnv_, mds),
      clientNode_(world.addNode("client")),
      clientEnv_(clientNode_.env()) {
  REQUIRE(mdsServer_.start({"mds", 7700}));
  mds.map.epoch = MapEpoch{1};
  mds.map.cluster = kCluster;
  const size_t count = pool.width();
  pool.id = kPool;
  pool.name = "default";
  pool.pgs.resize(1);
  mds.map.pools[kPool] = pool;
  std::vector<uint32_t> all;
  for (size_t i = 1; i <= count; ++i) {
    auto disk = std::make_shared<FakeDisk>();
    disk->uuid = {7, i};
    disk->cluster = kCluster;
    disks_.push_back(disk);
    OsdEntry entry;
    entry.id = OsdId{static_cast<uint32_t>(i)};
    entry.uuid = disk->uuid;
    entry.up = true;
    mds.map.osds[entry.id] = entry;
    all.push_back(entry.id.value);
    mds.target.push_back(entry.id);
  }
  setGroup(all);
  for (size_t i = 1; i <= count; ++i)
    osds_.push_back(std::make_unique<TestOsd>(world.addNode(host(i)), disks_[i - 1]));
  waitForMap();
}

TestCluster::~TestCluster() {
  INFO(world.logText());
  for (auto& [key, client] : clients_) CHECK(world.await(clientNode_, client->close()));
  for (auto& o : osds_)
    if (o && !o->stopped) CHECK(world.await(o->node, o->stop()));
  CHECK(world.await(mdsNode_, mdsServer_.close()));
  for (auto& d : disks_) CHECK(d->violations == 0);
}

void TestCluster::kill(size_t i) {
  TestOsd& o = osd(i);
  world.kill(o.node);
  CHECK(world.await(o.node, o.stop()));
  dead_.push_back(std::move(osds_[i - 1]));
}

void TestCluster::restart(size_t i) {
  osds_[i - 1] = std::make_unique<TestOsd>(world.addNode(host(i)), disks_[i - 1]);
}

void TestCluster::setGroup(std::vector<uint32_t> osds) {
  ++mds.map.epoch.value;
  auto& pg = mds.map.pools[kPool].pgs[0];
  pg.epoch = mds.map.epoch;
  pg.osds.clear();
  mds.target.clear();
  const bool shards = mds.map.pools[kPool].erasureCoded() && pg.shards.empty();
  for (uint32_t id : osds) {
    if (shards) pg.shards[OsdId{id}] = static_cast<uint8_t>(id - 1);
    pg.osds.emplace_back(id);
    mds.target.emplace_back(id);
  }
  epoch = pg.epoch;
}

bool TestCluster::waitForCopies(size_t count, Duration limit) {
  const bool done = world.runUntil(
      [&] { return group().osds.size() == count && group().joining.empty(); }, limit);
  waitForMap();
  epoch = group().epoch;
  return done;
}

bool TestCluster::waitForActive(Duration limit) {
  return world.runUntil(
      [&] {
        auto& o = osds_[primary() - 1];
        const GroupRef g = o ? o->service.groups().find({kPool, PgIndex{0}}) : nullptr;
        return g && g->active && o->map.epoch() == mds.map.epoch;
      },
      limit);
}

Result<uint64_t> TestCluster::writeUntilDone(uint64_t chunk, uint32_t offset,
                                             const std::vector<uint8_t>& data, int attempts) {
  Result<uint64_t> done = fail(Errc::kTimeout);
  for (int i = 0; i < attempts; ++i) {
    epoch = group().epoch;
    done = write(primary(), chunk, offset, data);
    if (done || !done.error().retryable()) break;
    run(100ms);
  }
  return done;
}

Result<TestCluster::Got> TestCluster::readUntilDone(uint64_t chunk, uint32_t offset,
                                                    uint32_t length, int attempts) {
  Result<Got> got = fail(Errc::kTimeout);
  for (int i = 0; i < attempts; ++i) {
    epoch = group().epoch;
    got = read(primary(), chunk, offset, length);
    if (got || !got.error().retryable()) break;
    run(100ms);
  }
  return got;
}

void TestCluster::waitForMap() {
  INFO(world.logText());
  CHECK(world.runUntil(
      [this] {
        return std::all_of(osds_.begin(), osds_.end(), [this](const auto& o) {
          return !o || (o->map.leased() && o->map.epoch() == mds.map.epoch);
        });
      },
      30s));
  epoch = group().epoch;
  if (osds_[primary() - 1]) CHECK(waitForActive());
}

RpcClient& TestCluster::client(size_t to, schema::Hello::Role as, uint64_t peer) {
  auto& slot = clients_[{to, as, peer}];
  if (!slot) {
    RpcClient::Options options;
    options.to = {host(to), kPort};
    options.self = {as, kCluster, as == schema::Hello::Role::CLIENT && peer == 0 ? 77 : peer};
    slot = std::make_unique<RpcClient>(clientEnv_, std::move(options));
  }
  return *slot;
}

Task<void> TestCluster::store(RpcClient& client, OutMessage message, Duration timeout,
                              Answer answer) {
  answer->emplace(co_await client.call(std::move(message), timeout));
}

TestCluster::Answer TestCluster::askLater(size_t to, OutMessage message, Duration timeout,
                                          schema::Hello::Role as, uint64_t peer) {
  auto answer = std::make_shared<std::optional<Result<InMessage>>>();
  clientNode_.spawn(store(client(to, as, peer), std::move(message), timeout, answer));
  return answer;
}

bool TestCluster::waitFor(const std::vector<Answer>& answers, Duration limit) {
  return world.runUntil(
      [&] { return std::ranges::all_of(answers, [](auto& a) { return a->has_value(); }); }, limit);
}

Result<InMessage> TestCluster::ask(size_t to, OutMessage message, schema::Hello::Role as,
                                   Duration timeout, uint64_t peer) {
  auto answer = world.await(clientNode_, client(to, as, peer).call(std::move(message), timeout));
  REQUIRE(answer);
  return std::move(*answer);
}

OutMessage TestCluster::request() {
  OutMessage m;
  auto r = m.body<schema::OsdRequest>();
  r.setPool(kPool.value);
  r.setPg(0);
  r.setPgEpoch(epoch.value);
  return m;
}

OutMessage TestCluster::writeRequest(uint64_t chunk, uint32_t offset,
                                     const std::vector<uint8_t>& data) {
  OutMessage m = request();
  auto w = m.body<schema::OsdRequest>().initWrite();
  w.setChunk(chunk);
  w.setOffset(offset);
  w.setLength(static_cast<uint32_t>(data.size()));
  auto crcs = blockCrcs(offset, data);
  Bytes wire = crcBytes(crcs);
  w.setCrcs(capnp::Data::Reader(wire.data(), wire.size()));
  m.addPayload(clientEnv_.buffers.copyOf(data));
  return m;
}

OutMessage TestCluster::readRequest(uint64_t chunk, uint32_t offset, uint32_t length) {
  OutMessage m = request();
  auto r = m.body<schema::OsdRequest>().initRead();
  r.setChunk(chunk);
  r.setOffset(offset);
  r.setLength(length);
  return m;
}

OutMessage TestCluster::cloneRequest(uint64_t source, uint32_t from, uint64_t target, uint32_t at,
                                     uint32_t length) {
  OutMessage m = request();
  auto r = m.body<schema::OsdRequest>().initClone();
  r.setSource(source);
  r.setSourceOffset(from);
  r.setTarget(target);
  r.setTargetOffset(at);
  r.setLength(length);
  return m;
}

OutMessage TestCluster::replicateRequest(uint64_t chunk, uint32_t offset,
                                         const std::vector<uint8_t>& data, uint64_t version) {
  OutMessage m = request();
  auto r = m.body<schema::OsdRequest>().initReplicate();
  r.setVersion(version);
  auto w = r.initWrite();
  w.setChunk(chunk);
  w.setOffset(offset);
  w.setLength(static_cast<uint32_t>(data.size()));
  auto crcs = blockCrcs(offset, data);
  Bytes wire = crcBytes(crcs);
  w.setCrcs(capnp::Data::Reader(wire.data(), wire.size()));
  m.addPayload(clientEnv_.buffers.copyOf(data));
  return m;
}

Result<uint64_t> TestCluster::write(size_t to, uint64_t chunk, uint32_t offset,
                                    std::vector<uint8_t> data) {
  auto answer = ask(to, writeRequest(chunk, offset, data));
  TRY(answer);
  return answer->body<schema::OsdReply>().getVersion();
}

Result<TestCluster::Got> TestCluster::read(size_t from, uint64_t chunk, uint32_t offset,
                                           uint32_t length) {
  auto answer = ask(from, readRequest(chunk, offset, length));
  TRY(answer);
  auto r = answer->body<schema::OsdReply>().getRead();
  Got got;
  got.hole = r.getHole();
  got.version = r.getVersion();
  got.data.assign(length, 0);
  if (!got.hole) {
    Bytes payload = answer->payload().bytes();
    CHECK(payload.size() == length);
    CHECK(blockCrcsMatch(offset, payload, {r.getCrcs().begin(), r.getCrcs().size()}));
    std::copy(payload.begin(), payload.end(), got.data.begin());
  } else {
    CHECK(answer->payload().empty());
  }
  return got;
}

Result<uint64_t> TestCluster::clone(size_t to, uint64_t source, uint32_t from, uint64_t target,
                                    uint32_t at, uint32_t length) {
  auto answer = ask(to, cloneRequest(source, from, target, at, length));
  TRY(answer);
  return answer->body<schema::OsdReply>().getVersion();
}

Result<uint64_t> TestCluster::zero(size_t to, uint64_t chunk, uint32_t offset, uint32_t length) {
  OutMessage m = request();
  auto z = m.body<schema::OsdRequest>().initZero();
  z.setChunk(chunk);
  z.setOffset(offset);
  z.setLength(length);
  auto answer = ask(to, std::move(m));
  TRY(answer);
  return answer->body<schema::OsdReply>().getVersion();
}

Result<uint64_t> TestCluster::allocate(size_t to, uint64_t chunk, uint32_t offset,
                                       uint32_t length) {
  OutMessage m = request();
  auto z = m.body<schema::OsdRequest>().initAllocate();
  z.setChunk(chunk);
  z.setOffset(offset);
  z.setLength(length);
  auto answer = ask(to, std::move(m));
  TRY(answer);
  return answer->body<schema::OsdReply>().getVersion();
}

std::vector<uint8_t> TestCluster::everywhere(uint64_t chunk, uint32_t offset, uint32_t length) {
  auto first = disk(1).content(ChunkId{chunk}, offset, length);
  for (size_t i = 2; i <= disks_.size(); ++i)
    CHECK(disk(i).content(ChunkId{chunk}, offset, length) == first);
  return first;
}

}  // namespace cairn::osd::test
