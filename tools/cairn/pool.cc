// `cairn pool create`, `cairn layout get/set`, `cairn stat`: pools, and where a file's data lies.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <limits>
#include <optional>

#include "common/config/config.h"
#include "common/schema/osd.capnp.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"
#include "tools/cairn/erasure_code.h"

namespace cairn::tools {

void addPoolLs(CLI::App& pool, int& exitCode);
void addPoolAdminCommands(CLI::App& pool, int& exitCode);

namespace {

struct PoolOptions {
  Target target;
  std::string name, deviceClass = "any", failureDomain = "auto";
  std::optional<std::string> ec, stripeUnit;
  unsigned replicas = 3, minSize = 0;
};

struct Redundancy {
  uint16_t replicas = 0;
  ErasureCode code;         // unless there are replicas
  uint32_t stripeUnit = 0;  // 0: what is usual

  [[nodiscard]] std::string text() const {
    if (replicas != 0) return std::to_string(replicas) + (replicas == 1 ? " copy" : " copies");
    return std::to_string(code.data) + " data and " + std::to_string(code.parity) +
           " parity shards";
  }
};

Result<Redundancy> redundancyOf(const PoolOptions& o) {
  Redundancy r;
  if (!o.ec) {
    r.replicas = static_cast<uint16_t>(o.replicas);
    return r;
  }
  auto code = parseErasureCode(*o.ec);
  TRY(code);
  r.code = *code;
  if (!o.stripeUnit) return r;
  auto bytes = parseBytes(*o.stripeUnit);
  TRY(bytes);
  if (*bytes == 0 || *bytes > std::numeric_limits<uint32_t>::max())
    return fail(Errc::kInvalid,
                "a stripe unit is a power of two from 4 KiB to 1 MiB, not " + *o.stripeUnit);
  r.stripeUnit = static_cast<uint32_t>(*bytes);
  return r;
}

Task<Result<void>> createPool(Env& env, std::vector<Endpoint> servers, const PoolOptions& o,
                              Redundancy redundancy) {
  MdsConnection connection(env, std::move(servers));
  auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
    auto p = b.initMutate().initPoolCreate();
    p.setName(o.name);
    p.setReplicas(redundancy.replicas);
    p.setEcData(redundancy.code.data);
    p.setEcParity(redundancy.code.parity);
    p.setStripeUnit(redundancy.stripeUnit);
    p.setMinSize(static_cast<uint16_t>(o.minSize));
    p.setAnyClass(o.deviceClass == "any");
    p.setDeviceClass(o.deviceClass == "hdd" ? schema::DeviceClass::HDD : schema::DeviceClass::SSD);
    p.setAutoDomain(o.failureDomain == "auto");
    p.setFailureDomain(o.failureDomain == "host"   ? schema::FailureDomain::HOST
                       : o.failureDomain == "rack" ? schema::FailureDomain::RACK
                                                   : schema::FailureDomain::OSD);
  });
  co_await connection.close();
  CO_TRY(reply);
  std::cout << "pool " << o.name << " keeps " << redundancy.text()
            << "; new files use it under directories with: cairn layout set DIR --pool " << o.name
            << "\n";
  co_return Result<void>{};
}

// What the MDS knows of one inode.
struct FileView {
  ClusterView cluster;
  PoolId pool;
  uint64_t ino = 0, size = 0;
  uint32_t mode = 0, nlink = 0, uid = 0, gid = 0;
  int64_t mtimeNs = 0;
  uint32_t chunkCount = 0;
};

Task<Result<FileView>> lookAt(MdsConnection& connection, InodeId ino) {
  auto status = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
  CO_TRY(status);
  auto attr =
      co_await connection.ask([ino](schema::MdsRequest::Builder b) { b.setGetattr(ino.value); });
  CO_TRY(attr);
  FileView f;
  f.cluster = ClusterView::read(status->body<schema::MdsReply>().getStatus());
  auto a = attr->body<schema::MdsReply>().getAttr();
  f.pool = PoolId(a.getPool());
  f.ino = a.getIno();
  f.size = a.getSize();
  f.mode = a.getMode();
  f.nlink = a.getNlink();
  f.uid = a.getUid();
  f.gid = a.getGid();
  f.mtimeNs = a.getMtimeNs();
  f.chunkCount = a.getChunkCount();
  co_return f;
}

