#include "mds/server/osd_monitor.h"

#include "common/logging/log.h"

namespace cairn::mds {

OsdMonitor::OsdMonitor(Env& env, StateMachine& state, Proposer& proposer, Duration lease)
    : env_(env), state_(state), proposer_(proposer), lease_(lease) {}

void OsdMonitor::start() {
  const TimePoint now = env_.reactor.now();
  heard_.clear();
  for (const auto& [id, osd] : state_.map().osds) heard_[id] = {now, now, 0, 0, false};
}

void OsdMonitor::registered(OsdId id) {
  const TimePoint now = env_.reactor.now();
  heard_[id] = {now, now, 0, 0, false};
}

void OsdMonitor::forgive(Duration gap) {
  for (auto& [id, h] : heard_) h.last += gap;
}

Task<Result<void>> OsdMonitor::setState(std::vector<OsdId> ids, bool up) {
  Draft draft(ids.size() * 4 + 16);
  auto list = draft.mutation().initOsdState(static_cast<uint32_t>(ids.size()));
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const OsdEntry* osd = state_.map().osd(ids[i]);
    list[i].setId(ids[i].value);
    list[i].setUp(up);
    list[i].setIn(osd != nullptr && osd->in);
  }
  auto done = co_await proposer_.propose(std::move(draft));
  CO_TRY(done);
  co_return Result<void>{};
}

Task<Result<void>> OsdMonitor::heartbeat(schema::Heartbeat::Reader beat) {
  const OsdId id{beat.getOsd()};
  const OsdEntry* osd = state_.map().osd(id);
  if (osd == nullptr)
    co_return fail(Errc::kNotFound, "osd." + std::to_string(id.value) + " is not registered");
  if (osd->incarnation != beat.getIncarnation())
    co_return fail(Errc::kNotFound, "osd." + std::to_string(id.value) +
                                        " was registered by another run of the daemon");
  Heard& heard = heard_[id];
  heard.last = env_.reactor.now();
  heard.bytesUsed = beat.getBytesUsed();
  heard.bytesTotal = beat.getBytesTotal();
  heard.told = true;
  if (osd->up) co_return Result<void>{};
  env_.log.info("osd is back", {{"osd", id.value}, {"addr", osd->addr}});
  std::vector<OsdId> ids(1, id);
  co_return co_await setState(std::move(ids), true);
}

Task<void> OsdMonitor::check() {
  const TimePoint now = env_.reactor.now();
  std::vector<OsdId> silent;
  for (const auto& [id, osd] : state_.map().osds) {
    if (!osd.up) continue;
    auto [it, isNew] = heard_.try_emplace(id, Heard{now, now, 0, 0, false});
    // The margin is for clocks that run at different speeds.
    if (now - it->second.last <= lease_ + lease_ / 4) continue;
    silent.push_back(id);
    it->second.downSince = it->second.last;
    env_.log.warning(
        "osd is down",
        {{"osd", id.value}, {"addr", osd.addr}, {"silent_ms", (now - it->second.last) / 1ms}});
  }
  if (!silent.empty()) (void)co_await setState(std::move(silent), false);
  if (upCount() != state_.map().osds.size()) completeSince_ = env_.reactor.now();
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

Duration OsdMonitor::downFor(OsdId id) const {
  auto it = heard_.find(id);
  return it == heard_.end() ? Duration::zero() : env_.reactor.now() - it->second.downSince;
}

size_t OsdMonitor::upCount() const {
  size_t n = 0;
  for (const auto& [id, osd] : state_.map().osds) n += osd.up ? 1 : 0;
  return n;
}

}  // namespace cairn::mds
