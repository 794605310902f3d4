// What `status`, `df`, `osd ls` and `pool ls` show: the MDS's status reply as values and as the
// JSON of the contract.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/cluster/health.h"
#include "common/schema/mds.capnp.h"
#include "tools/cairn/command.h"

namespace cairn::tools {

struct PoolView {
  PoolId id;
  std::string name, redundancy, deviceClass;
  uint64_t chunks = 0, bytes = 0;
  size_t width = 0;
  PgCounts pgs;
};

struct ClusterView {
  struct Mds {
    uint32_t id = 0, pid = 0;
    std::string addr, role;
  };
  struct Client {
    uint64_t id = 0;
    std::string addr, mount, host;
    uint32_t pid = 0, leases = 0;
  };
  ClusterMap map;
  std::vector<Mds> mds;
  std::vector<PoolView> pools;
  std::vector<Client> clients;
  std::vector<std::string> problems;
  struct Recovery {
    uint64_t chunksLeft = 0, bytesLeft = 0, bytesPerSec = 0;
  };
  Recovery recovery;
  struct Scrub {
    uint64_t groupsLeft = 0, errorsFound = 0, errorsRepaired = 0, unrepairable = 0;
    int64_t oldestNs = 0;  // Unix time; 0: never
  };
  Scrub scrub;
  std::string health, mdsHost;
  uint64_t inodes = 0, garbageChunks = 0;
  std::map<OsdId, uint64_t> downMs;  // of those that are down: for how long, as the MDS knows

  static ClusterView read(schema::StatusReply::Reader reply);
  [[nodiscard]] nlohmann::json json() const;
};

// Asks the target's MDS. `use` gets the view; its error is the command's.
int withClusterView(const Target& target,
                    const std::function<Result<void>(const ClusterView&)>& use);

// Left-aligned columns, the first row being the heading.
void printTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace cairn::tools
