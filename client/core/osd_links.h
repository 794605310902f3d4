// One connection to each OSD that was talked to, at the address that the map gives. One reactor
// thread; close() before destruction.
#pragma once

#include <map>
#include <memory>

#include "common/cluster/cluster_map.h"
#include "common/reactor/sync.h"
#include "common/wire/rpc.h"

namespace cairn::client {

class OsdLinks {
 public:
  OsdLinks(Env& env, TaskScope& scope) : env_(env), scope_(scope) {}
  OsdLinks(const OsdLinks&) = delete;
  OsdLinks& operator=(const OsdLinks&) = delete;

  // Whom the OSDs see. A change drops all connections: what is in flight is repeated under the new
  // name.
  void identify(Uuid cluster, uint64_t session);
  // kUnavailable when the address of the entry is not one.
  Result<std::shared_ptr<RpcClient>> to(const OsdEntry& osd);
  // Lets go of OSDs that the map says are down: whoever waits for one looks for its successor.
  void follow(const ClusterMap& map);
  Task<void> close();

 private:
  struct Link {
    std::string addr;
    std::shared_ptr<RpcClient> client;
  };
  static Task<void> retire(std::shared_ptr<RpcClient> client);
  Env& env_;
  TaskScope& scope_;
  Identity self_{schema::Hello::Role::CLIENT, {}, 0};
  std::map<OsdId, Link> links_;
  bool closed_ = false;
};

}  // namespace cairn::client
