#include "osd/service/throttle.h"

#include <algorithm>

namespace cairn::osd {

namespace {
constexpr uint64_t kAtOnce = 16;
constexpr Duration kClientsLinger = 100ms;
constexpr int kRests = 5;  // as long as a turn took, each
constexpr Duration kLongestRest = 250ms;
}  // namespace

Throttle::Throttle(Reactor& reactor)
    : reactor_(reactor), slots_(reactor, kAtOnce), alone_(reactor) {}

bool Throttle::clientsServed() const {
  return lastClient_ != TimePoint{} && reactor_.now() - lastClient_ < kClientsLinger;
}

Task<Throttle::Turn> Throttle::turn() {
  co_await slots_.acquire();
  AsyncMutex::Guard alone;
  if (clientsServed()) {
    alone = co_await alone_.lock();
    if (clientsServed()) co_await sleepFor(reactor_, rest_);
  }
  co_return Turn(*this, std::move(alone));
}

Throttle::Turn::Turn(Throttle& throttle, AsyncMutex::Guard alone)
    : throttle_(&throttle), alone_(std::move(alone)), began_(throttle.reactor_.now()) {}

Throttle::Turn::~Turn() {
  if (throttle_ == nullptr) return;
  throttle_->rest_ = std::min(kRests * (throttle_->reactor_.now() - began_), kLongestRest);
  throttle_->slots_.release();
}

}  // namespace cairn::osd
