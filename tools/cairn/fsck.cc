// `cairn fsck`: what the metadata server knows against what the OSDs store. It needs no quiet:
// files may be made, written and deleted meanwhile. It changes nothing unless it is told to mend
// what it has found (fsck_repair.h).
//
// How that is exact. First the MDS is asked for all chunks that it knows, in an order in which none
// can slip by (ChunkListPlace), and from which id on it has handed out none yet. Then the OSDs are
// asked what they store. A chunk they store now, below that id, was known to the MDS at some moment
// of the walk, or else nobody has known it since the walk began. What looks wrong is looked at
// again after longer than a mutation or a removal may take, and counts if nothing has changed.
//
// Memory: 24 bytes a chunk that the MDS knows, and a page of each OSD.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <unordered_map>

#include "common/base/units.h"
#include "common/reactor/sync.h"
#include "tools/cairn/chunk_findings.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"
#include "tools/cairn/fsck_repair.h"
#include "tools/cairn/osd_calls.h"
#include "tools/cairn/stored_chunks.h"

namespace cairn::tools {

namespace {

// A member that does not confirm a mutation within 5 s is not in sync any more (osd/README.md).
constexpr Duration kUntilSettled = 6s;
constexpr size_t kMaxFindings = 10'000;

struct FsckOptions {
  Target target;
  bool json = false, repair = false;
};

struct KnownChunks {
  std::vector<KnownChunk> chunks;  // ascending by id
  ChunkId below;                   // ids from here on are younger than the walk
  uint64_t garbage = 0;

  // Null: the MDS does not know it. `from` is where the search before ended.
  [[nodiscard]] const KnownChunk* find(ChunkId id, size_t& from) const {
    while (from < chunks.size() && chunks[from].id < id) ++from;
    return from < chunks.size() && chunks[from].id == id ? &chunks[from] : nullptr;
  }
};
static_assert(sizeof(KnownChunk) == 24);

Task<Result<KnownChunks>> askKnown(MdsConnection& connection) {
  KnownChunks known;
  struct {
    uint64_t ino = 0, position = 0;
    uint32_t index = 0;
    bool garbage = false;
  } place;
  for (bool end = false, first = true; !end; first = false) {
    auto reply = co_await connection.ask(
        [&](schema::MdsRequest::Builder b) {
          auto p = b.initChunkList();
          p.setIno(place.ino);
          p.setIndex(place.index);
          p.setGarbage(place.garbage);
          p.setPosition(place.position);
        },
        kListTimeout);
    CO_TRY(reply);
    auto page = reply->body<schema::MdsReply>().getChunkList();
    if (first) known.below = ChunkId(page.getBelow());
    for (auto c : page.getChunks()) {
      known.chunks.push_back(
          {ChunkId(c.getChunk()), InodeId(c.getIno()), c.getIndex(), PoolId(c.getPool())});
    }
    auto next = page.getNext();
    place = {next.getIno(), next.getPosition(), next.getIndex(), next.getGarbage()};
    end = page.getEnd();
  }
  // A chunk that was deleted on the way is there twice, and garbage.
  std::ranges::sort(known.chunks, {}, [](const KnownChunk& c) { return std::pair(c.id, c.ino); });
  const auto twice = std::ranges::unique(known.chunks, {}, &KnownChunk::id);
  known.chunks.erase(twice.begin(), twice.end());
  known.garbage = static_cast<uint64_t>(
      std::ranges::count_if(known.chunks, [](const KnownChunk& c) { return !c.ino; }));
  co_return known;
}

struct Checked {
  uint64_t stored = 0;  // chunks, each counted once
  std::vector<OsdId> looked, away;
  std::vector<Finding> findings;
  bool more = false;            // than kMaxFindings
  std::vector<Repair> repairs;  // of each finding, if they were to be mended

