// Looks for what has gone bad before somebody needs it, and mends it: for the groups that this OSD
// leads, one chunk after the other.
//
//   light   every member has the same chunks with the same versions; those that differ are made
//           equal
//   deep    every block of every member is read, verified and compared; the primary's damaged
//   blocks
//           are fetched from a member, and members are made equal to it
//
// A group is due when an interval has passed since it was scrubbed, or when somebody asked. That,
// and when it was done, is kept in the store, so that a restart goes on where it was; a new primary
// knows only of its own scrubs. One chunk at a time, under the throttle. One reactor thread.
#pragma once

#include <functional>
#include <map>

#include "common/base/env.h"
#include "osd/service/equalizer.h"
#include "osd/service/erasure/shard_rebuilder.h"
#include "osd/service/group_table.h"
#include "osd/service/mds_link.h"

namespace cairn::osd {

struct ScrubOptions {
  Duration light = 24h, deep = 7 * 24h;  // 0: only when asked
};

class Scrubber {
 public:
  // All outlive it.
  Scrubber(Env& env, ScrubOptions options, Store& store, MapState& map, GroupTable& groups,
           MemberCalls& members, Equalizer& equalizer, ShardRebuilder& rebuilder,
           Throttle& throttle, Probe& probe);
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // All groups that are or will be led here are due.
  Result<void> request(bool deep);

  // Until stop().
  Task<void> run();
  void stop();

  [[nodiscard]] ScrubProgress progress();
  // Blocks that no member has a good copy of, nor enough to make one, as last seen.
  struct Damage {
    GroupId group;
    std::vector<BlockRange> blocks;  // at most kMaxRanges; the last may say too much
  };
  static constexpr size_t kMaxRanges = 256;
  [[nodiscard]] const std::map<ChunkId, Damage>& damaged() const { return damaged_; }

 private:
  // Unix time in nanoseconds; 0: never.
  struct Times {
    WallNs light = 0, deep = 0;
  };
  void heedClock();
  Times times(GroupId group);
  // What is due of it now: nothing, a light or a deep scrub.
  enum class Due : uint8_t { kNothing, kLight, kDeep };
  Due due(GroupId group);
  GroupRef next(Due& what);
  Task<Result<void>> scrub(GroupRef group, bool deep);
  Task<Result<std::vector<Changed>>> everyChunk(GroupRef group, OsdId member);
  Task<Result<void>> look(GroupRef group, ChunkId chunk, std::vector<OsdId> members);
  Task<Result<std::vector<BlockRange>>> lostHere(ChunkId chunk);
  Task<Result<void>> scrubStripes(GroupRef group, bool deep);
  void forgetOthers(GroupId group, const std::function<bool(ChunkId)>& exists);
  void note(GroupId group, ChunkId chunk, uint64_t mended, std::vector<BlockRange> lost);
  [[nodiscard]] WallNs now() const;

  Env& env_;
  const ScrubOptions options_;
  Store& store_;
  MapState& map_;
  GroupTable& groups_;
  MemberCalls& members_;
  Equalizer& equalizer_;
  ShardRebuilder& rebuilder_;
  Throttle& throttle_;
  Probe& probe_;
  Times asked_;
  std::map<GroupId, Times> known_;
  std::map<GroupId, TimePoint> failed_;  // when
  std::map<ChunkId, Damage> damaged_;
  uint64_t found_ = 0, repaired_ = 0;
  bool stopped_ = false;
  Event work_;
};

}  // namespace cairn::osd
