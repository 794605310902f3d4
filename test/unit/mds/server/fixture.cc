#include "test/unit/mds/server/fixture.h"

namespace cairn::mds::test {
namespace {

kj::ArrayPtr<const kj::byte> asData(const std::string& text) {
  return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}

OutMessage build(const Peer::Fill& fill) {
  OutMessage m;
  fill(m.body<schema::MdsRequest>());
  return m;
}

}  // namespace

// ---- changes ----

namespace changes {
namespace {

Change make(InodeId parent, std::string name, uint32_t mode, bool open) {
  return [=](auto m) {
    auto make = m.initMake();
    make.setParent(parent.value);
    make.setName(asData(name));
    make.setMode(mode);
    make.setOpen(open);
  };
}

}  // namespace

Change create(InodeId parent, std::string name) {
  return make(parent, std::move(name), 0100644, true);
}
Change makeDirectory(InodeId parent, std::string name) {
  return make(parent, std::move(name), 0040755, false);
}
Change unlink(InodeId parent, std::string name) {
  return [=](auto m) {
    auto remove = m.initRemove();
    remove.setParent(parent.value);
    remove.setName(asData(name));
  };
}
Change rename(InodeId parent, std::string name, InodeId newParent, std::string newName,
              uint32_t flags) {
  return [=](auto m) {
    auto r = m.initRename();
    r.setParent(parent.value);
    r.setName(asData(name));
    r.setNewParent(newParent.value);
    r.setNewName(asData(newName));
    r.setFlags(flags);
  };
}
Change link(InodeId ino, InodeId parent, std::string name) {
  return [=](auto m) {
    auto l = m.initLink();
    l.setIno(ino.value);
    l.setParent(parent.value);
    l.setName(asData(name));
  };
}
Change accessed(std::vector<InodeId> inodes, int64_t atNs) {
  return [=](auto m) {
    auto list = m.initAccessed().initAccesses(static_cast<uint32_t>(inodes.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setIno(inodes[i].value);
      list[i].setTimeNs(atNs);
    }
  };
}
Change chmod(InodeId ino, uint32_t mode) {
  return [=](auto m) {
    auto a = m.initSetattr();
    a.setIno(ino.value);
    a.setSetMode(true);
    a.setMode(mode);
  };
}
Change truncate(InodeId ino, uint64_t size) {
  return [=](auto m) {
    auto a = m.initSetattr();
    a.setIno(ino.value);
    a.setSetSize(true);
    a.setSize(size);
  };
}
Change setxattr(InodeId ino, std::string name, std::string value) {
  return [=](auto m) {
    auto x = m.initSetxattr();
    x.setIno(ino.value);
    x.setName(asData(name));
    x.setValue(asData(value));
  };
}
Change removexattr(InodeId ino, std::string name) {
  return [=](auto m) {
    auto x = m.initRemovexattr();
    x.setIno(ino.value);
    x.setName(asData(name));
  };
}
Change commit(InodeId ino, uint64_t size) {
  return [=](auto m) {
    auto c = m.initCommitWrite();
    c.setIno(ino.value);
    c.setSize(size);
  };
}
Change allocate(InodeId ino, uint32_t count) {
  return [=](auto m) {
    auto c = m.initAllocChunks();
    c.setIno(ino.value);
    c.setCount(count);
  };
}

}  // namespace changes

// ---- Peer ----

Peer::Peer(sim::SimWorld& w, const std::string& host, Identity self, std::string mdsHost)
    : world(w), node(w.addNode(host)), env(node.env()) {
  RpcClient::Options o;
  o.to = {std::move(mdsHost), kPort};
  o.self = self;
  o.onPush = [this](const InMessage& m) {
    auto push = m.body<schema::MdsPush>();
    if (push.isMapChanged()) pushedEpochs.push_back(push.getMapChanged());
    if (push.isRecall()) onRecall(push.getRecall());
    if (push.isLockGranted()) onLockGranted(push.getLockGranted());
    if (push.isLockProbe()) onLockProbe(push.getLockProbe());
    if (push.isAccessed()) onAccessed(push.getAccessed());
  };
  o.onConnect = [this](RpcClient& c) { return onConnect(c); };
  rpc = std::make_unique<RpcClient>(env, std::move(o));
}

Peer::~Peer() {
  world.await(node, rpc->close());
  world.drain(node);
}

Got Peer::call(const Fill& fill, Duration timeout) {
  auto got = world.await(node, exchange(build(fill), timeout));
  REQUIRE(got.has_value());
  return std::move(*got);
}

Task<Got> Peer::exchange(OutMessage message, Duration timeout) {
  // For onAnswer: the message itself is sent off.
  capnp::MallocMessageBuilder copy;
  copy.setRoot(message.body<schema::MdsRequest>().asReader());
  Got got{co_await rpc->call(std::move(message), timeout)};
  onAnswer(copy.getRoot<schema::MdsRequest>().asReader(), got);
  co_return got;
}

Task<void> Peer::exchangeInto(OutMessage message, Duration timeout,
                              std::shared_ptr<std::optional<Got>> slot) {
  *slot = co_await exchange(std::move(message), timeout);
}

void Peer::start(const Fill& fill, std::shared_ptr<std::optional<Got>> slot, Duration timeout) {
  node.spawn(exchangeInto(build(fill), timeout, std::move(slot)));
}

// ---- Client ----

Client::Client(sim::SimWorld& w, const std::string& host)
    : Peer(w, host, {schema::Hello::Role::CLIENT, {}, 0}) {}

Got Client::openSession() {
  auto got = call([](auto r) { r.initMutate().initSessionOpen().setMount("/mnt"); });
  if (got.result) {
    session = got.reply().getId();
    rpc->setIdentity({schema::Hello::Role::CLIENT, kCluster, session});
  }
  return got;
}

Got Client::mutate(const Change& fill, uint64_t seq) {
  if (seq == 0) seq = nextSeq++;
  return call([&](auto r) {
    r.setSession(session);
    r.setSeq(seq);
    fill(r.initMutate());
  });
}

Got Client::ask(const Fill& fill) {
  return call([&](auto r) {
    r.setSession(session);
    fill(r);
  });
}

Client::Slot Client::startMutate(const Change& fill) {
  auto slot = std::make_shared<std::optional<Got>>();
  start(
      [&](auto r) {
        r.setSession(session);
        r.setSeq(nextSeq++);
        fill(r.initMutate());
      },
      slot, 10min);
  return slot;
}

Client::Slot Client::startAsk(const Fill& fill) {
  auto slot = std::make_shared<std::optional<Got>>();
  start(
      [&](auto r) {
        r.setSession(session);
        fill(r);
      },
      slot, 10min);
  return slot;
}

Got Client::create(InodeId parent, std::string name) {
  return mutate(changes::create(parent, std::move(name)));
}
Got Client::makeDirectory(InodeId parent, std::string name) {
  return mutate(changes::makeDirectory(parent, std::move(name)));
}
Got Client::unlink(InodeId parent, std::string name) {
  return mutate(changes::unlink(parent, std::move(name)));
}
Got Client::rename(InodeId parent, std::string name, std::string newName) {
  return mutate(changes::rename(parent, std::move(name), parent, std::move(newName)));
}

Got Client::lookup(InodeId parent, std::string name) {
  return ask([&](auto r) {
    auto l = r.initLookup();
    l.setParent(parent.value);
    l.setName(asData(name));
  });
}

Got Client::open(InodeId ino) {
  return ask([&](auto r) { r.initOpen().setIno(ino.value); });
}
Got Client::release(InodeId ino) {
  return ask([&](auto r) { r.initRelease(1).set(0, ino.value); });
}
Got Client::reclaim(std::vector<InodeId> inodes) {
  return ask([&](auto r) {
    auto reclaim = r.initReclaim();
    reclaim.setLast(true);
    auto list = reclaim.initOpen(static_cast<uint32_t>(inodes.size()));
    for (uint32_t i = 0; i < inodes.size(); ++i) list.set(i, inodes[i].value);
  });
}
Got Client::getattr(InodeId ino) {
  return ask([&](auto r) { r.setGetattr(ino.value); });
}
Got Client::allocate(InodeId ino, uint32_t count) {
  return mutate(changes::allocate(ino, count));
}

// ---- FakeOsd ----

FakeOsd::FakeOsd(sim::SimWorld& w, uint32_t n, std::string host)
    : Peer(w, host, {schema::Hello::Role::OSD, {}, 0}), number(n), server_(env, *this) {
  REQUIRE(server_.start({host, 7800}));
}

FakeOsd::~FakeOsd() {
  stopBeating();
  world.await(node, server_.close());
}

Identity FakeOsd::identity() {
  return {schema::Hello::Role::OSD, kCluster, number};
}

Got FakeOsd::enroll() {
  auto got = call([this](auto r) {
    auto reg = r.initMutate().initOsdRegister();
    reg.initUuid().setHi(number);
    reg.setAddr(node.host() + ":7800");
    reg.setHost(node.host());
    reg.setBytesTotal(bytesTotal);
    reg.setBytesUsed(bytesUsed);
    reg.setIncarnation(incarnation);
    reg.setPid(number);
  });
  if (got.result) id = OsdId{static_cast<uint32_t>(got.reply().getId())};
  return got;
}

Got FakeOsd::beat() {
  auto got = call([this](auto r) { fill(r.initHeartbeat()); });
  if (got.result) take(got.reply().getHeartbeat());
  return got;
}

void FakeOsd::fill(schema::Heartbeat::Builder h) const {
  h.setOsd(id.value);
  h.setIncarnation(incarnation);
  h.setMapEpoch(mapEpoch.value);
  h.setBytesUsed(bytesUsed);
  h.setBytesTotal(bytesTotal);
  h.setNearlyFull(nearlyFull);
  auto recovery = h.initRecovery();
  recovery.setChunksLeft(chunksLeft);
  recovery.setBytesLeft(bytesLeft);
  recovery.setBytesDone(bytesDone);
}

void FakeOsd::take(schema::MapReply::Reader news) {
  if (!takesMaps) return;
  mapEpoch = MapEpoch{news.getEpoch()};
  adopted = MapEpoch{news.getAdopted()};
}

Got FakeOsd::report(const ClusterMap& map, const std::vector<Report>& changes) {
  return call([&](auto r) {
    auto list = r.initMutate().initGroupReport(static_cast<uint32_t>(changes.size()));
    for (uint32_t i = 0; i < changes.size(); ++i) {
      const Report& c = changes[i];
      const auto& group = map.pool(PoolId{1})->pgs[c.pg];
      list[i].setPool(1);
      list[i].setPg(c.pg);
      list[i].setEpoch(c.epoch != 0 ? c.epoch : group.epoch.value);
      list[i].setMember(c.member.value);
      list[i].setKind(c.synced ? schema::GroupChange::Kind::SYNCED
                               : schema::GroupChange::Kind::FAILED);
    }
  });
}

Task<void> FakeOsd::beatLoop(Duration every, std::shared_ptr<Event> stop) {
  while (!co_await stop->waitFor(every)) {
    OutMessage m;
    fill(m.body<schema::MdsRequest>().initHeartbeat());
    auto answer = co_await rpc->call(std::move(m), 1s);
    if (answer) take(answer->body<schema::MdsReply>().getHeartbeat());
  }
}

void FakeOsd::keepBeating(Duration every) {
  stop_ = std::make_shared<Event>(node.reactor());
  node.spawn(beatLoop(every, stop_));
}

void FakeOsd::stopBeating() {
  if (stop_) stop_->set();
  stop_.reset();
}

Task<Result<OutMessage>> FakeOsd::handle(const InMessage& request, RpcPeer&) {
  auto body = request.body<schema::OsdRequest>();
  ++requests;
  if (refuse) co_return fail(Errc::kUnavailable, "told to refuse");
  if (!body.isRemove()) co_return fail(Errc::kNotSupported);
  for (uint64_t chunk : body.getRemove().getChunks()) removed.insert(chunk);
  OutMessage out;
  out.body<schema::OsdReply>().setNone();
  co_return out;
}

// ---- Rig ----

Rig::Rig(uint64_t seed) : world(seed) {
  options.directory = "data";
  options.cluster = kCluster;
  options.create = true;
  options.logBytes = 4 * kMiB;
  options.cacheBytes = 1 * kMiB;
  options.listen = {"mds", kPort};
  options.server.replicas = 3;
  options.server.osdLease = 2s;
  options.server.clientLease = 2s;
  options.server.sessionTimeout = 10s;
  options.server.recallTimeout = 20s;
  options.server.gcInterval = 200ms;
  startMds();
}

Rig::~Rig() {
  for (auto& osd : osds) osd->stopBeating();
  osds.clear();
  if (mds) stopMds();
}

void Rig::startMds() {
  node = &world.addNode("mds");
  env.emplace(node->env());
  auto started = world.await(*node, Mds::start(*env, options));
  REQUIRE(started.has_value());
  REQUIRE_MESSAGE(started->has_value(), (*started ? "" : started->error().text()));
  mds = std::move(**started);
}

void Rig::stopMds() {
  REQUIRE(world.await(*node, mds->stop()));
  mds.reset();
  REQUIRE(world.drain(*node));
}

void Rig::crashMds(sim::Crash how) {
  world.crash(*node, how);
  stopMds();
}

void Rig::syncAll() {
  const ClusterMap map = state().map();
  std::map<OsdId, std::vector<FakeOsd::Report>> reports;
  const auto& pgs = map.pool(PoolId{1})->pgs;
  for (uint32_t pg = 0; pg < pgs.size(); ++pg)
    for (OsdId id : pgs[pg].joining) reports[pgs[pg].osds.front()].push_back({pg, id, true});
  for (const auto& [primary, changes] : reports)
    REQUIRE(osd(primary).report(map, changes).code() == Errc::kOk);
}

void Rig::startOsds(size_t count) {
  for (size_t i = 1; i <= count; ++i) {
    osds.push_back(
        std::make_unique<FakeOsd>(world, static_cast<uint32_t>(i), "osd" + std::to_string(i)));
    REQUIRE(osds.back()->enroll().code() == Errc::kOk);
    osds.back()->keepBeating(400ms);
  }
}

}  // namespace cairn::mds::test
