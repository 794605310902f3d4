// `cairn status`, `cairn df`, `cairn osd ls`, `cairn pool ls`: what the cluster looks like now.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <thread>

#include "common/config/config.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"

namespace cairn::tools {

void addOsdAdminCommands(CLI::App& osd, int& exitCode);
void addOsdAddCommand(CLI::App& osd, int& exitCode);

namespace {

std::string percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? "-" : std::to_string(part * 100 / whole) + " %";
}

// 1 for 1 TiB; with a star if it was set by hand.
std::string weightText(const OsdEntry& o) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g%s", o.weight / 65536.0, o.fixedWeight ? " *" : "");
  return text;
}

std::vector<std::vector<std::string>> osdTable(const ClusterView& v) {
  std::vector<std::vector<std::string>> rows = {
      {"OSD", "ADDRESS", "HOST", "CLASS", "STATE", "WEIGHT", "USED", "SIZE", "USE"}};
  for (const auto& [id, o] : v.map.osds)
    rows.push_back({std::to_string(id.value), o.addr, o.host,
                    o.deviceClass == schema::DeviceClass::HDD ? "hdd" : "ssd",
                    std::string(o.up ? "up" : "down") + (o.in        ? ", in"
                                                         : o.autoOut ? ", lost"
                                                                     : ", out"),
                    weightText(o), formatBytes(o.bytesUsed), formatBytes(o.bytesTotal),
                    percent(o.bytesUsed, o.bytesTotal)});
  return rows;
}

std::string groups(const PgCounts& n) {
  std::string text = std::to_string(n.clean) + " clean";
  if (n.degraded != 0) text += ", " + std::to_string(n.degraded) + " degraded";
  if (n.recovering != 0) text += ", " + std::to_string(n.recovering) + " recovering";
  if (n.unavailable != 0) text += ", " + std::to_string(n.unavailable) + " unavailable";
  return text;
}

std::vector<std::vector<std::string>> poolTable(const ClusterView& v) {
  std::vector<std::vector<std::string>> rows = {
      {"POOL", "REDUNDANCY", "CLASS", "CHUNKS", "DATA", "PLACEMENT GROUPS"}};
  for (const auto& p : v.pools)
    rows.push_back({p.name, p.redundancy, p.deviceClass, std::to_string(p.chunks),
                    formatBytes(p.bytes), groups(p.pgs)});
  return rows;
}

Result<void> showStatus(const ClusterView& v) {
  std::cout << "cluster  " << v.map.cluster.text() << "  (map epoch " << v.map.epoch.value << ")\n";
  std::cout << "health   " << v.health << "\n";
  for (const auto& p : v.problems) std::cout << "         - " << p << "\n";
  std::cout << "inodes   " << v.inodes;
  if (v.garbageChunks != 0) std::cout << ", " << v.garbageChunks << " deleted chunks being freed";
  std::cout << "\n";
  if (const auto& r = v.recovery; r.chunksLeft != 0)
    std::cout << "recovery " << r.chunksLeft << " chunks (" << formatBytes(r.bytesLeft)
              << ") left, at " << formatBytes(r.bytesPerSec) << "/s\n";
  if (v.map.rebalancePaused)
    std::cout << "moves    paused; go on with: cairn osd rebalance resume\n";
  std::cout << "\n";
  std::vector<std::vector<std::string>> mds = {{"MDS", "ADDRESS", "ROLE"}};
  for (const auto& m : v.mds) mds.push_back({std::to_string(m.id), m.addr, m.role});
  printTable(mds);
  std::cout << "\n";
  printTable(osdTable(v));
  std::cout << "\n";
  printTable(poolTable(v));
  if (!v.clients.empty()) {
    std::cout << "\n";
    std::vector<std::vector<std::string>> rows = {{"CLIENT", "HOST", "MOUNT", "ADDRESS"}};
    for (const auto& c : v.clients) rows.push_back({std::to_string(c.id), c.host, c.mount, c.addr});
    printTable(rows);
  }
  return {};
}

// Space for users in a pool: the raw space of the OSDs it may use over its copies.
nlohmann::json poolSpace(const ClusterView& v, const PoolView& p) {
  const Pool* pool = v.map.pool(p.id);
  uint64_t total = 0, used = 0;
  for (const auto& [id, o] : v.map.osds)
    if (o.in && (pool->anyClass || o.deviceClass == pool->deviceClass)) {
      total += o.bytesTotal;
      used += o.bytesUsed;
    }
  uint64_t data = pool->replicas != 0 ? 1 : pool->ecData;
  return {{"name", p.name},
          {"redundancy", p.redundancy},
          {"bytes_total", total * data / p.width},
          {"bytes_free", (total - used) * data / p.width},
          {"bytes", p.bytes},
          {"chunks", p.chunks}};
}

