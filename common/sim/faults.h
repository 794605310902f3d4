// What a simulated world may do to its hosts: latencies, and faults that are off by default. Plain
// values, changed by the harness between events; they hold from the next operation on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/units.h"

namespace cairn::sim {

// How a node ends.
enum class Crash : uint8_t {
  kProcess,  // SIGKILL: what was written stays, as in a page cache; the host answers for its ports
  kPower,    // the whole machine: unsynced data is lost in part, peers hear nothing
};

// One direction between two hosts. Cutting and healing are SimFabric's, because they wake traffic.
struct LinkOptions {
  Duration latency = 40us;
  Duration jitter = 20us;  // uniform on top, for every segment; order is kept
  uint64_t bytesPerSec = 1'200'000'000;
  Duration clog{};  // more latency, while set
  // After so long without getting through, the sender's connection breaks, as TCP's does after its
  // last retransmission. Zero: never.
  Duration resetAfter{};
};

struct DiskOptions {
  Duration readLatency = 80us;
  Duration writeLatency = 60us;
  Duration syncLatency = 100us;
  Duration jitter = 40us;  // uniform on top: operations in flight complete in any order
  uint64_t bytesPerSec = 1'500'000'000;
};

// Probabilities are per operation, 0..1.
struct DiskFaults {
  double readError = 0;    // kIo
  double writeError = 0;   // kIo; the write may be there in part
  double syncError = 0;    // kIo; nothing became durable
  double flipOnRead = 0;   // one bit of what a read returns is wrong; the stored bytes are right
  double flipOnWrite = 0;  // one stored bit is wrong
  double lostWrite = 0;    // reported done, never stored
  double misdirected = 0;  // stored at another block of the same file
  double unreadable = 0;   // a stored block gives kIo until it is written again
  // All of that happens to this file alone, and not before that byte of it. Empty: everywhere.
  std::string file = {};
  uint64_t from = 0;
  double tornBlock = 0.25;  // on power loss: an unsynced block mixes old and new 512-byte sectors
  // Creating files beyond so many bytes in all gives kNoSpace.
  std::optional<uint64_t> capacityBytes = {};
  bool noSpace = false;  // every write gives kNoSpace, as a thin-provisioned device does
  struct BadRange {
    std::string path = {};
    uint64_t offset = 0;
    uint64_t bytes = 0;
    bool reads = true;
    bool writes = true;
    bool untilWritten = false;  // the disk has another sector for it then
  };
  std::vector<BadRange> bad = {};  // kIo on every touch
};

// Of the file system that LevelDB sees.
struct KvFaults {
  double syncError = 0;
  double appendError = 0;
  std::optional<uint64_t> capacityBytes = {};  // appends beyond give ENOSPC
  // On power loss, a lost tail is sometimes left as zeros instead of being cut.
  double zeroTail = 0.125;
};

}  // namespace cairn::sim
