// What the kernel lets run in its background, from the moment that it is read until it is answered:
// reads, writes, and the ends of open files (RELEASE). They decide when such an end can be read:
// while as many as the kernel allows are under way it keeps the next ones to itself, and while a
// read or write of an open file is under way it does not say that the file was closed.
// One reactor thread.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>

#include "common/base/ids.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class UnderWay {
 public:
  // `limit`: max_background.
  UnderWay(Reactor& reactor, size_t limit) : limit_(limit), answered_(reactor) {}

  // A request as it was read from the kernel.
  void asked(std::span<const uint8_t> request);
  // The kernel hears of its end now.
  void answered(uint64_t unique);

  // Unless it is, whatever the kernel has can be read.
  [[nodiscard]] bool full() const { return requests_.size() >= limit_; }
  // Until another one is answered.
  Task<void> nextAnswer() { return answered_.wait(); }
  // Until the reads and writes of the inode are answered that are under way now.
  Task<void> ended(InodeId ino);

 private:
  const size_t limit_;
  std::unordered_map<uint64_t, std::pair<InodeId, uint64_t>> requests_;  // by the kernel's number
  std::set<std::pair<InodeId, uint64_t>> data_;  // reads and writes, in order of arrival
  uint64_t lastArrival_ = 0;
  Pulse answered_;
};

}  // namespace cairn::client
