#include "mds/server/garbage_collector.h"

#include <algorithm>

#include "common/cluster/health.h"
#include "common/metrics/metrics.h"
#include "common/schema/osd.capnp.h"

namespace cairn::mds {
namespace {

constexpr size_t kBatch = 4096;        // entries of the queue looked at together
constexpr size_t kChunksAtOnce = 256;  // of one request
constexpr uint64_t kGroupsAtOnce = 32;
constexpr Duration kCallTimeout = 10s;
constexpr Duration kPause = 5ms;

}  // namespace

GarbageCollector::GarbageCollector(Env& env, StateMachine& state, Proposer& proposer,
                                   Duration interval)
    : env_(env),
      state_(state),
      proposer_(proposer),
      interval_(interval),
      slots_(env.reactor, kGroupsAtOnce),
      stopped_(env.reactor),
      counter_(env.metrics.counter("mds_garbage_chunks_removed",
                                   "Deleted chunks whose space was given back")) {}

Task<void> GarbageCollector::run() {
  while (!co_await stopped_.waitFor(interval_)) {
    if (state_.counts().garbage > 0) co_await pass();
  }
}

Task<void> GarbageCollector::stop() {
  stopped_.set();
  // No link is added or replaced any more: see client().
  for (auto& [id, link] : links_) co_await link.client->close();
  for (auto& old : retired_) co_await old->close();
}

Task<void> GarbageCollector::pass() {
  uint64_t after = 0;
  while (!stopped_.isSet()) {
    auto batch = state_.garbage(after, kBatch);
    if (!batch || batch->empty()) break;
    after = batch->back().id;
    const bool progress = co_await collect(group(std::move(*batch)));
    // A long queue that waits for an OSD must not keep others from running.
    if (!progress && co_await stopped_.waitFor(kPause)) break;
  }
}

// By placement group, at most kChunksAtOnce together; only groups that can be finished now.
std::vector<GarbageCollector::Group> GarbageCollector::group(std::vector<Garbage> batch) const {
  const ClusterMap& map = state_.map();
  std::map<std::pair<PoolId, PgIndex>, std::vector<Garbage>> byGroup;
  for (const Garbage& g : batch) {
    if (const Pool* pool = map.pool(g.pool); pool != nullptr)
      byGroup[{g.pool, pool->pgOf(g.chunk)}].push_back(g);
  }
  std::vector<Group> out;
  for (auto& [key, chunks] : byGroup) {
    auto pg = map.group(key.first, key.second);
    if (!pg || pgState(map, *map.pool(key.first), **pg) == PgState::kUnavailable) continue;
    for (size_t i = 0; i < chunks.size(); i += kChunksAtOnce) {
      auto end =
          chunks.begin() + static_cast<ptrdiff_t>(std::min(i + kChunksAtOnce, chunks.size()));
      out.push_back({key.first, key.second, {chunks.begin() + static_cast<ptrdiff_t>(i), end}});
    }
  }
  return out;
}

Task<bool> GarbageCollector::collect(std::vector<Group> groups) {
  std::vector<uint64_t> done;
  std::vector<Task<void>> tasks;
  tasks.reserve(groups.size());
  for (Group& g : groups) tasks.push_back(removeGroup(std::move(g), done));
  co_await whenAll(env_.reactor, std::move(tasks));
  if (done.empty()) co_return false;
  std::sort(done.begin(), done.end());
  Draft draft(done.size() + 16);
  auto list = draft.mutation().initGarbageDone(static_cast<uint32_t>(done.size()));
  for (uint32_t i = 0; i < done.size(); ++i) list.set(i, done[i]);
  if (!co_await proposer_.propose(std::move(draft))) co_return false;
  removed_ += done.size();
  counter_ += done.size();
  co_return true;
}

Task<void> GarbageCollector::removeGroup(Group group, std::vector<uint64_t>& done) {
  co_await slots_.acquire();
  auto pg = state_.map().group(group.pool, group.pg);
  if (!stopped_.isSet() && pg && !(*pg)->osds.empty()) {
    std::vector<ChunkId> chunks;
    for (const Garbage& g : group.chunks) chunks.push_back(g.chunk);
    // Whoever failed is asked again in a later pass; the map or a log line of its own says why.
    if (co_await removeAt((*pg)->osds.front(), group.pool, group.pg, (*pg)->epoch,
                          std::move(chunks)))
      for (const Garbage& g : group.chunks) done.push_back(g.id);
  }
  slots_.release();
}

Task<Result<void>> GarbageCollector::removeAt(OsdId osd, PoolId pool, PgIndex pg, MapEpoch epoch,
                                              std::vector<ChunkId> chunks) {
  const OsdEntry* entry = state_.map().osd(osd);
  if (entry == nullptr) co_return fail(Errc::kNotFound);
  RpcClient* to = client(osd, entry->addr);
  if (to == nullptr) co_return fail(Errc::kCanceled);
  OutMessage m;
  auto request = m.body<schema::OsdRequest>();
  request.setPool(pool.value);
  request.setPg(pg.value);
  request.setPgEpoch(epoch.value);
  auto list = request.initRemove().initChunks(static_cast<uint32_t>(chunks.size()));
  for (uint32_t i = 0; i < chunks.size(); ++i) list.set(i, chunks[i].value);
  auto answer = co_await to->call(std::move(m), kCallTimeout);
  CO_TRY(answer);
  co_return Result<void>{};
}

RpcClient* GarbageCollector::client(OsdId id, const std::string& addr) {
  auto endpoint = parseEndpoint(addr);
  if (!endpoint || stopped_.isSet()) return nullptr;
  Link& link = links_[id];
  if (link.client && link.addr == addr) return link.client.get();
  if (link.client) {
    // Calls that are under way on it still refer to it: it fails them and stays until the end.
    link.client->disconnect();
    retired_.push_back(std::move(link.client));
  }
  RpcClient::Options options;
  options.to = *endpoint;
  options.self = {schema::Hello::Role::MDS, state_.map().cluster, 1};
  link.addr = addr;
  link.client = std::make_unique<RpcClient>(env_, std::move(options));
  return link.client.get();
}

}  // namespace cairn::mds
