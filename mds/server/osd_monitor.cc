#include "mds/server/osd_monitor.h"

#include <algorithm>

#include "common/cluster/health.h"
#include "common/logging/log.h"
#include "mds/cluster/placement.h"

namespace cairn::mds {
namespace {

std::string nameOf(OsdId id) {
  return "osd." + std::to_string(id.value);
}

}  // namespace

OsdMonitor::OsdMonitor(Env& env, StateMachine& state, Proposer& proposer, Options options)
    : env_(env), state_(state), proposer_(proposer), options_(options), judging_(env.reactor) {}

void OsdMonitor::start() {
  heard_.clear();
  for (const auto& [id, osd] : state_.map().osds) {
    Heard& heard = heardOf(osd);
    if (!osd.up) heard.actsOn.reset();  // it was silent for its lease when it was called down
  }
  writableSince_ = env_.reactor.now();
}

// One that nobody told of here may act on any map.
OsdMonitor::Heard& OsdMonitor::heardOf(const OsdEntry& osd) {
  auto [it, isNew] = heard_.try_emplace(osd.id);
  if (isNew) {
    it->second.last = it->second.downSince = env_.reactor.now();
    it->second.incarnation = osd.incarnation;
    it->second.actsOn = MapEpoch{};
  }
  return it->second;
}

void OsdMonitor::registered(OsdId id) {
  const OsdEntry& osd = *state_.map().osd(id);
  auto [it, isNew] = heard_.try_emplace(id);
  Heard& heard = it->second;
  heard.last = heard.downSince = env_.reactor.now();
  if (!isNew && heard.incarnation == osd.incarnation) return;
  // Another run: the one before it has ended, or this one could not have opened the store.
  heard.incarnation = osd.incarnation;
  heard.actsOn.reset();
  heard.told = false;
  heard.chunksLeft = heard.bytesLeft = heard.bytesDone = 0;
}

void OsdMonitor::forgive(Duration gap) {
  for (auto& [id, h] : heard_) h.last += gap;
}

Task<Result<void>> OsdMonitor::setState(std::vector<OsdId> ids, bool up) {
  Draft draft(ids.size() * 4 + 16);
  auto list = draft.mutation().initOsdState(static_cast<uint32_t>(ids.size()));
  for (uint32_t i = 0; i < ids.size(); ++i) {
    list[i].setId(ids[i].value);
    list[i].setUp(up);
  }
  auto done = co_await proposer_.propose(std::move(draft));
  CO_TRY(done);
  co_return Result<void>{};
}

void OsdMonitor::note(Heard& heard, schema::Heartbeat::Reader beat) {
  heard.last = env_.reactor.now();
  ++heard.beats;
  heard.bytesUsed = beat.getBytesUsed();
  heard.bytesTotal = beat.getBytesTotal();
  heard.nearlyFull = beat.getNearlyFull();
  auto recovery = beat.getRecovery();
  heard.chunksLeft = recovery.getChunksLeft();
  heard.bytesLeft = recovery.getBytesLeft();
  // The first one says what was done before we could measure.
  if (heard.told && recovery.getBytesDone() > heard.bytesDone)
    recovered_.add(heard.last, recovery.getBytesDone() - heard.bytesDone);
  heard.bytesDone = recovery.getBytesDone();
  heard.told = true;
  auto scrub = beat.getScrub();
  heard.scrub = {scrub.getGroupsLeft(), scrub.getErrorsFound(), scrub.getErrorsRepaired(),
                 scrub.getUnrepairable(), scrub.getOldestNs()};
}

Task<Result<void>> OsdMonitor::heartbeat(schema::Heartbeat::Reader beat) {
  const OsdId id{beat.getOsd()};
  // The map may change while something is waited for: everything is looked at again.
  bool waited = false;
  while (true) {
    const OsdEntry* osd = state_.map().osd(id);
    if (osd == nullptr) co_return fail(Errc::kNotFound, nameOf(id) + " is not registered");
    if (osd->incarnation != beat.getIncarnation())
      co_return fail(Errc::kNotFound, nameOf(id) + " was registered by another run of the daemon");
    Heard& heard = heardOf(*osd);
    if (!waited) note(heard, beat);
    waited = true;
    if (heard.judged) {
      (void)co_await judging_.lock();
      continue;
    }
    if (osd->up) {
      // What it told of it holds for certain; a lease for an older map it may hold, unless it has
      // none at all: then it gets its first with this answer.
      heard.actsOn =
          heard.actsOn ? std::max(*heard.actsOn, MapEpoch{beat.getMapEpoch()}) : state_.map().epoch;
      co_return Result<void>{};
    }
    env_.log.info("osd is back", {{"osd", id.value}, {"addr", osd->addr}});
    std::vector<OsdId> ids(1, id);
    CO_TRY(co_await setState(std::move(ids), true));
  }
}

Task<void> OsdMonitor::callDown(std::vector<OsdId> silent) {
  auto judging = co_await judging_.lock();
  const auto done = co_await setState(silent, false);
  for (OsdId id : silent) {
    auto it = heard_.find(id);
    if (it == heard_.end()) continue;
    it->second.judged = false;
    if (!done) continue;
    it->second.actsOn.reset();
    it->second.chunksLeft = it->second.bytesLeft = 0;
  }
}

Task<void> OsdMonitor::check() {
  const TimePoint now = env_.reactor.now();
  std::erase_if(heard_, [this](const auto& h) { return state_.map().osd(h.first) == nullptr; });
  std::vector<OsdId> silent;
  for (const auto& [id, osd] : state_.map().osds) {
    if (!osd.up) continue;
    Heard& heard = heardOf(osd);
    // The margin is for clocks that run at different speeds.
    if (now - heard.last <= options_.lease + options_.lease / 4) continue;
    silent.push_back(id);
    heard.judged = true;
    heard.downSince = heard.last;
    env_.log.warning(
        "osd is down",
        {{"osd", id.value}, {"addr", osd.addr}, {"silent_ms", (now - heard.last) / 1ms}});
  }
  if (!silent.empty()) co_await callDown(std::move(silent));
  if (auto ids = lost(); !ids.empty()) {
    Draft draft(ids.size() + 16);
    auto list = draft.mutation().initOsdsLost(static_cast<uint32_t>(ids.size()));
    for (uint32_t i = 0; i < ids.size(); ++i) {
      list.set(i, ids[i].value);
      env_.log.warning("osd is lost: others get what it held", {{"osd", ids[i].value}});
    }
    (void)co_await proposer_.propose(std::move(draft));
  }
  if (!writable()) writableSince_ = env_.reactor.now();
}

// Down for too long, and not needed to have a place for every copy: with fewer failure domains than
// that, its groups could go nowhere.
std::vector<OsdId> OsdMonitor::lost() const {
  std::vector<OsdId> ids;
  if (options_.outAfter == Duration::zero()) return ids;
  std::optional<ClusterMap> without;
  for (const auto& [id, osd] : state_.map().osds) {
    if (osd.up || !osd.in || downFor(id) <= options_.outAfter) continue;
    if (!without) {
      without = ClusterMap{};
      without->osds = state_.map().osds;
    }
    without->osds[id].in = false;
    const bool enough = std::ranges::all_of(state_.map().pools, [&](const auto& p) {
      return usableDomains(*without, p.second) >= p.second.width();
    });
    if (enough)
      ids.push_back(id);
    else
      without->osds[id].in = true;
  }
  return ids;
}

bool OsdMonitor::writable() {
  const ClusterMap& map = state_.map();
  if (writableAt_ == map.epoch) return writable_;
  writableAt_ = map.epoch;
  writable_ = std::ranges::all_of(map.pools, [&map](const auto& p) {
    return std::ranges::all_of(p.second.pgs, [&](const PlacementGroup& g) {
      return g.osds.empty() || pgState(map, p.second, g) != PgState::kUnavailable;
    });
  });
  return writable_;
}

MapEpoch OsdMonitor::adopted() const {
  MapEpoch oldest = state_.map().epoch;
  for (const auto& [id, h] : heard_)
    if (h.actsOn) oldest = std::min(oldest, *h.actsOn);
  return oldest;
}

uint64_t OsdMonitor::beats(OsdId id) const {
  auto it = heard_.find(id);
  return it == heard_.end() ? 0 : it->second.beats;
}

ClusterMap OsdMonitor::currentMap() const {
  ClusterMap map = state_.map();
  for (const auto& [id, h] : heard_) {
    auto it = map.osds.find(id);
    if (it == map.osds.end() || !h.told) continue;
    it->second.bytesUsed = h.bytesUsed;
    it->second.bytesTotal = h.bytesTotal;
  }
  return map;
}

std::vector<PoolId> OsdMonitor::nearlyFull() const {
  const ClusterMap& map = state_.map();
  std::vector<const OsdEntry*> full;
  for (const auto& [id, h] : heard_)
    if (const OsdEntry* osd = h.nearlyFull ? map.osd(id) : nullptr; osd != nullptr && osd->up)
      full.push_back(osd);
  std::vector<PoolId> out;
  if (full.empty()) return out;
  for (const auto& [id, pool] : map.pools)
    if (std::ranges::any_of(full, [&](const OsdEntry* osd) { return serves(*osd, pool); }))
      out.push_back(id);
  return out;
}

Duration OsdMonitor::downFor(OsdId id) const {
  auto it = heard_.find(id);
  return it == heard_.end() ? Duration::zero() : env_.reactor.now() - it->second.downSince;
}

size_t OsdMonitor::upCount() const {
  size_t n = 0;
  for (const auto& [id, osd] : state_.map().osds) n += osd.up ? 1 : 0;
  return n;
}

RecoveryProgress OsdMonitor::recovery() const {
  RecoveryProgress sum;
  for (const auto& [id, h] : heard_) {
    sum.chunksLeft += h.chunksLeft;
    sum.bytesLeft += h.bytesLeft;
  }
  sum.bytesPerSec = recovered_.perSecond(env_.reactor.now());
  return sum;
}

ScrubProgress OsdMonitor::scrub() const {
  ScrubProgress sum;
  for (const auto& [id, h] : heard_) {
    sum.groupsLeft += h.scrub.groupsLeft;
    sum.errorsFound += h.scrub.errorsFound;
    sum.errorsRepaired += h.scrub.errorsRepaired;
    sum.unrepairable += h.scrub.unrepairable;
    if (h.scrub.oldestNs != 0 && (sum.oldestNs == 0 || h.scrub.oldestNs < sum.oldestNs))
      sum.oldestNs = h.scrub.oldestNs;
  }
  return sum;
}

}  // namespace cairn::mds
