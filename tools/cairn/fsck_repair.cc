#include "tools/cairn/fsck_repair.h"

#include <algorithm>
#include <map>

#include "common/reactor/sync.h"

namespace cairn::tools {

namespace {

// The metadata server walks through all that it knows.
constexpr Duration kLeaksTimeout = 1h;
// Strays are removed ten seconds after their group is whole; a scrub says how far it is.
constexpr Duration kNoProgress = 30s;
constexpr Duration kLookEvery = 1s;

Repair untouched(Trouble trouble) {
  switch (trouble) {
    case Trouble::kWrongGroup:
      return {false, "nothing says what it is; what reads the files does not find it there"};
    case Trouble::kDamaged:
      return {false, "nothing good is left of it: write the bytes anew, or delete the file"};
    case Trouble::kStray:
      return {false, "its storage daemon has not removed it yet: look again later"};
    case Trouble::kDiffers:
      return {false, "no scrub of its group has made them equal: look again"};
    case Trouble::kLeaked:
      return {false, "the metadata server does not find that it is leaked: look again"};
  }
  return {};
}

Task<Result<void>> removeLeaked(MdsConnection& connection, const std::vector<Finding>& findings,
                                std::vector<Repair>& repairs) {
  std::map<ChunkId, PoolId> leaked;
  for (const Finding& f : findings)
    if (f.trouble == Trouble::kLeaked) leaked[f.chunk] = f.pool;
  if (leaked.empty()) co_return Result<void>{};
  auto reply = co_await connection.ask(
      [&](schema::MdsRequest::Builder b) {
        auto list = b.initRemoveLeaked(static_cast<uint32_t>(leaked.size()));
        uint32_t i = 0;
        for (auto [chunk, pool] : leaked) {
          list[i].setChunk(chunk.value);
          list[i++].setPool(pool.value);
        }
      },
      kLeaksTimeout);
  CO_TRY(reply);
  std::set<ChunkId> removed;
  for (uint64_t id : reply->body<schema::MdsReply>().getLeaked()) removed.emplace(id);
  for (size_t i = 0; i < findings.size(); ++i)
    if (findings[i].trouble == Trouble::kLeaked && removed.contains(findings[i].chunk))
      repairs[i] = {true, "the metadata server removes it"};
  co_return Result<void>{};
}

// Whether a scrub by the group's primary gives the others the chunk, or takes it from them.
bool scrubWouldMend(const ClusterMap& map, const Finding& f, OsdId primary) {
  return map.pool(f.pool)->erasureCoded() ||
         std::ranges::any_of(f.stored, [&](const StoredChunk& s) { return s.osd == primary; });
}

// A scrub is one of all groups that an OSD leads: so those that lack anything which others have are
// not asked for any.
Task<Result<void>> startScrubs(OsdCalls& calls, const ClusterMap& map,
                               const std::vector<Finding>& findings, std::vector<Repair>& repairs,
                               std::vector<size_t>& waiting) {
  std::map<size_t, OsdId> scrubs;  // of which finding
  std::map<OsdId, std::string> refused;
  for (size_t i = 0; i < findings.size(); ++i) {
    if (findings[i].trouble != Trouble::kDiffers) continue;
    auto group = map.group(findings[i].pool, findings[i].pg);
    CO_TRY(group);
    if ((*group)->osds.empty()) continue;
    const OsdId primary = (*group)->osds.front();
    const std::string name = "osd." + std::to_string(primary.value);
    if (scrubWouldMend(map, findings[i], primary)) {
      scrubs[i] = primary;
    } else {
      repairs[i].text = name + " leads the group and lacks it: nothing says who is right";
      refused[primary] = name +
                         " leads the group, and in its scrub would take from others what it "
                         "lacks in another group";
    }
  }
  std::set<OsdId> asked;
  for (auto [i, primary] : scrubs) {
    if (!refused.contains(primary) && asked.insert(primary).second) {
      OutMessage m;
      m.body<schema::OsdRequest>().initScrub().setDeep(false);
      auto reply = co_await calls.ask(*map.osd(primary), std::move(m), kListTimeout);
      if (!reply)
        refused[primary] = "osd." + std::to_string(primary.value) +
                           " could not be asked to scrub: " + reply.error().text();
    }
    if (auto why = refused.find(primary); why != refused.end())
      repairs[i].text = why->second;
    else
      waiting.push_back(i);
  }
  co_return Result<void>{};
}

// Until none of them is found any more, or nothing has got better for a while.
Task<Result<void>> awaitThem(Env& env, MdsConnection& connection, OsdCalls& calls,
                             const std::vector<Finding>& findings, std::vector<Repair>& repairs,
                             std::vector<size_t> waiting) {
  uint64_t groupsLeft = UINT64_MAX;
  TimePoint better = env.reactor.now();
  while (!waiting.empty() && env.reactor.now() - better < kNoProgress) {
    co_await sleepFor(env.reactor, kLookEvery);
    auto status = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
    CO_TRY(status);
    auto now = status->body<schema::MdsReply>().getStatus();
    const ClusterMap map = ClusterMap::read(now.getMap());
    if (const uint64_t left = now.getScrub().getGroupsLeft(); left != groupsLeft) {
      groupsLeft = left;
      better = env.reactor.now();
    }
    std::vector<size_t> still;
    for (size_t i : waiting) {
      auto found = co_await findAgain(env, calls, map, findings[i]);
      CO_TRY(found);
      if (!found->empty())
        still.push_back(i);
      else
        repairs[i] = {true, findings[i].trouble == Trouble::kStray
                                ? "its storage daemon has removed it"
                                : "the members of its group are equal"};
    }
    if (still.size() != waiting.size()) better = env.reactor.now();
    waiting = std::move(still);
  }
  co_return Result<void>{};
}

}  // namespace

Task<Result<std::vector<Repair>>> repairAll(Env& env, MdsConnection& connection, OsdCalls& calls,
                                            const std::vector<Finding>& findings, bool all) {
  std::vector<Repair> repairs;
  for (const Finding& f : findings) repairs.push_back(untouched(f.trouble));
  CO_TRY(co_await removeLeaked(connection, findings, repairs));
  auto map = co_await askMap(connection);
  CO_TRY(map);
  std::vector<size_t> waiting;
  if (all) CO_TRY(co_await startScrubs(calls, *map, findings, repairs, waiting));
  for (size_t i = 0; i < findings.size(); ++i)
    if (findings[i].trouble == Trouble::kStray) waiting.push_back(i);
  CO_TRY(co_await awaitThem(env, connection, calls, findings, repairs, std::move(waiting)));
  co_return repairs;
}

}  // namespace cairn::tools
