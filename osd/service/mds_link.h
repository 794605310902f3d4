// The OSD's side of the cluster map: registers the store, sends heartbeats, takes over new maps and
// renews the lease on them. One reactor thread.
//
// A heartbeat is due five times a lease, so that four may get lost. An OSD that hears nothing keeps
// trying, asking each of the metadata servers in turn, and serves until its lease is over.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/base/env.h"
#include "common/base/uuid.h"
#include "common/reactor/sync.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/types.capnp.h"
// clang-format on
#include "common/wire/rpc.h"
#include "osd/service/map_state.h"
#include "osd/store.h"

namespace cairn::osd {

// What a primary says of another OSD of its group: see GroupChange in mds.capnp.
struct GroupReport {
  GroupId group;
  MapEpoch epoch;
  OsdId member;
  bool synced = false;  // otherwise it failed
};

// What is still to be done for members that are joining the groups that we lead.
struct RecoveryProgress {
  uint64_t chunksLeft = 0, bytesLeft = 0, bytesDone = 0;
};

// Of the groups that we lead.
struct ScrubProgress {
  uint64_t groupsLeft = 0;
  uint64_t errorsFound = 0, errorsRepaired = 0;  // since the start
  uint64_t unrepairable = 0;                     // chunks
  WallNs oldestNs = 0;  // when the group that was scrubbed longest ago was; 0: there is none
};

// The MDS, as the service needs it.
class MapSource {
 public:
  virtual ~MapSource() = default;
  // Returns once the map is at `atLeast`, or an attempt that was begun after this call has ended.
  virtual Task<Result<void>> refresh(MapEpoch atLeast) = 0;
  // Heartbeats at once, and so learns what others have adopted meanwhile.
  virtual void poke() = 0;
  // Durable at the MDS when it completes, and the map is as new as that; what it made of each
  // report the map tells. On failure whether it happened is unknown.
  virtual Task<Result<void>> report(std::vector<GroupReport> changes) = 0;
};

struct MdsLinkOptions {
  std::vector<Endpoint> mds;
  std::string host, rack;
  schema::DeviceClass deviceClass = schema::DeviceClass::SSD;
  uint32_t pid = 0;
  uint64_t incarnation = 0;
  Duration callTimeout = 1s;
  Duration retryEvery = 200ms;     // while nobody answers
  std::function<void()> onJoined;  // once: registered, and the first lease is held
  // Asked before each heartbeat: while it is not ok none is sent, and others take over.
  std::function<Result<void>()> fit = [] { return Result<void>(); };
};

class MdsLink final : public MapSource {
 public:
  // All outlive it.
  MdsLink(Env& env, MdsLinkOptions options, Store& store, MapState& map);
  MdsLink(const MdsLink&) = delete;
  MdsLink& operator=(const MdsLink&) = delete;

  // HOST:PORT where we serve; before run().
  void setAddress(std::string addr) { addr_ = std::move(addr); }
  // Registers and sends heartbeats until close(), or until something makes it pointless: another
  // cluster, another protocol, an id that is not ours.
  Task<Result<void>> run();
  Task<Result<void>> refresh(MapEpoch atLeast) override;
  void poke() override;
  Task<Result<void>> report(std::vector<GroupReport> changes) override;
  // Asked at each heartbeat.
  void showProgress(std::function<RecoveryProgress()> recovery,
                    std::function<ScrubProgress()> scrub) {
    recovery_ = std::move(recovery);
    scrub_ = std::move(scrub);
  }
  // Ends run() and every refresh; when it completes, no refresh runs. The owner joins run().
  Task<void> close();

  // What went wrong last; ok when the latest attempt succeeded.
  [[nodiscard]] const Result<void>& lastOutcome() const { return outcome_; }

 private:
  Task<Result<void>> enroll();
  Task<Result<void>> beat();
  Task<Result<InMessage>> call(OutMessage message);
  Task<Result<void>> step();
  void note(const Result<void>& outcome);
  void noteFitness(const Result<void>& fit);

  Env& env_;
  MdsLinkOptions options_;
  std::string addr_;
  Store& store_;
  MapState& map_;
  std::vector<std::unique_ptr<RpcClient>> clients_;  // one per MDS
  size_t current_ = 0;                               // the one that answered last
  bool enrolled_ = false, joined_ = false, closed_ = false;
  Duration interval_;
  uint64_t steps_ = 0;  // begun so far
  Result<void> outcome_, fit_;
  AsyncMutex beating_;
  bool poked_ = false;
  Event wake_;  // poked or closed
  std::function<RecoveryProgress()> recovery_;
  std::function<ScrubProgress()> scrub_;
};

// Asks the metadata servers in turn which cluster they are, until one answers, `stop` is set
// (kCanceled) or `patience` is over (the last error).
Task<Result<Uuid>> askCluster(Env& env, std::vector<Endpoint> mds, Duration patience, Event& stop);

}  // namespace cairn::osd