  [[nodiscard]] size_t left() const {
    return findings.size() - static_cast<size_t>(std::ranges::count_if(repairs, &Repair::done));
  }
};

// The first look, at everything.
Task<Result<Checked>> compare(Env& env, OsdCalls& calls, const ClusterMap& map,
                              const KnownChunks& known) {
  Checked out;
  const std::set<OsdId> up = upOsds(map);
  std::vector<StoredWalk> walks;
  for (const auto& [id, osd] : map.osds) {
    (osd.up ? out.looked : out.away).push_back(id);
    if (!osd.up) continue;
    for (StoredKind kind : storedKinds(map)) walks.emplace_back(calls, osd, kind);
  }
  size_t place = 0;
  while (true) {
    CO_TRY(co_await fillAll(env, walks));
    auto [id, stored] = takeNext(walks);
    if (stored.empty()) break;
    ++out.stored;
    const KnownChunk* chunk = known.find(id, place);
    if (chunk == nullptr && id >= known.below) continue;
    for (auto& finding : judgeChunk(map, up, id, chunk, stored)) {
      out.more = out.more || out.findings.size() >= kMaxFindings;
      if (!out.more) out.findings.push_back(std::move(finding));
    }
  }
  co_return out;
}

Task<Result<void>> lookAgain(Env& env, MdsConnection& connection, OsdCalls& calls,
                             std::vector<Finding>& findings) {
  if (findings.empty()) co_return Result<void>{};
  co_await sleepFor(env.reactor, kUntilSettled);
  auto map = co_await askMap(connection);
  CO_TRY(map);
  std::vector<Finding> standing;
  for (auto& finding : findings) {
    auto now = co_await findAgain(env, calls, *map, finding);
    CO_TRY(now);
    if (std::ranges::any_of(*now, [&](const Finding& f) { return f.same(finding); }))
      standing.push_back(std::move(finding));
  }
  findings = std::move(standing);
  co_return Result<void>{};
}

// What the scrubs found lost, of chunks that files have. An OSD that leads a group knows of it.
Task<Result<std::vector<Finding>>> askDamaged(OsdCalls& calls, const ClusterMap& map,
                                              const KnownChunks& known) {
  std::vector<Finding> findings;
  for (const auto& [id, osd] : map.osds) {
    ChunkId last;
    for (bool more = osd.up; more;) {
      OutMessage m;
      auto ask = m.body<schema::OsdRequest>().initDamaged();
      ask.setAfter(last.value);
      ask.setLimit(256);
      auto reply = co_await calls.ask(osd, std::move(m), kListTimeout);
      CO_TRY(reply);
      auto page = reply->body<schema::OsdReply>().getDamaged();
      more = page.getMore() && page.getChunks().size() != 0;
      for (auto c : page.getChunks()) {
        last = ChunkId(c.getChunk());
        size_t place = 0;
        const KnownChunk* chunk = known.find(last, place);
        if (chunk == nullptr || !chunk->ino) continue;
        Finding f{Trouble::kDamaged, last, PoolId(c.getPool()), PgIndex(c.getPg()), *chunk, {}, {}};
        for (auto r : c.getRanges()) {
          const uint64_t from = chunk->index * kChunkSize + r.getOffset();
          f.ranges.emplace_back(from, r.getLength());
          f.text += (f.text.empty() ? "bytes " : ", ") + std::to_string(from) + " to " +
                    std::to_string(from + r.getLength() - 1);
        }
        f.text += " are lost: nothing good of them was left at the last scrub";
        findings.push_back(std::move(f));
      }
    }
  }
  co_return findings;
}

// One directory of the way down to where a walk through the namespace is.
struct DirectoryStep {
  InodeId ino;
  std::string path;
  uint64_t cookie = 0;
  bool end = false;
  std::vector<std::pair<InodeId, std::string>> below;  // directories of this page, still to do
};

using Paths = std::unordered_map<uint64_t, std::string>;  // by inode; empty: none is found yet

// Reads one page; directories of it are left in `step.below`.
Task<Result<void>> readPage(MdsConnection& connection, DirectoryStep& step, Paths& paths,
                            size_t& missing) {
  constexpr uint8_t kDirectory = 4;  // DT_DIR
  auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
    auto r = b.initReaddir();
    r.setIno(step.ino.value);
    r.setCookie(step.cookie);
    r.setLimit(4096);
  });
  // Removed meanwhile.
  if (!reply && (reply.error().code == Errc::kStale || reply.error().code == Errc::kNotFound)) {
    step.end = true;
    co_return Result<void>{};
  }
  CO_TRY(reply);
  auto page = reply->body<schema::MdsReply>().getReaddir();
  for (auto e : page.getEntries()) {
    step.cookie = e.getCookie();
    const std::string name(e.getName().asChars().begin(), e.getName().size());
    if (name == "." || name == "..") continue;
    if (e.getType() == kDirectory) step.below.emplace_back(InodeId(e.getIno()), name);
    if (auto it = paths.find(e.getIno()); it != paths.end() && it->second.empty()) {
      it->second = step.path + "/" + name;
      --missing;
    }
  }
  step.end = page.getEnd() || page.getEntries().size() == 0;
  co_return Result<void>{};
}

