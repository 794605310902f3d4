#include "test/sim/sim_cluster.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "osd/service/erasure/shard_ids.h"

namespace cairn::sim::test {
namespace {

constexpr Uuid kCluster{0xca19, 0x51};
constexpr uint16_t kMdsPort = 7700;
constexpr uint16_t kOsdPort = 7800;
constexpr const char* kStripedPool = "striped";
// Few, so that files share them.
constexpr uint32_t kStripedGroups = 16;

bool verbose() {
  return std::getenv("CAIRN_SIM_LOG") != nullptr;
}

}  // namespace

SimCluster::SimCluster(uint64_t seed, ClusterOptions options, Idle)
    : world(seed, {.logToStderr = verbose()}),
      options_(options),
      osds_(options.osds),
      mounts_(options.clients) {}

// Delegates, so that the destructor cleans up if something does not start.
SimCluster::SimCluster(uint64_t seed, ClusterOptions options) : SimCluster(seed, options, Idle{}) {
  startDaemons();
  if (options_.striped) makeStripedPool(*options_.striped);
}

SimCluster::~SimCluster() {
  killMounts();
  for (size_t i = 0; i < osds_.size(); ++i) endOsd(i);
  endMds();
}

NodeOptions SimCluster::nodeOptions(std::string name, int64_t driftPpm) const {
  NodeOptions o;
  o.name = std::move(name);
  o.driftPpm = driftPpm;
  o.logLevel = verbose() ? LogLevel::kDebug : LogLevel::kError;
  return o;
}

std::vector<std::string> SimCluster::daemonHosts() const {
  std::vector<std::string> hosts{mdsHost()};
  for (size_t i = 0; i < osds_.size(); ++i) hosts.push_back(osdHost(i));
  return hosts;
}

// ---- The MDS ----

void SimCluster::startMds() {
  mds_.node = &world.addNode(mdsHost(), nodeOptions("mds", options_.driftPpm));
  mds_.env.emplace(mds_.node->env());
  mds::MdsOptions o;
  o.directory = "mds";
  o.cluster = kCluster;
  o.create = !mdsMade_;
  o.logBytes = 1 * kMiB;  // small, so that checkpoints happen
  o.cacheBytes = 256 * kKiB;
  o.listen = {mdsHost(), kMdsPort};
  o.server.replicas = options_.replicas;
  o.server.osdLease = 1500ms;
  o.server.osdOutAfter = options_.outAfter;
  // Longer than any disturbance that mounts are to survive without losing their session.
  o.server.clientLease = 10s;
  o.server.sessionTimeout = 60s;
  o.server.gcInterval = 200ms;
  auto started = world.await(*mds_.node, mds::Mds::start(*mds_.env, std::move(o)));
  REQUIRE_MESSAGE(started.has_value(), "the MDS does not come up");
  if (!mds_.node->alive()) return;  // killed on its way up
  REQUIRE_MESSAGE(started->has_value(), started->error().text());
  mds_.daemon = std::move(**started);
  mdsMade_ = true;
}

void SimCluster::endMds() {
  if (mds_.daemon) CHECK_MESSAGE(world.await(*mds_.node, mds_.daemon->stop()), "MDS: stop hangs");
  mds_.daemon.reset();
  if (mds_.node) CHECK_MESSAGE(world.drain(*mds_.node), "MDS: tasks are left");
  if (mds_.node) world.kill(*mds_.node);
}

// ---- OSDs ----

osd::StoreOptions SimCluster::storeOptions(size_t i) const {
  osd::StoreOptions o;
  o.directory = "osd" + std::to_string(osds_[i].disk);
  o.sizeBytes = options_.storeBytes;
  o.walBytes = 4 * kMiB;  // the smallest, so that it laps
  o.cacheBytes = 64 * kKiB;
  o.reserveBytes = 4 * kMiB;
  return o;
}

void SimCluster::startOsd(size_t i) {
  OsdProcess& p = osds_[i];
  p.node = &world.addNode(osdHost(i), nodeOptions("osd." + std::to_string(i), driftOf(i)));
  p.env.emplace(p.node->env());
  p.stopping = std::make_unique<Event>(p.node->reactor());
  osd::OsdOptions o;
  o.store = storeOptions(i);
  o.listen = {osdHost(i), kOsdPort};
  o.link.mds = {{mdsHost(), kMdsPort}};
  o.link.host = "host" + std::to_string(hostOf(i));
  o.link.rack = "rack" + std::to_string(hostOf(i) / options_.hostsPerRack);
  auto started = world.await(*p.node, osd::Osd::start(*p.env, std::move(o), *p.stopping));
  REQUIRE_MESSAGE(started.has_value(), osdHost(i), " does not come up");
  if (!p.node->alive() && !*started) return;  // killed on its way up
  REQUIRE_MESSAGE(started->has_value(), osdHost(i), ": ", started->error().text());
  p.daemon = std::move(**started);
}

void SimCluster::endOsd(size_t i) {
  OsdProcess& p = osds_[i];
  if (p.daemon) CHECK_MESSAGE(world.await(*p.node, p.daemon->stop()), osdHost(i), ": stop hangs");
  p.daemon.reset();
  if (p.node) CHECK_MESSAGE(world.drain(*p.node), osdHost(i), ": tasks are left");
  if (p.node) world.kill(*p.node);
}

size_t SimCluster::addOsd() {
  osds_.emplace_back();
  startOsd(osds_.size() - 1);
  return osds_.size() - 1;
}

void SimCluster::loseOsd(size_t i) {
  world.kill(*osds_[i].node);
  endOsd(i);
  ++osds_[i].disk;
}

namespace {

Task<Result<InMessage>> call(RpcClient& client, OutMessage message) {
  co_return co_await client.call(std::move(message), 30s);
}

}  // namespace

InMessage SimCluster::ask(const Endpoint& daemon, OutMessage message) {
  SimNode& node = world.addNode("admin", nodeOptions("admin"));
  Env env = node.env();
  RpcClient::Options o;
  o.to = daemon;
  RpcClient client(env, std::move(o));
  auto answer = world.await(node, call(client, std::move(message)));
  REQUIRE(answer.has_value());
  REQUIRE_MESSAGE(answer->has_value(), answer->error().text());
  REQUIRE(world.await(node, client.close()));
  REQUIRE(world.drain(node));
  world.kill(node);
  return std::move(**answer);
}

void SimCluster::administer(const std::function<void(schema::Mutation::Builder)>& fill) {
  OutMessage message;
  fill(message.body<schema::MdsRequest>().initMutate());
  ask({mdsHost(), kMdsPort}, std::move(message));
}

void SimCluster::putIn(OsdId osd, bool in) {
  administer([&](schema::Mutation::Builder m) {
    auto set = m.initOsdSet();
    set.setId(osd.value);
    set.setSetIn(true);
    set.setIn(in);
  });
}

void SimCluster::removeOsd(OsdId osd, bool force) {
  administer([&](schema::Mutation::Builder m) {
    auto remove = m.initOsdRemove();
    remove.setId(osd.value);
    remove.setForce(force);
  });
}

SimCluster::Scrubbed SimCluster::scrubbed() {
  world.run(1s);  // a few heartbeats, which tell it
  OutMessage message;
  message.body<schema::MdsRequest>().setStatus();
  const InMessage answer = ask({mdsHost(), kMdsPort}, std::move(message));
  const auto state = answer.body<schema::MdsReply>().getStatus().getScrub();
  CHECK(state.getUnrepairable() == 0);
  CHECK(state.getErrorsRepaired() == state.getErrorsFound());
  return {state.getGroupsLeft(), state.getErrorsFound()};
}

uint64_t SimCluster::scrub() {
  const uint64_t before = scrubbed().found;
  for (size_t i = 0; i < osds_.size(); ++i) {
    OutMessage message;
    message.body<schema::OsdRequest>().initScrub().setDeep(true);
    ask({osdHost(i), kOsdPort}, std::move(message));
  }
  Scrubbed now = scrubbed();
  for (int waited = 0; now.groupsLeft != 0; ++waited, now = scrubbed())
    REQUIRE_MESSAGE(waited < 120, "the scrub does not come to an end");
  return now.found - before;
}

void SimCluster::rot(size_t i) {
  endOsd(i);  // all that it has in memory is in its place then
  const DiskFaults data = dataOnly(i);
  auto file = world.machine(osdHost(i)).disk.find(data.file);
  for (uint64_t at = data.from; at < file->size(); at += kBlockSize)
    if (file->written(at)) file->flipBit(at + world.random().below(kBlockSize), 3);
  startOsd(i);
  waitForService();
}

DiskFaults SimCluster::dataOnly(size_t i) const {
  DiskFaults f;
  f.file = storeOptions(i).directory + "/block";
  f.from = 1 * kMiB;  // osd/FORMAT.md: the superblocks lie before
  return f;
}

std::vector<std::string> SimCluster::checkStoreOf(size_t i) {
  SimNode& node = world.addNode(osdHost(i), nodeOptions("check." + std::to_string(i)));
  Env env = node.env();
  std::vector<std::string> lines;
  auto result = world.await(
      node, osd::checkStore(env, storeOptions(i),
                            [&lines](const std::string& line) { lines.push_back(line); }));
  REQUIRE(result.has_value());
  REQUIRE_MESSAGE(result->has_value(), result->error().text());
  REQUIRE(world.drain(node));
  world.kill(node);
  if ((*result)->clean()) return {};
  if (lines.empty()) lines.emplace_back("damaged, without a word");
  return lines;
}

// ---- Mounts ----

void SimCluster::mount(size_t i) {
  Mounted& m = mounts_[i];
  m.node = &world.addNode(clientHost(i), nodeOptions("client." + std::to_string(i), driftOf(i)));
  m.env.emplace(m.node->env());
  client::Options o;
  o.mds = {{mdsHost(), kMdsPort}};
  o.cacheBytes = 3 * kMiB;
  o.writeBufferBytes = 2 * kMiB;
  o.flushAge = 300ms;
  o.readaheadBytes = kMiB;
  auto mounted = world.await(
      *m.node, client::Filesystem::mount(*m.env, std::move(o), {"/mnt", clientHost(i), 1}));
  REQUIRE_MESSAGE(mounted.has_value(), "mount hangs");
  REQUIRE_MESSAGE(mounted->has_value(), mounted->error().text());
  m.fs = std::move(**mounted);
}

void SimCluster::unmount(size_t i) {
  Mounted& m = mounts_[i];
  auto ended = world.await(*m.node, m.fs->unmount());
  REQUIRE_MESSAGE(ended.has_value(), "unmount hangs");
  REQUIRE_MESSAGE(ended->has_value(), ended->error().text());
  REQUIRE(world.drain(*m.node));
  m.fs.reset();
  world.kill(*m.node);
}

// All of them before any is freed: one task may use several.
void SimCluster::abandonMounts() {
  for (auto& m : mounts_)
    if (m.fs) CHECK_MESSAGE(world.await(*m.node, m.fs->abandon()), "abandon hangs");
  for (auto& m : mounts_)
    if (m.fs) CHECK_MESSAGE(world.drain(*m.node), "client: tasks are left");
  for (auto& m : mounts_) m.fs.reset();
}

void SimCluster::killMount(size_t i) {
  Mounted& m = mounts_[i];
  world.kill(*m.node);
  CHECK_MESSAGE(world.await(*m.node, m.fs->abandon()), "abandon hangs");
  CHECK_MESSAGE(world.drain(*m.node), "client: tasks are left");
  m.fs.reset();
}

void SimCluster::killMounts() {
  for (auto& m : mounts_)
    if (m.fs) world.kill(*m.node);
  abandonMounts();
}

// ---- All ----

void SimCluster::startDaemons() {
  if (!mds_.daemon) startMds();
  for (size_t i = 0; i < osds_.size(); ++i)
    if (!osds_[i].daemon) startOsd(i);
  waitForService();
}

void SimCluster::losePower() {
  world.powerOff(mdsHost());
  for (size_t i = 0; i < osds_.size(); ++i) world.powerOff(osdHost(i));
  for (size_t i = 0; i < mounts_.size(); ++i) world.powerOff(clientHost(i));
  abandonMounts();
  for (size_t i = 0; i < osds_.size(); ++i) endOsd(i);
  endMds();
}

void SimCluster::makeStripedPool(const StripedPool& pool) {
  administer([&pool](schema::Mutation::Builder m) {
    auto p = m.initPoolCreate();
    p.setName(kStripedPool);
    p.setEcData(pool.data);
    p.setEcParity(pool.parity);
    p.setStripeUnit(pool.stripeUnit);
    p.setMinSize(pool.minSize);
    p.setAnyClass(true);
    p.setAutoDomain(true);
    p.setPgCount(kStripedGroups);
  });
  administer([](schema::Mutation::Builder m) {
    auto s = m.initSetLayout();
    s.setIno(kRootInode.value);
    s.setPool(kStripedPool);
  });
  waitForService();
}

bool SimCluster::whole() const {
  if (!mds_.daemon) return false;
  const ClusterMap& map = mds_.daemon->state().map();
  if (map.pools.empty()) return false;
  for (const auto& [id, pool] : map.pools) {
    if (pool.pgs.empty()) return false;
    for (const PlacementGroup& group : pool.pgs)
      if (group.osds.size() != pool.width() || group.inSync() != pool.width() ||
          !group.joining.empty())
        return false;
  }
  return true;
}

bool SimCluster::uses(OsdId osd) const {
  for (const auto& [id, pool] : mds_.daemon->state().map().pools)
    for (const PlacementGroup& group : pool.pgs)
      if (std::ranges::count(group.osds, osd) + std::ranges::count(group.joining, osd) != 0)
        return true;
  return false;
}

std::optional<size_t> SimCluster::withStaged() const {
  for (size_t i = 0; i < osds_.size(); ++i) {
    if (!osds_[i].daemon) continue;
    // The names of all that is staged come behind those of chunks.
    auto list = osds_[i].daemon->store().list(ChunkId{osd::staged(ChunkId{}).value - 1}, SIZE_MAX);
    REQUIRE(list.has_value());
    for (const osd::ListedChunk& c : *list)
      if (c.info.blocks != 0) return i;
  }
  return std::nullopt;
}

void SimCluster::waitForService() {
  auto ready = [this] {
    if (!whole()) return false;
    for (auto& p : osds_)
      if (!p.daemon || !p.daemon->health()) return false;
    for (const auto& [id, entry] : mds_.daemon->state().map().osds)
      if (!entry.up) return false;
    return true;
  };
  REQUIRE_MESSAGE(world.runUntil(ready, 60s), "the cluster does not come into service");
}

}  // namespace cairn::sim::test
