// Whole OSDs on real stores: from an empty directory to a member of the cluster, and back after the
// power was cut.
#include "osd/service/osd.h"

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/disk/disk.h"
#include "common/schema/osd.capnp.h"
#include "test/unit/osd/service/cluster.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

OsdOptions options(const std::string& host) {
  OsdOptions o;
  o.store.directory = "/osd";
  o.store.sizeBytes = 64 * kMiB;
  o.store.walBytes = 4 * kMiB;
  o.store.reserveBytes = 4 * kMiB;
  o.listen = {host, 7800};
  o.link.mds = {Endpoint{"mds", 7700}};
  o.link.host = host;
  o.joinPatience = 5s;
  return o;
}

// A process on a host, running one OSD.
struct Process {
  Process(sim::SimWorld& world, const std::string& host)
      : node(world.addNode(host)), env(node.env()), stopping(env.reactor) {}

  // Starts it and waits until it is a member, or cannot be.
  Result<void> start(sim::SimWorld& world, OsdOptions o) {
    auto started = world.await(node, Osd::start(env, std::move(o), stopping));
    REQUIRE(started);
    TRY(*started);
    osd = std::move(**started);
    CHECK(world.runUntil([this] { return osd->settled().isSet(); }, 30s));
    if (osd->failed().isSet()) return fail(osd->failure());
    return {};
  }
  void stop(sim::SimWorld& world) {
    if (osd) CHECK(world.await(node, osd->stop()));
    osd.reset();
  }

  sim::SimNode& node;
  Env env;
  Event stopping;
  std::unique_ptr<Osd> osd;
};

// An MDS that admits whoever comes, and a client.
struct World {
  explicit World(uint64_t seed = 1)
      : world(seed),
        mdsNode(world.addNode("mds")),
        mdsEnv(mdsNode.env()),
        server(mdsEnv, mds),
        clientNode(world.addNode("client")),
        clientEnv(clientNode.env()) {
    mds.map.epoch = MapEpoch{1};
    mds.map.cluster = kCluster;
    mds.admitNew = true;
    REQUIRE(server.start({"mds", 7700}));
  }
  ~World() {
    for (auto& p : processes) p->stop(world);
    for (auto& [host, c] : clients) CHECK(world.await(clientNode, c->close()));
    CHECK(world.await(mdsNode, server.close()));
  }
  Process& process(const std::string& host) {
    processes.push_back(std::make_unique<Process>(world, host));
    return *processes.back();
  }
  // One group of these OSDs.
  void makePool(std::vector<OsdId> osds) {
    Pool pool;
    pool.id = kPool;
    pool.replicas = static_cast<uint16_t>(osds.size());
    ++mds.map.epoch.value;
    pool.pgs.push_back({mds.map.epoch, std::move(osds), {}, {}});
    mds.map.pools[kPool] = pool;
  }
  RpcClient& client(const std::string& host) {
    auto& slot = clients[host];
    if (!slot) {
      RpcClient::Options o;
      o.to = {host, 7800};
      o.self = {schema::Hello::Role::CLIENT, kCluster, 5};
      slot = std::make_unique<RpcClient>(clientEnv, std::move(o));
    }
    return *slot;
  }
  schema::OsdRequest::Builder fill(OutMessage& m) {
    auto r = m.body<schema::OsdRequest>();
    r.setPool(kPool.value);
    r.setPgEpoch(mds.map.pools[kPool].pgs[0].epoch.value);
    return r;
  }
  // Retries like a client.
  Result<InMessage> ask(const std::string& host, const std::function<OutMessage()>& make) {
    Result<InMessage> answer = fail(Errc::kTimeout);
    for (int i = 0; i < 100; ++i) {
      auto got = world.await(clientNode, client(host).call(make(), 10s));
      REQUIRE(got);
      answer = std::move(*got);
      if (answer || !answer.error().retryable()) break;
      world.run(100ms);
    }
    return answer;
  }
  Result<void> write(const std::string& host, uint64_t chunk, uint32_t offset,
                     const std::vector<uint8_t>& data) {
    auto answer = ask(host, [&] {
      OutMessage m;
      auto w = fill(m).initWrite();
      w.setChunk(chunk);
      w.setOffset(offset);
      w.setLength(static_cast<uint32_t>(data.size()));
      auto crcs = blockCrcs(offset, data);
      Bytes wire = crcBytes(crcs);
      w.setCrcs(capnp::Data::Reader(wire.data(), wire.size()));
      m.addPayload(clientEnv.buffers.copyOf(data));
      return m;
    });
    TRY(answer);
    return {};
  }
  std::vector<uint8_t> read(const std::string& host, uint64_t chunk, uint32_t offset,
                            uint32_t length) {
    auto answer = ask(host, [&] {
      OutMessage m;
      auto r = fill(m).initRead();
      r.setChunk(chunk);
      r.setOffset(offset);
      r.setLength(length);
      return m;
    });
    REQUIRE(answer);
    if (answer->body<schema::OsdReply>().getRead().getHole()) return std::vector<uint8_t>(length);
    return {answer->payload().data(), answer->payload().data() + answer->payload().size()};
  }
  bool exists(const std::string& host, const std::string& path) {
    auto& node = world.addNode(host);
    OpenOptions o;
    o.writable = false;
    o.exclusive = false;
    Env env = node.env();
    auto file = world.await(node, env.disk.open(path, o));
    REQUIRE(file);
    return file->has_value();
  }

