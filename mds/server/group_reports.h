// What primaries report of the members of their groups, on the way to a command (groupReport), and
// the judgement of whom to believe. One reactor thread.
//
// Believing is safe in every case. A report counts only from the primary of the epoch that it names
// and while the group has that epoch; each one that counts changes the epoch. So of two that
// contradict each other the first wins and the other is void. A primary acknowledges what a member
// lacks only after that member has left `osds`, so whoever stays in `osds` holds every acknowledged
// write, whether the primary stays or is the one to leave. And the next primary serves only when
// everybody has adopted the epoch that made it one (OsdMonitor::adopted). So the judgement is about
// staying available, not about the data.
//
// What has to be judged. Accusing costs nothing while enough members remain (Pool.minSize): who
// was wronged joins again. But a primary that reaches none of the others, while they reach each
// other and the MDS reaches all, would stop the group for as long as it is cut off. Then it is
// better to take out the primary.
//   - What is cut off looks, to the primary, like two machines that have died together. If these
//     are dead indeed, the primary may be the only one left, and taking it out would be the
//     disaster. So such a report waits for a *hearing*: until each accused, and the reporter too,
//     has been heard by two heartbeats after the report, which proves that they live. Who is dead
//     is called down instead, which changes the epoch and ends the hearing; a dying reporter takes
//     nobody with it. Writes wait meanwhile, as they would have without the report.
//   - All were heard: the reporter is taken out if it accuses, now or a few seconds ago, every
//     other member that is up (in sync or joining), and these are two at least. With one other,
//     each may be the one that is cut off: the primary stays, for it serves reads at least, and
//     nothing has to move.
// Nobody is taken out without whom the group could not be read (group_report.cc). Pools of two
// copies have minSize 1: the primary's word counts.
//
// A hearing is kept in memory only: the primary repeats its report until the group's epoch changes.
#pragma once

#include <map>
#include <vector>

#include "mds/server/osd_monitor.h"

namespace cairn::mds {

class GroupReports {
 public:
  // All outlive it.
  GroupReports(Env& env, StateMachine& state, Proposer& proposer, OsdMonitor& osds);

  // What `reporter` says. When it completes, what could be decided is applied; the rest follows.
  // What does not count (any more) is skipped. Fails only with the log.
  Task<Result<void>> report(OsdId reporter, capnp::List<schema::GroupChange>::Reader changes);
  // Decides the hearings that are due.
  Task<void> decide();
  // We were not running for so long: what was said before was said just now.
  void forgive(Duration gap);

  [[nodiscard]] size_t hearings() const { return hearings_.size(); }

 private:
  using GroupKey = std::pair<PoolId, PgIndex>;
  struct Change {
    GroupKey group;
    MapEpoch epoch;
    OsdId member;
    bool synced = false;
  };
  struct Hearing {
    MapEpoch epoch;
    OsdId reporter;
    std::map<OsdId, uint64_t> heardAt;  // the accused and the reporter: their beats at that time
  };
  [[nodiscard]] const PlacementGroup* current(const GroupKey& key, MapEpoch epoch) const;
  bool needsHearing(const GroupKey& key, const std::vector<Change>& changes) const;
  void open(const GroupKey& key, OsdId reporter, const std::vector<Change>& changes);
  [[nodiscard]] bool allHeard(const Hearing& hearing) const;
  [[nodiscard]] bool isCutOff(const PlacementGroup& group) const;
  Task<Result<void>> propose(std::vector<Change> changes);

  Env& env_;
  StateMachine& state_;
  Proposer& proposer_;
  OsdMonitor& osds_;
  std::map<GroupKey, Hearing> hearings_;
  std::map<std::pair<OsdId, OsdId>, TimePoint> accused_;  // by (reporter, member): when last
};

}  // namespace cairn::mds
