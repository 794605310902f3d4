// `cairn osd`: what an administrator does with object storage daemons.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"
#include "tools/cairn/embedded.h"

namespace cairn::tools {

namespace {

constexpr int kOsdStopSec = 60;
constexpr Duration kDownPatience = 15s;

struct OsdOptions {
  Target target;
  uint32_t id = 0;
  std::string weight;
  bool force = false;
};

using FillMutation = std::function<void(schema::Mutation::Builder)>;

Task<Result<void>> mutateMds(Env& env, std::vector<Endpoint> servers, FillMutation fill) {
  MdsConnection connection(env, std::move(servers));
  auto reply = co_await connection.ask(
      [&](schema::MdsRequest::Builder request) { fill(request.initMutate()); });
  co_await connection.close();
  CO_TRY(reply);
  co_return Result<void>{};
}

// Asks for a change, and says `done` when it is made.
int changeCluster(const Target& target, const FillMutation& fill, const std::string& done) {
  auto servers = target.endpoints();
  if (!servers) {
    printError(servers.error());
    return 1;
  }
  const int code =
      runInWorld([&](Env& env, UringReactor&) { return mutateMds(env, *servers, fill); });
  if (code == 0) std::cout << done << "\n";
  return code;
}

std::string osdName(uint32_t id) {
  return "osd." + std::to_string(id);
}

int setIn(const OsdOptions& o, bool in) {
  return changeCluster(
      o.target,
      [&](schema::Mutation::Builder m) {
        auto set = m.initOsdSet();
        set.setId(o.id);
        set.setSetIn(true);
        set.setIn(in);
      },
      in ? osdName(o.id) +
               " is in: its share of the data moves to it; watch with: cairn status "
               "--watch"
         : osdName(o.id) +
               " is out: what it holds moves to others, and it serves until then; "
               "watch with: cairn status --watch");
}

// 1 is 1 TiB, which is what the sizes of OSDs are weighed in.
Result<uint32_t> parseWeight(const std::string& text) {
  if (text == "auto") return 0;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  constexpr double kOne = 65536;
  if (end == text.c_str() || *end != '\0' || !(value * kOne >= 1) || value > kOne - 1)
    return fail(Errc::kInvalid,
                "a weight is a number from 0.00002 to 65535, 1 for 1 TiB, or "
                "'auto' for the size of the OSD: not '" +
                    text + "'");
  return static_cast<uint32_t>(value * kOne);
}

int reweight(const OsdOptions& o) {
  auto weight = parseWeight(o.weight);
  if (!weight) {
    printError(weight.error());
    return 2;
  }
  return changeCluster(
      o.target,
      [&](schema::Mutation::Builder m) {
        auto set = m.initOsdSet();
        set.setId(o.id);
        set.setSetWeight(true);
        set.setWeight(*weight);
      },
      osdName(o.id) + (*weight == 0 ? " weighs what its size says" : " weighs " + o.weight) +
          "; data moves accordingly");
}

// The daemon of an embedded cluster behind an OSD of the map, by its port. It may serve another OSD
// by now: one that got a new store keeps its port and has a new id.
const EmbeddedOsd* daemonOf(const Embedded& e, const ClusterMap& map, const OsdEntry& osd) {
  for (const auto& [id, other] : map.osds)
    if (other.id > osd.id && other.addr == osd.addr) return nullptr;
  for (const auto& o : e.osds)
    if (osd.addr.ends_with(":" + std::to_string(o.port))) return &o;
  return nullptr;
}

bool listed(const ClusterMap& map, OsdId id) {
  for (const auto& [poolId, pool] : map.pools)
    for (const auto& pg : pool.pgs)
      for (const auto* list : {&pg.osds, &pg.joining})
        if (std::find(list->begin(), list->end(), id) != list->end()) return true;
  return false;
}

Task<Result<ClusterMap>> fetchMap(MdsConnection& connection) {
  auto reply = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
  CO_TRY(reply);
  co_return ClusterMap::read(reply->body<schema::MdsReply>().getStatus().getMap());
}

// Of an embedded cluster, whose daemons are ours: one that holds nothing any more is stopped, and
// is waited for to be called down.
Task<Result<void>> retire(Env& env, const Embedded& e, OsdId id) {
  MdsConnection connection(env, {e.mdsEndpoint()});
  Result<void> outcome;
  const TimePoint deadline = env.reactor.now() + kDownPatience;
  bool stopped = false;
  while (true) {
    auto map = co_await fetchMap(connection);
    if (!map) {
      outcome = fail(map.error());
      break;
    }
    const OsdEntry* osd = map->osd(id);
    const EmbeddedOsd* daemon = osd == nullptr ? nullptr : daemonOf(e, *map, *osd);
    if (daemon == nullptr || !osd->up || listed(*map, id)) break;  // the MDS has the last word
    if (!std::exchange(stopped, true)) {
      DaemonProcess process(e, "osd" + std::to_string(daemon->number));
      outcome = process.stop(SIGTERM, kOsdStopSec);
      if (!outcome) break;
    }
    if (env.reactor.now() > deadline) break;
    co_await sleepFor(env.reactor, 100ms);  // between two looks
  }
  co_await connection.close();
  co_return outcome;
}

int removeOsd(const OsdOptions& o) {
  std::optional<Embedded> embedded;
  std::optional<unsigned> number;
  if (o.target.cluster.empty()) {
    auto e = Embedded::load(o.target.data.empty() ? defaultDataDirectory() : o.target.data);
    if (!e) {
      printError(e.error());
      return 1;
    }
    embedded = std::move(*e);
    auto body = [&](Env& env, UringReactor&) -> Task<Result<void>> {
      return retire(env, *embedded, OsdId{o.id});
    };
    if (const int code = runInWorld(body); code != 0) return code;
    const int code = withClusterView(o.target, [&](const ClusterView& v) -> Result<void> {
      if (const OsdEntry* osd = v.map.osd(OsdId{o.id}))
        if (const EmbeddedOsd* daemon = daemonOf(*embedded, v.map, *osd)) number = daemon->number;
      return {};
    });
    if (code != 0) return code;
  }
  const int code = changeCluster(
      o.target,
      [&](schema::Mutation::Builder m) {
        auto remove = m.initOsdRemove();
        remove.setId(o.id);
        remove.setForce(o.force);
      },
      osdName(o.id) + " is removed" +
          (number ? "; its directory " + embedded->path("osd" + std::to_string(*number)) +
                        " can be deleted"
                  : "; its store can be deleted, and cannot come back"));
  if (code != 0 || !number) return code;
  std::erase_if(embedded->osds, [&](const auto& d) { return d.number == *number; });
  auto saved = embedded->save();
  if (!saved) printError(saved.error());
  return saved ? 0 : 1;
}

void addRebalanceCommand(CLI::App& osd, int& exitCode) {
  auto* rebalance = osd.add_subcommand("rebalance", "Hold data back from moving, or let it move");
  rebalance->require_subcommand(1);
  auto command = [&](const char* name, const char* help, bool pause, const char* done) {
    auto* c = rebalance->add_subcommand(name, help);
    auto target = std::make_shared<Target>();
    addTargetOptions(*c, *target);
    c->callback([=, &exitCode] {
      exitCode = changeCluster(
          *target, [pause](schema::Mutation::Builder m) { m.setRebalancePause(pause); }, done);
    });
  };
  command("pause", "Only what is missing is made anew, until resume", true,
          "rebalancing is paused: only copies and shards that are missing are made; go on with: "
          "cairn osd rebalance resume");
  command("resume", "Data moves to where it belongs", false,
          "data moves to where it belongs; watch with: cairn status --watch");
}

}  // namespace

void addOsdAdminCommands(CLI::App& osd, int& exitCode) {
  auto command = [&](const char* name, const char* help) {
    auto* c = osd.add_subcommand(name, help);
    auto o = std::make_shared<OsdOptions>();
    addTargetOptions(*c, o->target);
    c->add_option("ID", o->id, "Its number, from `cairn osd ls`")->required();
    return std::pair(c, o);
  };
  auto [out, outOptions] = command("out", "Move what it holds to others; it serves until then");
  out->callback([o = outOptions, &exitCode] { exitCode = setIn(*o, false); });
  auto [in, inOptions] = command("in", "Give it its share of the data (again)");
  in->callback([o = inOptions, &exitCode] { exitCode = setIn(*o, true); });
  auto [rm, rmOptions] = command("rm", "Forget one that is down and holds nothing that is needed");
  rm->add_flag("--force", rmOptions->force,
               "Even if groups that are down list it, where the others have all of the data");
  rm->callback([o = rmOptions, &exitCode] { exitCode = removeOsd(*o); });
  auto [weigh, weighOptions] = command("reweight", "Set its share of the data");
  weigh->add_option("WEIGHT", weighOptions->weight, "1 for 1 TiB, or auto: by its size")
      ->required();
  weigh->callback([o = weighOptions, &exitCode] { exitCode = reweight(*o); });
  addRebalanceCommand(osd, exitCode);
}

void addPoolAdminCommands(CLI::App& pool, int& exitCode) {
  struct Options {
    Target target;
    std::string name;
    std::vector<std::string> settings;
  };
  auto* set = pool.add_subcommand("set", "Change a pool in use; data moves accordingly");
  auto s = std::make_shared<Options>();
  addTargetOptions(*set, s->target);
  set->add_option("NAME", s->name, "Its name")->required();
  set->add_option("SETTING", s->settings, "replicas=N, min-size=N (or auto), class=ssd|hdd|any")
      ->required()
      ->check([](const std::string& text) -> std::string {
        const auto at = text.find('=');
        const std::string key = text.substr(0, at),
                          value = at == text.npos ? "" : text.substr(at + 1);
        const bool number = !value.empty() && value.size() <= 2 &&
                            value.find_first_not_of("0123456789") == value.npos && value != "0" &&
                            value != "00";
        if (key == "replicas" && number) return "";
        if (key == "min-size" && (number || value == "auto")) return "";
        if (key == "class" && (value == "ssd" || value == "hdd" || value == "any")) return "";
        return "replicas=N, min-size=N or class=ssd|hdd|any, not '" + text + "'";
      });
  set->callback([s, &exitCode] {
    exitCode = changeCluster(
        s->target,
        [&](schema::Mutation::Builder m) {
          auto p = m.initPoolSet();
          p.setName(s->name);
          for (const std::string& text : s->settings) {
            const auto at = text.find('=');
            const std::string key = text.substr(0, at), value = text.substr(at + 1);
            const auto number = static_cast<uint16_t>(std::strtoul(value.c_str(), nullptr, 10));
            if (key == "replicas") {
              p.setSetReplicas(true);
              p.setReplicas(number);
            } else if (key == "min-size") {
              p.setSetMinSize(true);
              p.setMinSize(number);  // auto: 0
            } else {
              p.setSetClass(true);
              p.setAnyClass(value == "any");
              p.setDeviceClass(value == "hdd" ? schema::DeviceClass::HDD
                                              : schema::DeviceClass::SSD);
            }
          }
        },
        "pool " + s->name + " is changed; if data has to move: cairn status --watch");
  });
  auto* rm = pool.add_subcommand("rm", "Remove a pool that no file and no directory uses");
  auto r = std::make_shared<Options>();
  addTargetOptions(*rm, r->target);
  rm->add_option("NAME", r->name, "Its name")->required();
  rm->callback([r, &exitCode] {
    exitCode = changeCluster(
        r->target, [&](schema::Mutation::Builder m) { m.setPoolRemove(r->name); },
        "pool " + r->name + " is removed");
  });
}

}  // namespace cairn::tools
