// `cairn why PATH`: what an operation on PATH waits on, and since when. It asks the daemons, never
// the mount, so it answers while the mount does not.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "common/config/config.h"
#include "common/reactor/sync.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"
#include "tools/cairn/osd_calls.h"
#include "tools/cairn/path_walk.h"

namespace cairn::tools {

namespace {

constexpr Duration kAnswerWithin = 2s;

struct WhyOptions {
  Target target;
  std::string path;
  bool json = false;
};

// A placement group that an operation would need.
struct NeededGroup {
  PoolId pool;
  PgIndex pg;
  ChunkId chunk;  // one of the file's there; 0: it has none yet
  std::string waits;
};

std::string osdText(OsdId id) {
  return "osd." + std::to_string(id.value);
}

std::string inWords(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i)
    out += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return out;
}

std::string inWords(const std::vector<OsdId>& ids) {
  std::vector<std::string> words;
  for (OsdId id : ids) words.push_back(osdText(id));
  return inWords(words);
}

bool isUp(const ClusterMap& map, OsdId id) {
  const OsdEntry* osd = map.osd(id);
  return osd != nullptr && osd->up;
}

std::string downText(const ClusterView& view, OsdId id) {
  auto it = view.downMs.find(id);
  return osdText(id) + " is down" +
         (it == view.downMs.end() ? "" : " since " + std::to_string(it->second / 1000) + " s");
}

std::string allDown(const ClusterView& view) {
  std::vector<std::string> down;
  for (const auto& [id, osd] : view.map.osds)
    if (!osd.up) down.push_back(downText(view, id));
  return inWords(down);
}

// What counts as in sync: copies, or different shards.
std::string partsText(const Pool& pool, size_t n) {
  const char* parts =
      pool.erasureCoded() ? (n == 1 ? " shard" : " shards") : (n == 1 ? " copy" : " copies");
  return std::to_string(n) + parts;
}

// What the map says that operations in the group wait on; empty: nothing.
std::string mapSays(const ClusterView& view, const Pool& pool, const PlacementGroup& pg) {
  if (pg.osds.empty())
    return "it has no OSDs yet: pool " + pool.name + " needs " + std::to_string(pool.width());
  std::vector<std::string> down;
  for (OsdId id : pg.osds)
    if (!isUp(view.map, id)) down.push_back(downText(view, id));
  const std::string nobodyElse = pool.erasureCoded()
                                     ? ", and too few others that are up have their shards of all "
                                       "that was written; start "
                                     : ", and no other that is up has all that was written; start ";
  if (down.size() == pg.osds.size())
    return inWords(down) + nobodyElse + (down.size() == 1 ? "it" : "them") + " again";
  if (!down.empty())
    return inWords(down) + " and is being taken out of the group; others serve it then";
  const size_t inSync = pg.inSync();
  if (inSync >= pool.minSize) return {};
  const std::string away = allDown(view);
  const bool readable = inSync >= pool.needed();
  return (readable ? "writes need " + partsText(pool, pool.minSize)
                   : "reads need " + partsText(pool, pool.needed())) +
         " in sync, and there " + (inSync == 1 ? "is " : "are ") + std::to_string(inSync) +
         ", on " + inWords(pg.osds) + (readable ? "; reads go on" : "; nothing goes on") +
         (pg.joining.empty() || !readable ? "" : "; " + inWords(pg.joining) + " being made equal") +
         (away.empty() ? "" : "; " + away);
}

// Asks the primary for what it answers only when it serves the group, and when no change of the
// chunk is stuck. Nothing is read.
Task<void> askPrimary(OsdCalls& osds, const ClusterView& view, NeededGroup& g) {
  auto group = view.map.group(g.pool, g.pg);
  const OsdId primary = (*group)->osds.front();
  OutMessage m;
  auto body = m.body<schema::OsdRequest>();
  body.setPool(g.pool.value);
  body.setPg(g.pg.value);
  body.setPgEpoch((*group)->epoch.value);
  body.initExtents().setChunk(g.chunk.value);
  auto reply = co_await osds.ask(*view.map.osd(primary), std::move(m), kAnswerWithin);
  // A newer map is on its way to us or to it: whoever is the primary there serves.
  if (reply || reply.error().code == Errc::kStaleEpoch) co_return;
  if (reply.error().code != Errc::kTimeout) {
    g.waits = "its primary " + osdText(primary) + " does not serve it: " + reply.error().text();
    co_return;
  }
  OutMessage ping;
  ping.body<schema::OsdRequest>().setPing();
  const bool lives =
      (co_await osds.ask(*view.map.osd(primary), std::move(ping), kAnswerWithin)).has_value();
  g.waits = lives ? "its primary " + osdText(primary) + " is at a change of chunk " +
                        std::to_string(g.chunk.value) + " that not all members have confirmed"
                  : "its primary " + osdText(primary) +
                        " does not answer, and is not known to be "
                        "down";
}

// One chunk for each group that holds some of the file. Without chunks: every group of its pool,
// as the next chunk goes to any of them.
Task<Result<std::vector<NeededGroup>>> neededGroups(MdsConnection& connection,
                                                    const ClusterMap& map, const WalkedFile& f) {
  std::map<std::pair<PoolId, PgIndex>, ChunkId> found;
  const uint64_t last = (f.size + kChunkSize - 1) / kChunkSize;
  constexpr uint32_t kPage = 1024;
  uint64_t seen = 0;
  // Chunks may lie behind the end of what the MDS knows, and a file may be sparse.
  for (uint64_t first = 0; (first == 0 || first < last) && seen < f.chunkCount; first += kPage) {
    auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
      auto c = b.initChunks();
      c.setIno(f.ino.value);
      c.setFirst(static_cast<uint32_t>(first));
      c.setCount(kPage);
    });
    CO_TRY(reply);
    for (auto c : reply->body<schema::MdsReply>().getChunks().getChunks()) {
      ++seen;
      const Pool* pool = map.pool(PoolId(c.getPool()));
      if (pool == nullptr || pool->pgs.empty()) continue;
      found.try_emplace({pool->id, pool->pgOf(ChunkId(c.getChunk()))}, ChunkId(c.getChunk()));
    }
  }
  if (found.empty())
    if (const Pool* pool = map.pool(f.pool))
      for (uint32_t pg = 0; pg < pool->pgs.size(); ++pg) found[{pool->id, PgIndex(pg)}] = {};
  std::vector<NeededGroup> out;
  for (const auto& [group, chunk] : found) out.push_back({group.first, group.second, chunk, {}});
  co_return out;
}

