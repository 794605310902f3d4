#include "test/unit/client/core/fake_cluster.h"

#include <fcntl.h>

#include <doctest/doctest.h>

namespace cairn::client::test {

struct FakeCluster::Osd {
  Osd(FakeCluster& c, size_t i)
      : node(c.world.addNode("osd" + std::to_string(i))),
        env(node.env()),
        handler(env.reactor, OsdId{static_cast<uint32_t>(i)}, c.mds.map, c.storage, c.events,
                c.writesMayGo),
        server(env, handler) {
    REQUIRE(server.start({"0.0.0.0", 7000}));
  }
  sim::SimNode& node;
  Env env;
  FakeOsd handler;
  RpcServer server;
};

FakeCluster::FakeCluster(uint64_t seed, Options wanted, bool mountNow)
    : world(seed),
      mdsNode_(&world.addNode("mds")),
      mdsEnv_(mdsNode_->env()),
      mds(mdsEnv_.reactor, events),
      mdsServer_(mdsEnv_, mds),
      clientNode_(&world.addNode("client")),
      env(clientNode_->env()),
      options(std::move(wanted)) {
  options.mds = {{"mds", 6000}};
  mds.onChunkGone = [this](uint64_t chunk) {
    storage.chunks.erase(chunk);
    storage.gone.insert(chunk);
  };
  mds.map.epoch = MapEpoch{1};
  mds.map.cluster = kCluster;
  Pool& pool = mds.map.pools[kPool];
  pool.id = kPool;
  pool.name = "default";
  pool.replicas = 3;
  pool.pgs.resize(8);
  for (uint32_t i = 1; i <= kOsds; ++i) {
    OsdEntry& osd = mds.map.osds[OsdId{i}];
    osd.id = OsdId{i};
    osd.addr = "osd" + std::to_string(i) + ":7000";
    osd.up = osd.in = true;
  }
  for (size_t g = 0; g < pool.pgs.size(); ++g) {
    pool.pgs[g].epoch = MapEpoch{1};
    for (uint32_t i = 0; i < kOsds; ++i)
      pool.pgs[g].osds.emplace_back(static_cast<uint32_t>((g + i) % kOsds + 1));
  }
  REQUIRE(mdsServer_.start({"0.0.0.0", 6000}));
  for (size_t i = 1; i <= kOsds; ++i) osds_.push_back(std::make_unique<Osd>(*this, i));
  letWrites();
  if (mountNow) remount();
}

FakeCluster::~FakeCluster() {
  // What tests put in may refer to their locals, which are gone.
  mds.fault = nullptr;
  mds.refuse = nullptr;
  eachOsd([](FakeOsd& o) {
    o.fault = nullptr;
    o.refuse = nullptr;
    o.delay = nullptr;
  });
  letWrites();
  if (fs) {
    world.await(*clientNode_, fs->abandon());
    fs.reset();
  }
  for (auto& o : osds_) world.await(o->node, o->server.close());
  world.await(*mdsNode_, mdsServer_.close());
  world.drain(*clientNode_);
  osds_.clear();
}

void FakeCluster::run(Task<void> task) {
  if (!world.await(*clientNode_, std::move(task)))
    throw std::runtime_error("the operation does not end");
}

void FakeCluster::remount() {
  if (fs) {
    CHECK(run(fs->unmount()));
    fs.reset();
  }
  auto mounted = run(Filesystem::mount(env, options, {"/mnt", "client", 1}));
  REQUIRE(mounted);
  fs = std::move(*mounted);
}

FakeOsd& FakeCluster::osd(size_t i) {
  return osds_[i - 1]->handler;
}

void FakeCluster::eachOsd(const std::function<void(FakeOsd&)>& f) {
  for (auto& o : osds_) f(o->handler);
}

std::shared_ptr<Handle> FakeCluster::create(const std::string& name, int flags) {
  auto opened = run(fs->create(kRootInode, name, 0644, {}, flags));
  REQUIRE(opened);
  return opened->handle;
}

std::shared_ptr<Handle> FakeCluster::open(const std::string& name, int flags) {
  auto attr = run(fs->lookup(kRootInode, name));
  REQUIRE(attr);
  return reopen(attr->ino, flags).handle;
}

Filesystem::Opened FakeCluster::reopen(InodeId ino, int flags) {
  auto opened = run(fs->open(ino, flags));
  REQUIRE(opened);
  return *opened;
}

Result<void> FakeCluster::write(const std::shared_ptr<Handle>& h, uint64_t offset,
                                const std::string& data) {
  return run(fs->write(h, offset, bytes(data)));
}

std::string FakeCluster::read(const std::shared_ptr<Handle>& h, uint64_t offset, uint32_t length) {
  auto parts = run(fs->read(h, offset, length));
  REQUIRE_MESSAGE(parts, (parts ? "" : parts.error().text()));
  return join(*parts);
}

void FakeCluster::holdWrites() {
  writesMayGo.reset();
}

void FakeCluster::letWrites() {
  writesMayGo.set();
}

void FakeCluster::movePrimaries() {
  mds.map.epoch.value++;
  for (auto& pg : mds.map.pools[kPool].pgs) {
    pg.epoch = mds.map.epoch;
    std::rotate(pg.osds.begin(), pg.osds.begin() + 1, pg.osds.end());
  }
}

size_t FakeCluster::indexOf(const std::string& event, size_t from) const {
  for (size_t i = from; i < events.size(); ++i)
    if (events[i].starts_with(event)) return i;
  return SIZE_MAX;
}

size_t FakeCluster::count(const std::string& prefix) const {
  size_t n = 0;
  for (const auto& e : events) n += e.starts_with(prefix) ? 1 : 0;
  return n;
}

std::string FakeCluster::stored(const std::string& name) {
  const FakeFile& f = mds.file(name);
  std::string out(f.size, '\0');
  for (const auto& [index, chunk] : f.chunks) {
    uint64_t base = index * kChunkSize;
    if (base >= f.size) continue;
    uint64_t n = std::min(kChunkSize, f.size - base);
    auto bytes = storage.read(chunk, 0, static_cast<uint32_t>(roundUp(n, kBlockSize)));
    std::copy_n(bytes.begin(), n, out.begin() + static_cast<ptrdiff_t>(base));
  }
  return out;
}

std::string pattern(size_t size, uint64_t seed) {
  SeededRandom random(seed);
  std::string out(size, '\0');
  for (auto& c : out) c = static_cast<char>(random.next());
  return out;
}

std::string join(const std::vector<Buffer>& parts) {
  std::string out;
  for (const Buffer& b : parts) out.append(reinterpret_cast<const char*>(b.data()), b.size());
  return out;
}

}  // namespace cairn::client::test
