// Who waits for which request. A process that is killed while a daemon is away must not stay until
// that is back: Linux sends its request back only if nobody has taken it up, and waits for the
// answer otherwise. So requests of processes that are being killed, or that end and only close
// what they had open, are answered with EINTR; what was asked for goes on, and its own answer is
// swallowed. It may be done or not, as with any machine that goes down between question and
// answer, but nobody is left who could tell the difference.
//
// Requests that concern locks are told that they were given up (FuseEdge::onGivenUp).
//
// Signals that leave the process alive do not count: nobody expects EINTR from unlink(2). A thread
// that is gone does not either: what it has left under way, with io_submit(2) or by reading ahead,
// is waited for by others.
// One reactor thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/units.h"
#include "common/reactor/reactor.h"

namespace cairn::client {

class Callers {
 public:
  // A request as it was read from the kernel.
  void asked(std::span<const uint8_t> request, TimePoint now);
  // An answer is about to be written. If it is to be swallowed: the files whose pages may not be as
  // the kernel believes (or zero); any attributes and names may not.
  [[nodiscard]] std::optional<std::array<InodeId, 2>> swallowed(uint64_t unique);
  // Requests since before `since` whose callers wait no longer, to be answered with EINTR now.
  [[nodiscard]] std::vector<uint64_t> abandoned(TimePoint since);

 private:
  struct Request {
    uint32_t thread = 0;
    uint32_t opcode = 0;
    InodeId ino, target;  // what is asked about, and of a copy where it goes to
    TimePoint at{};
    bool given = false;  // the answer that nobody waited for: EINTR
  };
  std::unordered_map<uint64_t, Request> requests_;  // by the kernel's number
};

}  // namespace cairn::client