  sim::SimWorld world;
  FakeMds mds;
  sim::SimNode& mdsNode;
  Env mdsEnv;
  RpcServer server;
  sim::SimNode& clientNode;
  Env clientEnv;
  std::vector<std::unique_ptr<Process>> processes;
  std::map<std::string, std::unique_ptr<RpcClient>> clients;
};

}  // namespace

TEST_CASE("an empty directory becomes a store of the MDS's cluster, with an id that stays") {
  World w;
  Process& first = w.process("a");
  REQUIRE(first.start(w.world, options("a")));
  CHECK(first.osd->store().cluster() == kCluster);
  CHECK(first.osd->id() == OsdId{1});
  CHECK(first.osd->health());
  const Uuid uuid = first.osd->store().uuid();
  first.stop(w.world);

  Process& second = w.process("a");
  REQUIRE(second.start(w.world, options("a")));
  CHECK(second.osd->store().uuid() == uuid);
  CHECK(second.osd->id() == OsdId{1});
  CHECK(w.mds.map.osds.size() == 1);
}

TEST_CASE("acknowledged writes are there after the power was cut everywhere at once") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    World w(seed);
    std::vector<std::vector<uint8_t>> model(3, std::vector<uint8_t>(64 * kB));
    for (int round = 0; round < 3; ++round) {
      Process& a = w.process("a");
      Process& b = w.process("b");
      REQUIRE(a.start(w.world, options("a")));
      REQUIRE(b.start(w.world, options("b")));
      if (round == 0) w.makePool({a.osd->id(), b.osd->id()});
      for (uint64_t chunk = 0; chunk < model.size(); ++chunk)
        CHECK(w.read("a", chunk + 1, 0, 64 * kB) == model[chunk]);
      auto& random = w.world.random();
      for (uint32_t i = 0; i < 30; ++i) {
        auto chunk = random.below(model.size());
        auto offset = static_cast<uint32_t>(random.below(50 * kB));
        auto data = bytesOf(1 + random.below(14 * kB), static_cast<uint32_t>(round) * 1000 + i);
        REQUIRE(w.write("a", chunk + 1, offset, data));
        std::copy(data.begin(), data.end(), model[chunk].begin() + offset);
      }
      for (auto* p : {&a, &b}) w.world.powerOff(p->node.host());
      for (auto* p : {&a, &b}) p->stop(w.world);
    }
  }
}

