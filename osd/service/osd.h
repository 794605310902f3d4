// One OSD, whole: its store, its place in the cluster and its service. cairn-osd runs one for a
// process; the simulator runs many in a thread.
//
//   auto osd = co_await Osd::start(env, options, stopping);   // the store is open and served
//   co_await osd->settled().wait();                           // joined, or failed
//   ...
//   co_await osd->stop();
//
// It serves data from when the MDS has registered it and while it holds a lease on the map. One
// reactor thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/env.h"
#include "common/disk/watched_disk.h"
#include "common/wire/rpc.h"
#include "osd/service/map_state.h"
#include "osd/service/mds_link.h"
#include "osd/service/service.h"
#include "osd/store.h"

namespace cairn::osd {

struct OsdOptions {
  StoreOptions store;
  Endpoint listen;
  MdsLinkOptions link;  // `incarnation` 0: picked
  ServiceOptions service;
  RpcLimits limits;
  // A disk that leaves an operation unanswered for longer hangs: no heartbeats until it answers.
  Duration diskTimeout = 5s;
  // With no store yet: how long to look for an MDS that says which cluster to make one for.
  Duration joinPatience = 15s;
};

class Osd {
 public:
  // Opens the store, or makes one for the cluster of the MDS where there is none; then listens and
  // joins in the background. `stopping` ends the wait for an MDS (kCanceled). A failure leaves
  // nothing half made: a store is made after the port was found free, and whole or not at all.
  // `addr` says where others reach us, given the port; empty: at the host of options.listen. `env`
  // outlives the Osd.
  static Task<Result<std::unique_ptr<Osd>>> start(
      Env& env, OsdOptions options, Event& stopping,
      std::function<Result<Endpoint>(uint16_t port)> addr = {});
  ~Osd();  // after stop()
  Osd(const Osd&) = delete;
  Osd& operator=(const Osd&) = delete;

  // Refuses what comes, ends what runs, closes the store. Once.
  Task<void> stop();

  // Set when it has joined the cluster, or cannot go on: see failure().
  [[nodiscard]] Event& settled() { return settled_; }
  // Set when it cannot go on: the store failed, or the cluster does not want it.
  [[nodiscard]] Event& failed() { return failed_; }
  [[nodiscard]] const Error& failure() const { return failure_; }
  // For /healthz: ok while it would serve.
  [[nodiscard]] Result<void> health() const;

  [[nodiscard]] OsdId id() const { return map_.self(); }
  [[nodiscard]] uint16_t port() const { return server_.port(); }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] Store& store() { return *store_; }
  [[nodiscard]] const MapState& map() const { return map_; }
  [[nodiscard]] const Service& service() const { return service_; }

 private:
  // The world as the store and the service see it: with a disk that is watched.
  struct Watched {
    explicit Watched(Env& env);
    WatchedDisk disk;
    Env env;
  };
  Osd(std::unique_ptr<Watched> watched, OsdOptions options, std::unique_ptr<Store> store);
  static Task<Result<std::unique_ptr<Store>>> openOrCreate(Env& env, const OsdOptions& options,
                                                           Event& stopping);
  Result<void> serve(const std::function<Result<Endpoint>(uint16_t port)>& addr);
  MdsLinkOptions linkOptions();
  Result<void> diskAnswers() const;
  Task<void> keepJoined();
  void giveUp(const Error& error);

  const std::unique_ptr<Watched> watched_;
  Env& env_;
  const OsdOptions options_;
  std::unique_ptr<Store> store_;
  MapState map_;
  std::string address_;
  MdsLink link_;
  Service service_;
  RpcServer server_;
  Event settled_, failed_;
  Error failure_;
  TaskScope scope_;
};

}  // namespace cairn::osd