std::string groupName(const NeededGroup& g) {
  return std::to_string(g.pool.value) + "." + std::to_string(g.pg.value);
}

std::string groupsText(const ClusterMap& map, const std::vector<const NeededGroup*>& groups) {
  constexpr size_t kNamed = 3;
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(groups.size(), kNamed); ++i)
    names.push_back(groupName(*groups[i]));
  if (groups.size() > kNamed) names.push_back(std::to_string(groups.size() - kNamed) + " more");
  return std::string(groups.size() == 1 ? "placement group " : "placement groups ") +
         inWords(names) + " of pool " + map.pool(groups.front()->pool)->name;
}

// A line for each thing that is waited for, with all groups that wait for it.
void printWaits(const ClusterMap& map, const std::vector<NeededGroup>& groups) {
  std::map<std::pair<PoolId, std::string>, std::vector<const NeededGroup*>> byReason;
  for (const auto& g : groups)
    if (!g.waits.empty()) byReason[{g.pool, g.waits}].push_back(&g);
  for (const auto& [reason, waiting] : byReason)
    std::cout << groupsText(map, waiting) << (waiting.size() == 1 ? " waits: " : " wait: ")
              << reason.second << "\n";
}

void printServed(const ClusterMap& map, const std::vector<NeededGroup>& groups) {
  std::vector<const NeededGroup*> all;
  std::vector<OsdId> primaries;
  size_t fewest = SIZE_MAX, joining = 0;
  for (const auto& g : groups) {
    all.push_back(&g);
    const PlacementGroup& pg = **map.group(g.pool, g.pg);
    if (std::ranges::find(primaries, pg.osds.front()) == primaries.end())
      primaries.push_back(pg.osds.front());
    fewest = std::min(fewest, pg.inSync());
    joining += pg.joining.size();
  }
  std::ranges::sort(primaries);
  std::cout << "nothing: " << groupsText(map, all) << (all.size() == 1 ? " is" : " are")
            << " served by " << inWords(primaries) << "; "
            << partsText(*map.pool(groups.front().pool), fewest)
            << (all.size() == 1 ? "" : " or more");
  if (joining > 0) std::cout << ", " << joining << " being made equal";
  std::cout << "\n";
}

nlohmann::json groupJson(const ClusterMap& map, const NeededGroup& g) {
  const PlacementGroup& pg = **map.group(g.pool, g.pg);
  std::vector<uint32_t> osds, joining;
  for (OsdId id : pg.osds) osds.push_back(id.value);
  for (OsdId id : pg.joining) joining.push_back(id.value);
  return {{"pg", groupName(g)},
          {"pool", map.pool(g.pool)->name},
          {"osds", osds},
          {"joining", joining},
          {"waits_on", g.waits.empty() ? nlohmann::json() : nlohmann::json(g.waits)}};
}