// One name of each inode that the findings are about.
Task<Result<Paths>> pathsOf(MdsConnection& connection, const std::vector<Finding>& findings) {
  constexpr uint64_t kRootDirectory = 1;
  Paths paths;
  for (const auto& f : findings)
    if (f.file) paths[f.file->ino.value];
  size_t missing = paths.size();
  std::vector<DirectoryStep> way;
  if (missing > 0) way.push_back({InodeId(kRootDirectory), "", 0, false, {}});
  while (!way.empty() && missing > 0) {
    DirectoryStep& step = way.back();
    if (!step.below.empty()) {
      auto [ino, name] = std::move(step.below.back());
      step.below.pop_back();
      way.push_back({ino, step.path + "/" + name, 0, false, {}});
    } else if (step.end) {
      way.pop_back();
    } else {
      CO_TRY(co_await readPage(connection, step, paths, missing));
    }
  }
  co_return paths;
}

std::string pathText(const Finding& f, const Paths& paths) {
  if (!f.file) return "no file";
  const std::string& path = paths.at(f.file->ino.value);
  return path.empty() ? "inode " + std::to_string(f.file->ino.value) + ", which has no name" : path;
}

void printText(const KnownChunks& known, const Checked& c, const Paths& paths) {
  for (size_t i = 0; i < c.findings.size(); ++i) {
    const Finding& f = c.findings[i];
    std::cout << troubleName(f.trouble) << ": " << pathText(f, paths)
              << (f.file ? ": chunk " + std::to_string(f.file->index) : "") << " (id "
              << f.chunk.value << ", group " << f.pool.value << "." << f.pg.value << "): " << f.text
              << "\n";
    if (!c.repairs.empty())
      std::cout << (c.repairs[i].done ? "  mended: " : "  not mended: ") << c.repairs[i].text
                << "\n";
  }
  if (c.more) std::cout << "and more: only the first " << kMaxFindings << " were looked at twice\n";
  std::cout << known.chunks.size() - known.garbage << " chunks of files and " << known.garbage
            << " deleted ones, " << c.stored << " stored by " << c.looked.size() << " OSDs: "
            << (c.findings.empty() ? "clean" : std::to_string(c.findings.size()) + " findings")
            << (c.repairs.empty() ? "" : ", " + std::to_string(c.left()) + " not mended") << "\n";
  for (OsdId id : c.away)
    std::cout << "osd." << id.value << " is down: what it stores was not looked at\n";
}