std::string poolName(const FileView& f, PoolId id) {
  const Pool* p = f.cluster.map.pool(id);
  return p == nullptr ? "pool " + std::to_string(id.value) : p->name;
}

Task<Result<void>> layoutGet(Env& env, MountedPath at, std::string path, bool asJson) {
  MdsConnection connection(env, at.servers);
  auto f = co_await lookAt(connection, at.ino);
  co_await connection.close();
  CO_TRY(f);
  const Pool* p = f->cluster.map.pool(f->pool);
  std::string redundancy = p == nullptr ? "?" : p->redundancy();
  const uint32_t stripeUnit = p == nullptr ? 0 : p->stripeUnit;
  if (asJson) {
    nlohmann::json j = {{"path", path},
                        {"pool", poolName(*f, f->pool)},
                        {"redundancy", redundancy},
                        {"chunk_bytes", kChunkSize}};
    if (stripeUnit != 0) j["stripe_unit_bytes"] = stripeUnit;
    std::cout << j.dump(2) << "\n";
  } else
    std::cout << path << ": pool " << poolName(*f, f->pool) << " (" << redundancy << "), chunks of "
              << formatBytes(kChunkSize)
              << (stripeUnit == 0 ? "" : ", stripe units of " + formatBytes(stripeUnit))
              << (at.isDirectory ? "; new files in it inherit this" : "") << "\n";
  co_return Result<void>{};
}

Task<Result<void>> layoutSet(Env& env, MountedPath at, std::string path, std::string pool) {
  if (!at.isDirectory)
    co_return fail(
        Errc::kNotDirectory,
        path + ": a layout is set on a directory and used by the files made in it afterwards");
  MdsConnection connection(env, at.servers);
  auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
    auto s = b.initMutate().initSetLayout();
    s.setIno(at.ino.value);
    s.setPool(pool);
  });
  co_await connection.close();
  CO_TRY(reply);
  std::cout << "new files under " << path << " use pool " << pool
            << "; those that are there stay where they are\n";
  co_return Result<void>{};
}

struct ChunkView {
  uint32_t index = 0;
  ChunkId id;
  PoolId pool;
  PgIndex pg;
  std::vector<OsdId> osds;
  std::vector<unsigned> shards;       // which each of them holds; none in a pool of copies
  std::vector<std::string> versions;  // as each of them says
};

// Asks every OSD of the chunk's group for its version.
Task<void> askVersions(Env& env, const FileView& f, ChunkView& chunk) {
  for (OsdId id : chunk.osds) {
    const OsdEntry* osd = f.cluster.map.osd(id);
    auto to = osd == nullptr ? Result<Endpoint>(fail(Errc::kNotFound)) : parseEndpoint(osd->addr);
    if (!to) {
      chunk.versions.emplace_back("?");
      continue;
    }
    RpcClient::Options options;
    options.to = *to;
    options.connectTimeout = 1s;
    RpcClient client(env, std::move(options));
    OutMessage m;
    auto body = m.body<schema::OsdRequest>();
    body.setPool(chunk.pool.value);
    body.setPg(chunk.pg.value);
    auto group = f.cluster.map.group(chunk.pool, chunk.pg);
    if (group) body.setPgEpoch((*group)->epoch.value);
    body.initStat().setChunk(chunk.id.value);
    auto reply = co_await client.call(std::move(m), 2s);
    if (!reply) {
      chunk.versions.push_back(reply.error().text());
    } else {
      auto s = reply->body<schema::OsdReply>().getStat();
      chunk.versions.push_back(s.getExists() ? std::to_string(s.getVersion()) : "none");
    }
    co_await client.close();
  }
}