bool report(const WhyOptions& o, const WalkedFile& file, const ClusterMap& map,
            const std::vector<NeededGroup>& groups) {
  const bool waits = std::ranges::any_of(groups, [](const auto& g) { return !g.waits.empty(); });
  if (o.json) {
    nlohmann::json j = {{"path", o.path},
                        {"inode", file.ino.value},
                        {"waits", waits},
                        {"mds", {{"answers", true}, {"waits_on", nullptr}}},
                        {"groups", nlohmann::json::array()}};
    for (const auto& g : groups) j["groups"].push_back(groupJson(map, g));
    std::cout << j.dump(2) << "\n";
  } else if (waits) {
    printWaits(map, groups);
  } else if (groups.empty()) {
    std::cout << "nothing: the metadata server answers\n";
  } else {
    printServed(map, groups);
  }
  return waits;
}

Task<Result<bool>> whyOf(MdsConnection& connection, OsdCalls& osds, Env& env, const WhyOptions& o,
                         const WalkedFile& file) {
  auto status = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
  CO_TRY(status);
  const ClusterView view = ClusterView::read(status->body<schema::MdsReply>().getStatus());
  std::vector<NeededGroup> groups;
  if (S_ISREG(file.mode)) {
    auto needed = co_await neededGroups(connection, view.map, file);
    CO_TRY(needed);
    groups = std::move(*needed);
  }
  std::vector<Task<void>> questions;
  for (NeededGroup& g : groups) {
    g.waits = mapSays(view, *view.map.pool(g.pool), **view.map.group(g.pool, g.pg));
    const OsdId primary = (*view.map.group(g.pool, g.pg))->osds.empty()
                              ? OsdId{}
                              : (*view.map.group(g.pool, g.pg))->osds.front();
    if (g.waits.empty() && g.chunk && view.map.osd(primary) != nullptr)
      questions.push_back(askPrimary(osds, view, g));
  }
  co_await whenAll(env.reactor, std::move(questions));
  co_return report(o, file, view.map, groups);
}

void reportMds(const WhyOptions& o, const Error& error) {
  if (o.json)
    std::cout << nlohmann::json{{"path", o.path},
                                {"waits", true},
                                {"mds", {{"answers", false}, {"waits_on", error.message}}},
                                {"groups", nlohmann::json::array()}}
                     .dump(2)
              << "\n";
  else
    std::cout << o.path << " waits: " << error.message << "\n";
}

Task<Result<void>> why(Env& env, const WhyOptions& o, bool& waits) {
  std::string path = o.path;
  constexpr int kMaxMounts = 40;
  for (int i = 0; i < kMaxMounts; ++i) {
    auto entry = enterMount(path);
    CO_TRY(entry);
    std::vector<Endpoint> servers = entry->servers;
    if (!o.target.data.empty() || !o.target.cluster.empty()) {
      auto others = o.target.endpoints();
      CO_TRY(others);
      servers = *others;
    }
    MdsConnection connection(env, servers);
    OsdCalls osds(env);
    Result<bool> found = false;
    auto walked = co_await walk(connection, *entry);
    if (!walked)
      found = fail(walked.error());
    else if (walked->elsewhere.empty())
      found = co_await whyOf(connection, osds, env, o, walked->file);
    co_await osds.close();
    co_await connection.close();
    if (!found && found.error().code == Errc::kUnavailable) {
      reportMds(o, found.error());
      found = true;
    }
    CO_TRY(found);
    waits = *found;
    if (!walked || walked->elsewhere.empty()) co_return Result<void>{};
    path = walked->elsewhere;
  }
  co_return fail(Errc::kLoop, o.path + ": too many symbolic links");
}

}  // namespace

void addWhyCommand(CLI::App& app, int& exitCode) {
  auto o = std::make_shared<WhyOptions>();
  auto* c = app.add_subcommand("why", "What an operation on a path waits on, and since when");
  addTargetOptions(*c, o->target);
  c->add_option("PATH", o->path, "File or directory on a mount")->required();
  c->add_flag("--json", o->json, "Print JSON");
  c->callback([o, &exitCode] {
    bool waits = false;
    exitCode = runInWorld([&](Env& env, UringReactor&) { return why(env, *o, waits); });
    if (waits) exitCode = 1;
  });
}

}  // namespace cairn::tools
