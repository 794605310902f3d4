#include "test/unit/mds/state/fixture.h"

#include <algorithm>

#include "leveldb/helpers/memenv.h"
#include "mds/state/keys.h"
#include "mds/state/records.h"

namespace cairn::mds::statetest {

Answer::Answer(Applied applied) : applied_(std::move(applied)) {
  words_.resize(applied_.reply.size() / sizeof(capnp::word));
  std::ranges::copy(applied_.reply, reinterpret_cast<uint8_t*>(words_.data()));
  segment_ = {reinterpret_cast<const capnp::word*>(words_.data()), words_.size()};
  reader_ = std::make_unique<capnp::SegmentArrayMessageReader>(kj::arrayPtr(&segment_, 1));
}

schema::MdsReply::Reader Answer::reply() const {
  REQUIRE_MESSAGE(ok(), errcName(code()) << ": " << applied_.detail);
  return reader_->getRoot<schema::MdsReply>();
}

schema::Attr::Reader Answer::attr() const {
  auto r = reply();
  REQUIRE((r.isEntry() || r.isAttr()));
  return r.isEntry() ? r.getEntry().getAttr() : r.getAttr();
}

uint64_t Answer::id() const {
  REQUIRE(reply().isId());
  return reply().getId();
}

std::vector<Chunk> Answer::chunks() const {
  auto r = reply();
  auto list = r.isEntry() ? r.getEntry().getChunks() : r.getChunks().getChunks();
  std::vector<Chunk> out;
  for (auto c : list) out.push_back({c.getIndex(), ChunkId(c.getChunk()), PoolId(c.getPool())});
  return out;
}

capnp::Data::Reader asData(std::string_view s) {
  return {reinterpret_cast<const kj::byte*>(s.data()), s.size()};
}

Command command(const Build& build, const By& by) {
  auto message = std::make_unique<capnp::MallocMessageBuilder>();
  auto c = message->initRoot<schema::Command>();
  c.setTimeNs(by.timeNs);
  c.setSession(by.session);
  c.setSeq(by.seq);
  c.setAckedBelow(by.acked);
  c.setRandom(static_cast<uint64_t>(by.timeNs) * 0x9e3779b97f4a7c15ull);
  if (!by.openBy.empty()) {
    auto list = c.initOpenBy(static_cast<uint32_t>(by.openBy.size()));
    for (uint32_t i = 0; i < by.openBy.size(); ++i) list.set(i, by.openBy[i]);
  }
  build(c.initMutation());
  return message;
}

std::string dump(Kv& kv) {
  std::string out;
  auto it = kv.iterate();
  auto add = [&](std::string_view v) {
    auto n = static_cast<uint32_t>(v.size());
    out.append(reinterpret_cast<const char*>(&n), sizeof n);
    out.append(v);
  };
  for (it->seek(""); it->valid(); it->next()) {
    add(it->key());
    add(it->value());
  }
  REQUIRE(it->status().has_value());
  return out;
}

Mds::Mds(uint32_t osds, StateOptions options, uint16_t replicas)
    : options_(options),
      memory_(leveldb::NewMemEnv(leveldb::Env::Default())),
      factory_(makeLevelKvFactory(memory_.get())) {
  reopen();
  if (replicas == 0) return;  // not bootstrapped
  bootstrap(replicas);
  for (uint32_t i = 1; i <= osds; ++i) addOsd(i);
}

Mds::~Mds() {
  if (!machine_) return;
  auto problems = machine_->verify();
  for (const auto& p : problems) MESSAGE(p);
  CHECK(problems.empty());
}

void Mds::reopen() {
  machine_.reset();
  auto kv = factory_->open(reactor_, "/db", {});
  REQUIRE_MESSAGE(kv.has_value(), kv.error().text());
  kv_ = kv->get();
  auto machine = StateMachine::open(std::move(*kv), options_);
  REQUIRE_MESSAGE(machine.has_value(), machine.error().text());
  machine_ = std::move(*machine);
}

Error Mds::tryReopen() {
  machine_.reset();
  auto kv = factory_->open(reactor_, "/db", {});
  REQUIRE(kv.has_value());
  auto machine = StateMachine::open(std::move(*kv), options_);
  return machine ? Error(Errc::kOk) : std::move(machine).error();
}

Answer Mds::run(const Build& build, By by) {
  if (by.timeNs == 0) by.timeNs = now += 1'000'000'000;
  auto message = command(build, by);
  const schema::Command::Reader reader = message->getRoot<schema::Command>().asReader();
  auto applied = machine_->apply(LogIndex(machine_->applied().value + 1), {&reader, 1});
  REQUIRE_MESSAGE(applied.has_value(), applied.error().text());
  return Answer(std::move(applied->front()));
}

Answer Mds::bootstrap(uint16_t replicas) {
  return run([&](auto m) {
    auto b = m.initBootstrap();
    b.initCluster().setHi(kCluster.hi);
    b.getCluster().setLo(kCluster.lo);
    b.setReplicas(replicas);
  });
}

Answer Mds::addOsd(uint64_t uuid, const std::function<void(schema::OsdRegister::Builder)>& more) {
  return run([&](auto m) {
    auto o = m.initOsdRegister();
    o.initUuid().setHi(7);
    o.getUuid().setLo(uuid);
    o.setAddr("10.0.0." + std::to_string(uuid) + ":7100");
    o.setHost("host" + std::to_string(uuid));
    o.setBytesTotal(1ull << 40);
    o.setIncarnation(1);
    if (more) more(o);
  });
}

uint64_t Mds::session() {
  return run([](auto m) {
           auto s = m.initSessionOpen();
           s.setAddr("10.0.0.9:1");
           s.setMount("/mnt");
           s.setHost("client");
           s.setPid(42);
         })
      .id();
}

Answer Mds::endSession(uint64_t id, By by) {
  return run([&](auto m) { m.initSessionEnd().setSession(id); }, std::move(by));
}

Answer Mds::expire(uint64_t id) {
  return run([&](auto m) {
    auto end = m.initSessionEnd();
    end.setSession(id);
    end.setExpired(true);
  });
}

Answer Mds::make(InodeId parent, std::string_view name, uint32_t mode, MakeOptions o, By by) {
  return run(
      [&](auto m) {
        auto k = m.initMake();
        k.setParent(parent.value);
        k.setName(asData(name));
        k.setMode(mode);
        k.setUid(o.uid);
        k.setGid(o.gid);
        k.setRdev(o.rdev);
        k.setTarget(asData(o.target));
        k.setOpen(o.open);
        k.setUmask(o.umask);
        k.setUnnamed(o.unnamed);
      },
      std::move(by));
}

InodeId Mds::file(std::string_view name, InodeId parent) {
  return make(parent, name, S_IFREG | 0644).ino();
}

InodeId Mds::dir(std::string_view name, InodeId parent) {
  return make(parent, name, S_IFDIR | 0755).ino();
}

Answer Mds::link(InodeId ino, InodeId parent, std::string_view name) {
  return run([&](auto m) {
    auto l = m.initLink();
    l.setIno(ino.value);
    l.setParent(parent.value);
    l.setName(asData(name));
  });
}

Answer Mds::remove(InodeId parent, std::string_view name, bool directory, By by) {
  return run(
      [&](auto m) {
        auto r = m.initRemove();
        r.setParent(parent.value);
        r.setName(asData(name));
        r.setDirectory(directory);
      },
      std::move(by));
}

Answer Mds::unlink(std::string_view name, By by) {
  return remove(kRootInode, name, false, std::move(by));
}

Answer Mds::rename(InodeId from, std::string_view name, InodeId to, std::string_view newName,
                   uint32_t flags, By by) {
  return run(
      [&](auto m) {
        auto r = m.initRename();
        r.setParent(from.value);
        r.setName(asData(name));
        r.setNewParent(to.value);
        r.setNewName(asData(newName));
        r.setFlags(flags);
      },
      std::move(by));
}

Answer Mds::setattr(InodeId ino, const std::function<void(schema::Setattr::Builder)>& set, By by) {
  return run(
      [&](auto m) {
        auto s = m.initSetattr();
        s.setIno(ino.value);
        set(s);
      },
      std::move(by));
}

Answer Mds::truncate(InodeId ino, uint64_t size, By by) {
  return setattr(
      ino,
      [&](auto s) {
        s.setSetSize(true);
        s.setSize(size);
      },
      std::move(by));
}

Answer Mds::alloc(InodeId ino, uint32_t first, uint32_t count, By by) {
  return run(
      [&](auto m) {
        auto c = m.initAllocChunks();
        c.setIno(ino.value);
        c.setFirst(first);
        c.setCount(count);
      },
      std::move(by));
}

Answer Mds::allocNear(InodeId ino, uint32_t first, uint32_t count, std::vector<uint64_t> near) {
  return run([&](auto m) {
    auto c = m.initAllocChunks();
    c.setIno(ino.value);
    c.setFirst(first);
    c.setCount(count);
    auto list = c.initNear(static_cast<uint32_t>(near.size()));
    for (uint32_t i = 0; i < near.size(); ++i) list.set(i, near[i]);
  });
}

Answer Mds::removeChunks(InodeId ino, uint32_t first, uint32_t count) {
  return run([&](auto m) {
    auto c = m.initRemoveChunks();
    c.setIno(ino.value);
    c.setFirst(first);
    c.setCount(count);
  });
}

Answer Mds::commit(InodeId ino, uint64_t size, bool tailCleaned, By by) {
  return run(
      [&](auto m) {
        auto c = m.initCommitWrite();
        c.setIno(ino.value);
        c.setSize(size);
        c.setMtimeNs(now);
        c.setSetMtime(true);
        c.setTailCleaned(tailCleaned);
      },
      std::move(by));
}

Answer Mds::tailCleaned(InodeId ino, uint64_t size, By by) {
  return run(
      [&](auto m) {
        auto t = m.initTailCleaned();
        t.setIno(ino.value);
        t.setSize(size);
      },
      std::move(by));
}

Answer Mds::setxattr(InodeId ino, std::string_view name, std::string_view value, uint32_t flags) {
  return run([&](auto m) {
    auto x = m.initSetxattr();
    x.setIno(ino.value);
    x.setName(asData(name));
    x.setValue(asData(value));
    x.setFlags(flags);
  });
}

Answer Mds::removexattr(InodeId ino, std::string_view name) {
  return run([&](auto m) {
    auto x = m.initRemovexattr();
    x.setIno(ino.value);
    x.setName(asData(name));
  });
}

Answer Mds::purge(InodeId ino, uint32_t limit) {
  return run([&](auto m) {
    auto p = m.initPurge();
    p.setIno(ino.value);
    p.setLimit(limit);
  });
}

Answer Mds::releaseOrphan(InodeId ino, uint64_t session) {
  return run([&](auto m) {
    auto r = m.initReleaseOrphan();
    r.setIno(ino.value);
    r.setSession(session);
  });
}

Answer Mds::createPool(std::string_view name, uint16_t replicas,
                       const std::function<void(schema::PoolCreate::Builder)>& more) {
  return run([&](auto m) {
    auto p = m.initPoolCreate();
    p.setName(std::string(name));
    p.setReplicas(replicas);
    p.setAnyClass(true);
    p.setAutoDomain(true);
    if (more) more(p);
  });
}

Answer Mds::osdState(uint32_t id, bool up) {
  return run([&](auto m) {
    auto list = m.initOsdState(1);
    list[0].setId(id);
    list[0].setUp(up);
  });
}

Answer Mds::pause(bool paused) {
  return run([&](auto m) { m.setRebalancePause(paused); });
}

std::vector<OsdId> Mds::away(PgIndex pg, PoolId pool) {
  const std::string key = keys::mapAway(pool, pg);
  auto record = kv_->get(key);
  if (!record && record.error().code == Errc::kNotFound) return {};
  REQUIRE(record.has_value());
  auto list = decodeAway(key, *record);
  REQUIRE(list.has_value());
  return *list;
}

Answer Mds::osdIn(uint32_t id, bool in) {
  return run([&](auto m) {
    auto set = m.initOsdSet();
    set.setId(id);
    set.setSetIn(true);
    set.setIn(in);
  });
}

Answer Mds::report(const std::vector<Report>& changes) {
  return run([&](auto m) {
    auto list = m.initGroupReport(static_cast<uint32_t>(changes.size()));
    for (uint32_t i = 0; i < changes.size(); ++i) {
      const Report& r = changes[i];
      const auto& group = machine_->map().pool(r.pool)->pgs[r.pg];
      list[i].setPool(r.pool.value);
      list[i].setPg(r.pg);
      list[i].setEpoch(r.epoch != 0 ? r.epoch : group.epoch.value);
      list[i].setMember(r.member.value);
      list[i].setKind(r.synced ? schema::GroupChange::Kind::SYNCED
                               : schema::GroupChange::Kind::FAILED);
    }
  });
}

Inode Mds::inode(InodeId ino) {
  auto i = machine_->inode(ino);
  REQUIRE_MESSAGE(i.has_value(), i.error().text());
  return *i;
}

std::vector<std::string> Mds::names(InodeId dir) {
  std::vector<std::string> out;
  auto entries = machine_->readdir(dir, 2, SIZE_MAX);
  REQUIRE(entries.has_value());
  for (auto& e : *entries) out.push_back(e.name);
  std::ranges::sort(out);
  return out;
}

std::vector<Chunk> Mds::chunks(InodeId ino) {
  auto c = machine_->chunks(ino, 0, UINT32_MAX);
  REQUIRE(c.has_value());
  return *c;
}

std::vector<Garbage> Mds::garbage() {
  auto g = machine_->garbage(0, SIZE_MAX);
  REQUIRE(g.has_value());
  return *g;
}

std::vector<Orphan> Mds::orphans() {
  auto o = machine_->orphans(InodeId{}, SIZE_MAX);
  REQUIRE(o.has_value());
  return *o;
}

std::string Mds::records() {
  std::string out;
  auto it = kv_->iterate();
  for (it->seek(""); it->valid(); it->next())
    if (it->key() != "N") out.append(it->key()).append("=").append(it->value()).append("\n");
  return out;
}

}  // namespace cairn::mds::statetest