void printFile(const std::string& path, const FileView& f, const std::vector<ChunkView>& chunks) {
  char mode[8];
  std::snprintf(mode, sizeof mode, "%06o", f.mode);
  std::cout << path << "\n  inode " << f.ino << ", mode " << mode << ", links " << f.nlink
            << ", owner " << f.uid << ":" << f.gid << "\n  size " << f.size << " bytes ("
            << formatBytes(f.size) << "), modified " << timeText(f.mtimeNs) << "\n  pool "
            << poolName(f, f.pool) << ", " << f.chunkCount << " chunks\n";
  if (chunks.empty()) return;
  const bool shards = std::ranges::any_of(chunks, [](const auto& c) { return !c.shards.empty(); });
  std::vector<std::vector<std::string>> rows = {
      {"  INDEX", "CHUNK", "GROUP", shards ? "OSDS:SHARDS (primary first)" : "OSDS (primary first)",
       "VERSIONS"}};
  for (const auto& c : chunks) {
    std::string osds, versions;
    for (size_t i = 0; i < c.osds.size(); ++i)
      osds += (i == 0 ? "" : ",") + std::to_string(c.osds[i].value) +
              (c.shards.empty() ? "" : ":" + std::to_string(c.shards[i]));
    for (const auto& v : c.versions) versions += (versions.empty() ? "" : ",") + v;
    rows.push_back({"  " + std::to_string(c.index), std::to_string(c.id.value),
                    std::to_string(c.pool.value) + "." + std::to_string(c.pg.value), osds,
                    versions});
  }
  printTable(rows);
}

Task<Result<void>> statPath(Env& env, MountedPath at, std::string path, bool asJson) {
  MdsConnection connection(env, at.servers);
  auto f = co_await lookAt(connection, at.ino);
  std::vector<ChunkView> chunks;
  Result<void> outcome;
  uint64_t last = f ? (f->size + kChunkSize - 1) / kChunkSize : 0;
  constexpr uint32_t kPage = 1024;
  // A file may be sparse up to 2^50 bytes: stop when all chunks that exist were seen.
  for (uint64_t first = 0; f && first < last && chunks.size() < f->chunkCount; first += kPage) {
    auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
      auto c = b.initChunks();
      c.setIno(at.ino.value);
      c.setFirst(static_cast<uint32_t>(first));
      c.setCount(kPage);
    });
    if (!reply) {
      outcome = fail(reply.error());
      break;
    }
    for (auto c : reply->body<schema::MdsReply>().getChunks().getChunks()) {
      ChunkView v{c.getIndex(), ChunkId(c.getChunk()), PoolId(c.getPool()), {}, {}, {}, {}};
      if (const Pool* pool = f->cluster.map.pool(v.pool); pool != nullptr && !pool->pgs.empty()) {
        v.pg = pool->pgOf(v.id);
        const PlacementGroup& group = pool->pgs[v.pg.value];
        v.osds = group.osds;
        if (pool->erasureCoded())
          for (OsdId id : group.osds) v.shards.push_back(group.shardOf(id));
      }
      co_await askVersions(env, *f, v);
      chunks.push_back(std::move(v));
    }
  }
  co_await connection.close();
  CO_TRY(f);
  CO_TRY(outcome);
  if (!asJson) {
    printFile(path, *f, chunks);
    co_return Result<void>{};
  }
  nlohmann::json j = {{"path", path},
                      {"inode", f->ino},
                      {"mode", f->mode},
                      {"nlink", f->nlink},
                      {"uid", f->uid},
                      {"gid", f->gid},
                      {"size", f->size},
                      {"pool", poolName(*f, f->pool)},
                      {"chunks", nlohmann::json::array()}};
  for (const auto& c : chunks) {
    std::vector<uint32_t> osds;
    for (OsdId id : c.osds) osds.push_back(id.value);
    j["chunks"].push_back({{"index", c.index},
                           {"id", c.id.value},
                           {"pg", std::to_string(c.pool.value) + "." + std::to_string(c.pg.value)},
                           {"osds", osds},
                           {"versions", c.versions}});
    if (!c.shards.empty()) j["chunks"].back()["shards"] = c.shards;
  }
  std::cout << j.dump(2) << "\n";
  co_return Result<void>{};
}

// Runs `body` with the inode behind `path`; with --data or --cluster those servers are asked
// instead of the mount's.
int onPath(const std::string& path, const Target& target,
           const std::function<Task<Result<void>>(Env&, MountedPath)>& body) {
  auto at = mountedPath(path);
  if (at && (!target.data.empty() || !target.cluster.empty())) {
    auto servers = target.endpoints();
    if (!servers)
      at = fail(servers.error());
    else
      at->servers = *servers;
  }
  if (!at) {
    printError(at.error());
    return 1;
  }
  return runInWorld([&](Env& env, UringReactor&) { return body(env, *at); });
}

}  // namespace