TEST_CASE("a store of another cluster is refused by the MDS, and says so") {
  World w;
  Process& first = w.process("a");
  REQUIRE(first.start(w.world, options("a")));
  first.stop(w.world);
  w.mds.cluster = Uuid{8, 8};
  Process& second = w.process("a");
  auto refused = second.start(w.world, options("a"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kWrongCluster);
}

TEST_CASE("an MDS that lost its data and gives another id is not followed") {
  World w;
  Process& other = w.process("b");
  REQUIRE(other.start(w.world, options("b")));
  Process& first = w.process("a");
  REQUIRE(first.start(w.world, options("a")));
  CHECK(first.osd->id() == OsdId{2});
  first.stop(w.world);
  other.stop(w.world);
  w.mds.map.osds.clear();
  Process& second = w.process("a");
  auto refused = second.start(w.world, options("a"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("osd.2") != std::string::npos);
}

TEST_CASE("what fails before there is a store leaves nothing behind") {
  World w;
  SUBCASE("the port is in use") {
    Process& first = w.process("a");
    REQUIRE(first.start(w.world, options("a")));
    Process& second = w.process("a");
    OsdOptions o = options("a");
    o.store.directory = "/second";
    auto refused = second.start(w.world, std::move(o));
    CHECK(refused.error().code == Errc::kBusy);
    CHECK_FALSE(w.exists("a", "/second/block"));
  }
  SUBCASE("there is no MDS") {
    Process& only = w.process("a");
    OsdOptions o = options("a");
    o.link.mds = {Endpoint{"mds", 7999}, Endpoint{"nowhere", 7700}};
    auto refused = only.start(w.world, std::move(o));
    CHECK(refused.error().code == Errc::kUnavailable);
    CHECK_FALSE(w.exists("a", "/osd/block"));
  }
  SUBCASE("it is stopped while it looks for one") {
    Process& only = w.process("a");
    OsdOptions o = options("a");
    o.link.mds = {Endpoint{"mds", 7999}};
    o.joinPatience = 1h;
    w.world.after(3s, [&only] { only.stopping.set(); });
    auto refused = only.start(w.world, std::move(o));
    CHECK(refused.error().code == Errc::kCanceled);
  }
  SUBCASE("the disk is full") {
    Process& only = w.process("a");
    w.world.machine("a").disk.faults.capacityBytes = 10 * kMiB;
    auto refused = only.start(w.world, options("a"));
    CHECK(refused.error().code == Errc::kNoSpace);
    w.world.machine("a").disk.faults.capacityBytes.reset();
    CHECK_FALSE(w.exists("a", "/osd/block"));
    Process& again = w.process("a");
    CHECK(again.start(w.world, options("a")));
  }
}

TEST_CASE("an OSD whose disk fails gives up its place") {
  World w;
  Process& a = w.process("a");
  REQUIRE(a.start(w.world, options("a")));
  w.makePool({a.osd->id()});
  REQUIRE(w.write("a", 1, 0, bytesOf(kB, 1)));
  w.world.machine("a").disk.faults.writeError = 1;
  OutMessage m;
  auto write = w.fill(m).initWrite();
  write.setChunk(1);
  write.setLength(kB);
  auto data = bytesOf(kB, 2);
  auto crcs = blockCrcs(0, data);
  Bytes wire = crcBytes(crcs);
  write.setCrcs(capnp::Data::Reader(wire.data(), wire.size()));
  m.addPayload(w.clientEnv.buffers.copyOf(data));
  auto answer = w.world.await(w.clientNode, w.client("a").call(std::move(m), 10s));
  REQUIRE(answer);
  CHECK(answer->error().code == Errc::kUnavailable);  // somebody else may have it
  CHECK(w.world.runUntil([&] { return a.osd->failed().isSet(); }, 10s));
  CHECK(a.osd->failure().code == Errc::kIo);
  CHECK_FALSE(a.osd->health());
}

TEST_CASE("an OSD whose disk hangs lets its lease go, and has it again when the disk answers") {
  World w;
  Process& one = w.process("a");
  auto o = options("a");
  o.diskTimeout = 3s;
  REQUIRE(one.start(w.world, o));
  w.makePool({one.osd->id()});
  REQUIRE(w.write("a", 1, 0, bytesOf(4 * kB, 1)));
  // A slow disk is none that hangs.
  one.node.machine().disk.options.writeLatency = 1s;
  REQUIRE(w.write("a", 1, 0, bytesOf(4 * kB, 2)));
  CHECK(one.osd->health());

  one.node.machine().disk.options.writeLatency = 20s;
  OutMessage m;
  auto zero = w.fill(m).initZero();
  zero.setChunk(1);
  zero.setLength(4 * kB);
  auto hangs = w.clientNode.start(w.client("a").call(std::move(m), 60s));
  w.world.run(3s);
  const uint64_t before = w.mds.heartbeats;
  w.world.run(5s);
  CHECK(w.mds.heartbeats <= before + 2);
  CHECK_FALSE(one.osd->map().leased());
  REQUIRE_FALSE(one.osd->health());
  CHECK(one.osd->health().error().message.contains("the disk has not answered"));
  CHECK_FALSE(one.osd->failed().isSet());

  one.node.machine().disk.options.writeLatency = 60us;
  CHECK(w.world.runUntil([&] { return one.osd->map().leased(); }, 30s));
  CHECK(one.osd->health());
  CHECK(w.world.runUntil([&] { return hangs->has_value(); }, 60s));
}
