// The world a daemon runs in, wired up once in main() (or by the simulator, one per simulated
// process) and handed down. Nothing here is owned; everything outlives the daemon.
#pragma once

namespace cairn {

class Reactor;
class Random;
class Network;
class Disk;
class KvFactory;
class BufferPool;
class Log;
class MetricsRegistry;

struct Env {
  Reactor& reactor;
  Random& random;
  Network& network;
  Disk& disk;
  KvFactory& kv;
  BufferPool& buffers;
  Log& log;
  MetricsRegistry& metrics;
};

}  // namespace cairn