void addPoolCommand(CLI::App& app, int& exitCode) {
  auto* pool = app.add_subcommand("pool", "Pools: kinds of redundancy");
  pool->require_subcommand(1);
  addPoolLs(*pool, exitCode);
  addPoolAdminCommands(*pool, exitCode);
  auto* create = pool->add_subcommand("create", "Make a pool");
  auto o = std::make_shared<PoolOptions>();
  addTargetOptions(*create, o->target);
  create->add_option("NAME", o->name, "Its name")->required();
  auto* replicas =
      create->add_option("--replicas", o->replicas, "Copies of every chunk (default: 3)")
          ->check(CLI::Range(1, 7))
          ->type_name("N");
  auto* code =
      create
          ->add_option("--ec", o->ec,
                       "Instead of copies an erasure code: K data shards, from 2 to 16, and M "
                       "parity shards, from 1 to 4; any M of them may be lost")
          ->excludes(replicas)
          ->type_name("K+M");
  create
      ->add_option("--stripe-unit", o->stripeUnit,
                   "Of an erasure code: bytes that lie together on one shard, a power of two from "
                   "4 KiB to 1 MiB (default: 64 KiB)")
      ->needs(code)
      ->type_name("SIZE");
  create
      ->add_option("--min-size", o->minSize,
                   "With fewer copies or shards in sync writes wait (default: more than half of "
                   "the copies, 1 of 2; K+1 shards, or K if M is 1)")
      ->check(CLI::Range(1, 20))
      ->type_name("N");
  create->add_option("--class", o->deviceClass, "Devices to use: ssd, hdd or any (default: any)")
      ->check(CLI::IsMember({"ssd", "hdd", "any"}))
      ->type_name("CLASS");
  create
      ->add_option(
          "--failure-domain", o->failureDomain,
          "Keep copies apart by osd, host or rack (default: host if there are enough hosts)")
      ->check(CLI::IsMember({"auto", "osd", "host", "rack"}))
      ->type_name("DOMAIN");
  create->callback([o, &exitCode] {
    auto servers = o->target.endpoints();
    if (!servers) {
      printError(servers.error());
      exitCode = 1;
      return;
    }
    auto redundancy = redundancyOf(*o);
    if (!redundancy) {
      printError(redundancy.error());
      exitCode = 2;
      return;
    }
    exitCode = runInWorld(
        [&](Env& env, UringReactor&) { return createPool(env, *servers, *o, *redundancy); });
  });
}

void addLayoutCommand(CLI::App& app, int& exitCode) {
  struct Options {
    Target target;
    std::string path, pool;
    bool json = false;
  };
  auto* layout = app.add_subcommand("layout", "Which pool new files use");
  layout->require_subcommand(1);
  auto* get = layout->add_subcommand("get", "Show it");
  auto g = std::make_shared<Options>();
  addTargetOptions(*get, g->target);
  get->add_option("PATH", g->path, "File or directory on a mount")->required();
  get->add_flag("--json", g->json, "Print JSON");
  get->callback([g, &exitCode] {
    exitCode = onPath(g->path, g->target, [&](Env& env, MountedPath at) {
      return layoutGet(env, at, g->path, g->json);
    });
  });
  auto* set = layout->add_subcommand("set", "Set it for the files made in a directory from now on");
  auto s = std::make_shared<Options>();
  addTargetOptions(*set, s->target);
  set->add_option("DIR", s->path, "Directory on a mount")->required();
  set->add_option("--pool", s->pool, "Name of the pool")->required()->type_name("NAME");
  set->callback([s, &exitCode] {
    exitCode = onPath(s->path, s->target, [&](Env& env, MountedPath at) {
      return layoutSet(env, at, s->path, s->pool);
    });
  });
}

void addStatCommand(CLI::App& app, int& exitCode) {
  struct Options {
    Target target;
    std::string path;
    bool json = false;
  };
  auto* c = app.add_subcommand("stat", "Inode, layout, chunks: id, version, placement group, OSDs");
  auto o = std::make_shared<Options>();
  addTargetOptions(*c, o->target);
  c->add_option("PATH", o->path, "File or directory on a mount")->required();
  c->add_flag("--json", o->json, "Print JSON");
  c->callback([o, &exitCode] {
    exitCode = onPath(o->path, o->target, [&](Env& env, MountedPath at) {
      return statPath(env, at, o->path, o->json);
    });
  });
}

}  // namespace cairn::tools
