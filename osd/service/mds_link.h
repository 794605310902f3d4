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

// Who can bring the map up to date; Service asks when a request names an epoch that we do not know.
class MapSource {
 public:
  virtual ~MapSource() = default;
  // Returns once the map is at `atLeast`, or an attempt that was begun after this call has ended.
  virtual Task<Result<void>> refresh(MapEpoch atLeast) = 0;
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
  Result<void> outcome_;
  AsyncMutex beating_;
  Event stop_;
};

// Asks the metadata servers in turn which cluster they are, until one answers, `stop` is set
// (kCanceled) or `patience` is over (the last error).
Task<Result<Uuid>> askCluster(Env& env, std::vector<Endpoint> mds, Duration patience, Event& stop);

}  // namespace cairn::osd
