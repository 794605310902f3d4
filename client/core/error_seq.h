// Errors of background flushes, each reported once to every handle that was open when it happened
// (as errseq_t in Linux): an application that fsyncs learns of lost data whoever wrote it. One
// reactor thread.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/result.h"

namespace cairn::client {

class ErrorSeq {
 public:
  void record(Error error) {
    error_ = std::move(error);
    // As long as nobody has seen the last one, this is the same incident.
    if (!unseen_) ++count_;
    unseen_ = true;
  }
  // Where a new handle starts: after what others have seen, before what nobody was told yet.
  [[nodiscard]] uint64_t sample() const { return unseen_ ? count_ - 1 : count_; }
  // The error that happened after `seen`, once.
  std::optional<Error> check(uint64_t& seen) {
    if (seen == count_) return std::nullopt;
    seen = count_;
    unseen_ = false;
    return error_;
  }
  // What no handle was told.
  [[nodiscard]] std::optional<Error> untold() const {
    return unseen_ ? std::optional<Error>(error_) : std::nullopt;
  }

 private:
  Error error_;
  uint64_t count_ = 0;
  bool unseen_ = false;
};

}  // namespace cairn::client
