// A whole Cairn cluster in one simulated world: one MDS, some OSDs with small stores, some mounts,
// each on a host of its own. Everything is the real thing; only the world below is simulated.
//
// Called from the test's main flow, never from a coroutine: every function here runs the world
// until what it does is done. A daemon that does not start or end as it should fails the test.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/core/filesystem.h"
#include "common/sim/sim_world.h"
#include "mds/server/mds.h"
#include "osd/service/osd.h"

namespace cairn::sim::test {

// An erasure-coded pool.
struct StripedPool {
  uint16_t data = 0, parity = 0;
  uint32_t stripeUnit = 0;  // bytes
  uint16_t minSize = 0;
};

struct ClusterOptions {
  size_t osds = 3;
  uint16_t replicas = 3;
  size_t clients = 2;
  Duration outAfter = 10min;                // of OSDs that are down
  std::optional<StripedPool> striped = {};  // all files lie in it, and none in that of copies
  uint64_t storeBytes = 128 * kMiB;         // of an OSD
  // What failure domains are told: OSD i is on host i / osdsPerHost, and so on.
  size_t osdsPerHost = 1, hostsPerRack = 1;
  // How much faster than the world's the monotonic clocks run of the MDS, of every second OSD and
  // of every second mount. The others are as much slower.
  int64_t driftPpm = 0;

  // Members of a group.
  [[nodiscard]] size_t width() const {
    return striped ? size_t{striped->data} + striped->parity : replicas;
  }
};

class SimCluster {
 public:
  SimCluster(uint64_t seed, ClusterOptions options);
  ~SimCluster();
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  SimWorld world;

  [[nodiscard]] const ClusterOptions& options() const { return options_; }
  static std::string mdsHost() { return "mds"; }
  static std::string osdHost(size_t i) { return "osd" + std::to_string(i); }
  static std::string clientHost(size_t i) { return "client" + std::to_string(i); }
  [[nodiscard]] std::vector<std::string> daemonHosts() const;

  // ---- The MDS ----
  void startMds();
  void endMds();  // in order, or what a crash left
  [[nodiscard]] mds::Mds& mds() { return *mds_.daemon; }
  [[nodiscard]] SimNode& mdsNode() { return *mds_.node; }

  // ---- OSDs, from 0 ----
  void startOsd(size_t i);
  void endOsd(size_t i);
  [[nodiscard]] bool running(size_t i) const { return osds_[i].daemon != nullptr; }
  // One more, which runs; its number.
  size_t addOsd();
  [[nodiscard]] size_t osds() const { return osds_.size(); }
  [[nodiscard]] size_t hostOf(size_t i) const { return i / options_.osdsPerHost; }
  // Killed, and its disk with it: the next start makes a new store, which is another OSD.
  void loseOsd(size_t i);
  // A command of an administrator; it must succeed.
  void administer(const std::function<void(schema::Mutation::Builder)>& fill);
  void putIn(OsdId osd, bool in);
  void removeOsd(OsdId osd, bool force = false);
  // A deep scrub of everything, until it is done; how many errors it has found. All are mended.
  uint64_t scrub();
  // A bit flips in each block of an OSD's data while it is stopped for a moment.
  void rot(size_t i);
  // What goes wrong with an OSD's disk: with all of it, or with the data of chunks alone.
  DiskFaults& diskOf(size_t i) { return world.machine(osdHost(i)).disk.faults; }
  [[nodiscard]] DiskFaults dataOnly(size_t i) const;
  [[nodiscard]] osd::Osd& osd(size_t i) { return *osds_[i].daemon; }
  [[nodiscard]] SimNode& osdNode(size_t i) { return *osds_[i].node; }
  // Of an OSD that has ended, by the offline checker: its findings.
  [[nodiscard]] std::vector<std::string> checkStoreOf(size_t i);

  // ---- Mounts, from 0 ----
  void mount(size_t i);
  void unmount(size_t i);    // everything is flushed
  void killMount(size_t i);  // SIGKILL, and what is left of it cleaned up
  void killMounts();         // all of them
  [[nodiscard]] client::Filesystem& fs(size_t i) { return *mounts_[i].fs; }
  [[nodiscard]] SimNode& clientNode(size_t i) { return *mounts_[i].node; }
  [[nodiscard]] Env& clientEnv(size_t i) { return *mounts_[i].env; }

  // ---- All ----
  void startDaemons();
  // All machines at once, and what is left of them cleaned up.
  void losePower();
  // Every placement group has all its members, in sync and nobody else.
  [[nodiscard]] bool whole() const;
  // Some group lists it.
  [[nodiscard]] bool uses(OsdId osd) const;
  // The first OSD that has a change of a stripe staged, of those that run.
  [[nodiscard]] std::optional<size_t> withStaged() const;
  // Until every OSD has joined, and that.
  void waitForService();

 private:
  struct Idle {};
  SimCluster(uint64_t seed, ClusterOptions options, Idle);  // nothing runs yet
  struct MdsProcess {
    SimNode* node = nullptr;
    std::optional<Env> env;
    std::unique_ptr<mds::Mds> daemon;
  };
  struct OsdProcess {
    SimNode* node = nullptr;
    std::optional<Env> env;
    std::unique_ptr<Event> stopping;
    size_t disk = 0;  // the how many-th
    std::unique_ptr<osd::Osd> daemon;
  };
  struct Mounted {
    SimNode* node = nullptr;
    std::optional<Env> env;
    std::unique_ptr<client::Filesystem> fs;
  };
  [[nodiscard]] osd::StoreOptions storeOptions(size_t i) const;
  [[nodiscard]] NodeOptions nodeOptions(std::string name, int64_t driftPpm = 0) const;
  [[nodiscard]] int64_t driftOf(size_t i) const {
    return i % 2 == 0 ? -options_.driftPpm : options_.driftPpm;
  }
  // The answer of a daemon, which must be a good one.
  InMessage ask(const Endpoint& daemon, OutMessage message);
  // What the OSDs have told of their scrubs.
  struct Scrubbed {
    uint64_t groupsLeft = 0, found = 0;
  };
  Scrubbed scrubbed();
  void abandonMounts();
  void makeStripedPool(const StripedPool& pool);

  const ClusterOptions options_;
  bool mdsMade_ = false;
  MdsProcess mds_;
  std::deque<OsdProcess> osds_;  // which stay where they are
  std::vector<Mounted> mounts_;
};

}  // namespace cairn::sim::test
