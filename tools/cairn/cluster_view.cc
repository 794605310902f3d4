#include "tools/cairn/cluster_view.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

namespace cairn::tools {

namespace {

std::string text(capnp::Text::Reader t) {
  return {t.begin(), t.size()};
}
const char* className(schema::DeviceClass c) {
  return c == schema::DeviceClass::HDD ? "hdd" : "ssd";
}

}  // namespace

ClusterView ClusterView::read(schema::StatusReply::Reader r) {
  ClusterView v;
  v.map = ClusterMap::read(r.getMap());
  for (auto m : r.getMds())
    v.mds.push_back({m.getId(), m.getPid(), text(m.getAddr()), text(m.getRole())});
  for (auto c : r.getClients())
    v.clients.push_back({c.getId(), text(c.getAddr()), text(c.getMount()), text(c.getHost()),
                         c.getPid(), c.getLeases()});
  for (auto p : r.getProblems()) v.problems.push_back(text(p));
  v.health = text(r.getHealth());
  v.mdsHost = text(r.getHost());
  v.inodes = r.getInodes();
  v.garbageChunks = r.getGarbageChunks();
  for (auto d : r.getDown()) v.downMs[OsdId(d.getOsd())] = d.getForMs();
  v.recovery = {r.getRecovery().getChunksLeft(), r.getRecovery().getBytesLeft(),
                r.getRecovery().getBytesPerSec()};
  auto scrub = r.getScrub();
  v.scrub = {scrub.getGroupsLeft(), scrub.getErrorsFound(), scrub.getErrorsRepaired(),
             scrub.getUnrepairable(), scrub.getOldestNs()};
  for (const auto& [id, pool] : v.map.pools) {
    PoolView p{
        id, pool.name, pool.redundancy(), pool.anyClass ? "any" : className(pool.deviceClass),
        0,  0,         pool.width(),      countPgs(v.map, pool)};
    for (auto use : r.getPools())
      if (use.getId() == id.value) {
        p.chunks = use.getChunks();
        p.bytes = use.getBytes();
      }
    v.pools.push_back(std::move(p));
  }
  return v;
}

nlohmann::json ClusterView::json() const {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  using nlohmann::json;
  json j = {{"cluster", map.cluster.text()},
            {"epoch", map.epoch.value},
            {"health", health},
            {"problems", problems},
            {"rebalance_paused", map.rebalancePaused}};
  auto pidHere = [&](const std::string& where, uint32_t pid) -> json {
    return where == host ? json(pid) : json(nullptr);
  };
  j["mds"] = json::array();
  for (const auto& m : mds)
    j["mds"].push_back(
        {{"id", m.id}, {"addr", m.addr}, {"role", m.role}, {"pid", pidHere(mdsHost, m.pid)}});
  j["osds"] = json::array();
  for (const auto& [id, o] : map.osds)
    j["osds"].push_back({{"id", id.value},
                         {"addr", o.addr},
                         {"pid", pidHere(o.host, o.pid)},
                         {"class", className(o.deviceClass)},
                         {"host", o.host},
                         {"up", o.up},
                         {"in", o.in},
                         {"weight", o.weight / 65536.0},
                         {"bytes_used", o.bytesUsed},
                         {"bytes_total", o.bytesTotal}});
  j["pools"] = json::array();
  for (const auto& p : pools)
    j["pools"].push_back({{"name", p.name},
                          {"redundancy", p.redundancy},
                          {"class", p.deviceClass},
                          {"chunks", p.chunks},
                          {"bytes", p.bytes},
                          {"pgs",
                           {{"clean", p.pgs.clean},
                            {"degraded", p.pgs.degraded},
                            {"recovering", p.pgs.recovering},
                            {"unavailable", p.pgs.unavailable}}}});
  j["clients"] = json::array();
  for (const auto& c : clients)
    j["clients"].push_back({{"id", c.id},
                            {"addr", c.addr},
                            {"mount", c.mount},
                            {"pid", pidHere(c.host, c.pid)},
                            {"leases", c.leases}});
  j["recovery"] = {{"chunks_left", recovery.chunksLeft},
                   {"bytes_left", recovery.bytesLeft},
                   {"bytes_per_sec", recovery.bytesPerSec}};
  j["scrub"] = {{"last_done",
                 scrub.oldestNs == 0 ? nlohmann::json() : nlohmann::json(timeText(scrub.oldestNs))},
                {"groups_left", scrub.groupsLeft},
                {"errors_found", scrub.errorsFound},
                {"errors_repaired", scrub.errorsRepaired},
                {"unrepairable", scrub.unrepairable}};
  return j;
}

int withClusterView(const Target& target,
                    const std::function<Result<void>(const ClusterView&)>& use) {
  auto servers = target.endpoints();
  if (!servers) {
    printError(servers.error());
    return 1;
  }
  struct Ask {
    static Task<Result<void>> run(Env& env, std::vector<Endpoint> to,
                                  const std::function<Result<void>(const ClusterView&)>& use) {
      MdsConnection connection(env, std::move(to));
      auto reply = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
      co_await connection.close();
      CO_TRY(reply);
      co_return use(ClusterView::read(reply->body<schema::MdsReply>().getStatus()));
    }
  };
  return runInWorld([&](Env& env, UringReactor&) { return Ask::run(env, *servers, use); });
}

void printTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i == width.size()) width.push_back(0);
      width[i] = std::max(width[i], row[i].size());
    }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(width[i] + 2 - row[i].size(), ' ');
    }
    std::cout << line << "\n";
  }
}

}  // namespace cairn::tools
