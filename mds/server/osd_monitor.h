// Who of the OSDs is alive: heartbeats, leases, and the commands that mark one down, up, or lost.
// What heartbeats say is kept in memory only. One reactor thread.
//
// Why it is safe to call an OSD down: its lease counts from when it sent its last heartbeat, our
// patience from when that came, and is longer. From the moment it is judged until the command is
// applied its heartbeats wait, and then find it down: so none of them is answered with a lease on a
// map in which it still is up. Hence an OSD that the map calls down holds no lease.
//
// adopted(). Whoever is put in somebody's place must not serve while that one may. An OSD acts on
// the map that it holds, under a lease. What it has told in a heartbeat it holds, and it never goes
// back to an older one while its process lives; a new process holds no lease before its first
// heartbeat is answered. So `actsOn`, the oldest map that an OSD may still act on, is
//   - unknown (0) for one that was up when this server started;
//   - nothing from when it is called down, or registers as a new run, to its next answer;
//   - from that answer on the epoch of the answer, and later the newest that it has told.
// adopted() is the smallest of them all: no OSD acts on an older map, now or later.
#pragma once

#include <map>
#include <optional>

#include "common/base/env.h"
#include "common/reactor/sync.h"
#include "mds/server/proposer.h"
#include "mds/server/rate_meter.h"

namespace cairn::mds {

struct RecoveryProgress {
  uint64_t chunksLeft = 0, bytesLeft = 0, bytesPerSec = 0;
};

// Sums over all OSDs, and when the group that was scrubbed longest ago was (Unix time; 0: never).
struct ScrubProgress {
  uint64_t groupsLeft = 0, errorsFound = 0, errorsRepaired = 0, unrepairable = 0;
  WallNs oldestNs = 0;
};

class OsdMonitor {
 public:
  struct Options {
    Duration lease = 1500ms;
    Duration outAfter = 10min;  // down for so long: others get what it held; 0: never
  };
  // All outlive it.
  OsdMonitor(Env& env, StateMachine& state, Proposer& proposer, Options options);

  // After the log was replayed: nobody's timer runs from before the restart.
  void start();
  // A registration was applied.
  void registered(OsdId id);
  // kNotFound: it must register (again). Marks it up where the map says down. To be answered, with
  // the map and a lease, before anything else is waited for.
  Task<Result<void>> heartbeat(schema::Heartbeat::Reader beat);
  // Marks those down that were silent for too long, and those lost that were down for too long.
  Task<void> check();
  // We were not running for so long: nobody could be heard.
  void forgive(Duration gap);

  [[nodiscard]] Duration lease() const { return options_.lease; }
  // Every OSD that may serve has this epoch or a newer one; 0 while that is not known.
  [[nodiscard]] MapEpoch adopted() const;
  // Heartbeats that came since the start. Two more than at some moment: it was alive after that
  // moment, because it sent the second when the first had been answered.
  [[nodiscard]] uint64_t beats(OsdId id) const;
  // The state machine's map with what was heard last.
  [[nodiscard]] ClusterMap currentMap() const;
  // Those that lie on an OSD with little room left, in ascending order.
  [[nodiscard]] std::vector<PoolId> nearlyFull() const;
  // Since when it has been down, as far as this process knows.
  [[nodiscard]] Duration downFor(OsdId id) const;
  [[nodiscard]] size_t upCount() const;
  // Since when every group that has a list takes writes, as of the last check(): now, if one does
  // not.
  [[nodiscard]] TimePoint writableSince() const { return writableSince_; }
  // Of all OSDs together.
  [[nodiscard]] RecoveryProgress recovery() const;
  [[nodiscard]] ScrubProgress scrub() const;

 private:
  struct Heard {
    TimePoint last, downSince;
    uint64_t incarnation = 0;
    std::optional<MapEpoch> actsOn;
    bool judged = false;  // a command that calls it down is under way
    uint64_t beats = 0;
    uint64_t bytesUsed = 0, bytesTotal = 0;
    bool nearlyFull = false;
    bool told = false;  // by a heartbeat of this incarnation, not only the map
    uint64_t chunksLeft = 0, bytesLeft = 0, bytesDone = 0;
    ScrubProgress scrub;
  };
  Heard& heardOf(const OsdEntry& osd);
  void note(Heard& heard, schema::Heartbeat::Reader beat);
  Task<Result<void>> setState(std::vector<OsdId> ids, bool up);
  Task<void> callDown(std::vector<OsdId> silent);
  [[nodiscard]] std::vector<OsdId> lost() const;
  [[nodiscard]] bool writable();

  Env& env_;
  StateMachine& state_;
  Proposer& proposer_;
  const Options options_;
  std::map<OsdId, Heard> heard_;
  AsyncMutex judging_;  // held while a command that calls OSDs down is under way
  RateMeter recovered_;
  TimePoint writableSince_{};
  MapEpoch writableAt_;  // for which `writable_` is known
  bool writable_ = false;
};

}  // namespace cairn::mds
