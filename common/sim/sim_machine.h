// One simulated host: what survives its processes, and the ports they share.
#pragma once

#include <map>
#include <string>

#include "common/sim/sim_disk.h"
#include "common/sim/sim_kv_env.h"

namespace cairn::sim {

class SimListener;
class SimWorld;

struct SimMachine {
  SimMachine(SimWorld& world, std::string name) : host(std::move(name)), disk(world), kv(world) {}
  SimMachine(const SimMachine&) = delete;
  SimMachine& operator=(const SimMachine&) = delete;

  const std::string host;
  bool powered = true;
  SimDiskStore disk;  // files of Disk, with their latencies and faults
  SimVolume kv;       // the file system of the databases
  std::map<uint16_t, SimListener*> ports;
  uint16_t nextPort = 40000;
};

}  // namespace cairn::sim