void printJson(const KnownChunks& known, const Checked& c, const Paths& paths) {
  auto ids = [](const std::vector<OsdId>& osds) {
    nlohmann::json list = nlohmann::json::array();
    for (OsdId id : osds) list.push_back(id.value);
    return list;
  };
  nlohmann::json j = {{"clean", c.findings.empty()},
                      {"chunks_of_files", known.chunks.size() - known.garbage},
                      {"chunks_deleted", known.garbage},
                      {"chunks_stored", c.stored},
                      {"osds", ids(c.looked)},
                      {"osds_down", ids(c.away)},
                      {"more", c.more},
                      {"left", c.left()},
                      {"findings", nlohmann::json::array()}};
  for (size_t i = 0; i < c.findings.size(); ++i) {
    const Finding& f = c.findings[i];
    std::vector<OsdId> osds;
    for (const auto& s : f.stored) osds.push_back(s.osd);
    const bool named = f.file && !paths.at(f.file->ino.value).empty();
    j["findings"].push_back(
        {{"trouble", troubleName(f.trouble)},
         {"chunk", f.chunk.value},
         {"pg", std::to_string(f.pool.value) + "." + std::to_string(f.pg.value)},
         {"osds", ids(osds)},
         {"inode", f.file ? nlohmann::json(f.file->ino.value) : nlohmann::json()},
         {"index", f.file ? nlohmann::json(f.file->index) : nlohmann::json()},
         {"path", named ? nlohmann::json(paths.at(f.file->ino.value)) : nlohmann::json()},
         {"ranges", f.ranges},
         {"text", f.text}});
    if (!c.repairs.empty())
      j["findings"].back()["repair"] = {{"done", c.repairs[i].done}, {"text", c.repairs[i].text}};
  }
  // Names are bytes; JSON is UTF-8.
  std::cout << j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

Task<Result<void>> checkAll(Env& env, MdsConnection& connection, OsdCalls& calls,
                            const FsckOptions& o, bool& found) {
  auto map = co_await askMap(connection);
  CO_TRY(map);
  auto known = co_await askKnown(connection);
  CO_TRY(known);
  auto checked = co_await compare(env, calls, *map, *known);
  CO_TRY(checked);
  CO_TRY(co_await lookAgain(env, connection, calls, checked->findings));
  auto damaged = co_await askDamaged(calls, *map, *known);
  CO_TRY(damaged);
  std::ranges::move(*damaged, std::back_inserter(checked->findings));
  auto paths = co_await pathsOf(connection, checked->findings);
  CO_TRY(paths);
  if (o.repair) {
    auto repairs = co_await repairAll(env, connection, calls, checked->findings, !checked->more);
    CO_TRY(repairs);
    checked->repairs = std::move(*repairs);
  }
  found = checked->left() != 0 || checked->more;
  (o.json ? printJson : printText)(*known, *checked, *paths);
  co_return Result<void>{};
}

Task<Result<void>> fsck(Env& env, std::vector<Endpoint> servers, const FsckOptions& o,
                        bool& found) {
  MdsConnection connection(env, std::move(servers));
  OsdCalls calls(env);
  auto done = co_await checkAll(env, connection, calls, o, found);
  co_await calls.close();
  co_await connection.close();
  co_return done;
}

}  // namespace

void addFsckCommand(CLI::App& app, int& exitCode) {
  auto o = std::make_shared<FsckOptions>();
  auto* c = app.add_subcommand("fsck",
                               "Compare the chunks that files have with those that the OSDs store");
  addTargetOptions(*c, o->target);
  c->add_flag("--repair", o->repair, "Mend what can be mended, and name the rest");
  c->add_flag("--json", o->json, "Print JSON");
  c->callback([o, &exitCode] {
    auto servers = o->target.endpoints();
    if (!servers) {
      printError(servers.error());
      exitCode = 1;
      return;
    }
    bool found = false;
    exitCode = runInWorld([&](Env& env, UringReactor&) { return fsck(env, *servers, *o, found); });
    if (found) exitCode = 1;
  });
}

}  // namespace cairn::tools
