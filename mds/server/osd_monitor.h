// Who of the OSDs is alive: heartbeats, leases, and the commands that mark one down or up. What
// heartbeats say is kept in memory only. One reactor thread.
//
// Why it is safe to call an OSD down: its lease counts from when it sent its last heartbeat, our
// patience from when we answered it, and is longer. So it has stopped serving before the map says
// that it has.
#pragma once

#include <map>

#include "common/base/env.h"
#include "mds/server/proposer.h"

namespace cairn::mds {

class OsdMonitor {
 public:
  // All outlive it.
  OsdMonitor(Env& env, StateMachine& state, Proposer& proposer, Duration lease);

  // After the log was replayed: nobody's timer runs from before the restart.
  void start();
  // An OSD was registered by a command.
  void registered(OsdId id);
  // kNotFound: it must register (again). Marks it up where the map says down.
  Task<Result<void>> heartbeat(schema::Heartbeat::Reader beat);
  // Marks those down that were silent for too long.
  Task<void> check();
  // We were not running for so long: nobody could be heard.
  void forgive(Duration gap);

  [[nodiscard]] Duration lease() const { return lease_; }
  // The state machine's map with what was heard last.
  [[nodiscard]] ClusterMap currentMap() const;
  // Since when it has been down, as far as this process knows.
  [[nodiscard]] Duration downFor(OsdId id) const;
  [[nodiscard]] size_t upCount() const;
  // Since when all of them have been up, as of the last check(): now, if one is down.
  [[nodiscard]] TimePoint completeSince() const { return completeSince_; }

 private:
  struct Heard {
    TimePoint last, downSince;
    uint64_t bytesUsed = 0, bytesTotal = 0;
    bool told = false;  // by a heartbeat of this incarnation, not only the map
  };
  Task<Result<void>> setState(std::vector<OsdId> ids, bool up);

  Env& env_;
  StateMachine& state_;
  Proposer& proposer_;
  const Duration lease_;
  std::map<OsdId, Heard> heard_;
  TimePoint completeSince_{};
};

}  // namespace cairn::mds
