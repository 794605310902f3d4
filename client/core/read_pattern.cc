#include "client/core/read_pattern.h"

#include <algorithm>

#include "common/base/units.h"

namespace cairn::client {

namespace {
// How far from the frontier a read may lie and still belong to the run.
constexpr uint64_t kSlack = 2 * kMiB;
// A file of up to so many bytes is read whole at its first touch.
constexpr uint64_t kSmallFile = 256 * kKiB;
// A reader is taken for sequential after so many bytes.
constexpr uint64_t kConvinced = 128 * kKiB;
}  // namespace

ReadPattern::Plan ReadPattern::next(uint64_t offset, uint64_t length, uint64_t size,
                                    uint64_t maxAhead) {
  bool continues = offset <= frontier_ + std::min(kSlack, run_) && offset + kSlack >= frontier_;
  if (continues) {
    run_ += length;
    frontier_ = std::max(frontier_, offset + length);
  } else {
    run_ = length;
    frontier_ = offset + length;
  }
  Plan plan;
  if (size <= kSmallFile) {
    plan.wholePieces = true;
  } else if (continues && run_ >= kConvinced) {
    plan.wholePieces = true;
    plan.aheadTo = std::min(size, frontier_ + std::min(maxAhead, 2 * run_));
  }
  return plan;
}

}  // namespace cairn::client