Result<void> showDf(const ClusterView& v, bool asJson) {
  uint64_t total = 0, used = 0;
  for (const auto& [id, o] : v.map.osds)
    if (o.in) {
      total += o.bytesTotal;
      used += o.bytesUsed;
    }
  nlohmann::json j = {{"raw_bytes_total", total},
                      {"raw_bytes_used", used},
                      {"inodes", v.inodes},
                      {"pools", nlohmann::json::array()}};
  for (const auto& p : v.pools) j["pools"].push_back(poolSpace(v, p));
  if (asJson) {
    std::cout << j.dump(2) << "\n";
    return {};
  }
  std::cout << "raw space  " << formatBytes(used) << " of " << formatBytes(total) << " used ("
            << percent(used, total) << ")\n\n";
  std::vector<std::vector<std::string>> rows = {{"POOL", "REDUNDANCY", "SIZE", "FREE", "CHUNKS"}};
  for (const auto& p : j["pools"])
    rows.push_back({p["name"], p["redundancy"], formatBytes(p["bytes_total"]),
                    formatBytes(p["bytes_free"]), std::to_string(p["chunks"].get<uint64_t>())});
  printTable(rows);
  return {};
}

struct ShowOptions {
  Target target;
  bool json = false, watch = false;
};

// How far recovery has come since it had most to do, as long as it is being watched.
std::string progress(const ClusterView& v, uint64_t& most) {
  constexpr size_t kBar = 40;
  const auto& r = v.recovery;
  most = r.chunksLeft == 0 ? 0 : std::max(most, r.chunksLeft);
  if (most == 0) return "nothing to recover";
  const size_t done = static_cast<size_t>((most - r.chunksLeft) * kBar / most);
  std::string line = "[" + std::string(done, '#') + std::string(kBar - done, '.') + "] " +
                     std::to_string((most - r.chunksLeft) * 100 / most) + " %, " +
                     formatBytes(r.bytesLeft) + " left";
  if (r.bytesPerSec != 0)
    line += " at " + formatBytes(r.bytesPerSec) + "/s, about " +
            std::to_string(r.bytesLeft / r.bytesPerSec + 1) + " s";
  return line;
}

// On a terminal a page that is drawn again; elsewhere a line each time, or a JSON document.
int watchStatus(const ShowOptions& o) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  uint64_t most = 0;
  while (true) {
    const int code = withClusterView(o.target, [&](const ClusterView& v) -> Result<void> {
      if (o.json) {
        std::cout << v.json().dump() << std::endl;
      } else if (terminal) {
        std::cout << "\033[H\033[2J";
        TRY(showStatus(v));
        std::cout << "\n" << progress(v, most) << std::endl;
      } else {
        PgCounts sum;
        for (const auto& p : v.pools) {
          sum.clean += p.pgs.clean;
          sum.recovering += p.pgs.recovering;
          sum.degraded += p.pgs.degraded;
          sum.unavailable += p.pgs.unavailable;
        }
        std::cout << v.health << ", " << groups(sum) << ", " << progress(v, most) << std::endl;
      }
      return {};
    });
    if (code != 0) return code;
    std::this_thread::sleep_for(1s);
  }
}

std::shared_ptr<ShowOptions> addShowOptions(CLI::App& c) {
  auto o = std::make_shared<ShowOptions>();
  addTargetOptions(c, o->target);
  c.add_flag("--json", o->json, "Print JSON");
  return o;
}

}  // namespace

void addStatusCommand(CLI::App& app, int& exitCode) {
  auto* c = app.add_subcommand("status", "Health in one look");
  auto o = addShowOptions(*c);
  c->add_flag("--watch", o->watch, "Show it again every second, until interrupted");
  c->callback([o, &exitCode] {
    if (o->watch) {
      exitCode = watchStatus(*o);
      return;
    }
    exitCode = withClusterView(o->target, [&](const ClusterView& v) -> Result<void> {
      if (!o->json) return showStatus(v);
      std::cout << v.json().dump(2) << "\n";
      return {};
    });
  });
}

void addDfCommand(CLI::App& app, int& exitCode) {
  auto* c = app.add_subcommand("df", "Capacity");
  auto o = addShowOptions(*c);
  c->callback([o, &exitCode] {
    exitCode = withClusterView(o->target, [&](const ClusterView& v) { return showDf(v, o->json); });
  });
}

void addOsdCommand(CLI::App& app, int& exitCode) {
  auto* osd = app.add_subcommand("osd", "Object storage daemons");
  osd->require_subcommand(1);
  addOsdAdminCommands(*osd, exitCode);
  addOsdAddCommand(*osd, exitCode);
  auto* ls = osd->add_subcommand("ls", "List them");
  auto o = addShowOptions(*ls);
  ls->callback([o, &exitCode] {
    exitCode = withClusterView(o->target, [&](const ClusterView& v) -> Result<void> {
      if (o->json)
        std::cout << v.json()["osds"].dump(2) << "\n";
      else
        printTable(osdTable(v));
      return {};
    });
  });
}

void addPoolLs(CLI::App& pool, int& exitCode) {
  auto* ls = pool.add_subcommand("ls", "List them");
  auto o = addShowOptions(*ls);
  ls->callback([o, &exitCode] {
    exitCode = withClusterView(o->target, [&](const ClusterView& v) -> Result<void> {
      if (o->json)
        std::cout << v.json()["pools"].dump(2) << "\n";
      else
        printTable(poolTable(v));
      return {};
    });
  });
}

}  // namespace cairn::tools
