#include "osd/service/throttle.h"

#include <algorithm>

namespace cairn::osd {

namespace {
constexpr uint64_t kAtOnce = 16;
constexpr Duration kClientsLinger = 100ms;
// For a client that asks for something now and then, and beside many requests.
constexpr uint32_t kFewRests = 1, kManyRests = 5, kRequestsPerRest = 4;
constexpr Duration kLongestRest = 500ms;
}  // namespace

Throttle::Throttle(Reactor& reactor)
    : reactor_(reactor), slots_(reactor, kAtOnce), alone_(reactor) {}

void Throttle::noteClient() {
  lastClient_ = reactor_.now();
  if (lastClient_ - countedSince_ >= kClientsLinger) {
    requestsBefore_ = lastClient_ - countedSince_ < 2 * kClientsLinger ? requests_ : 0;
    requests_ = 0;
    countedSince_ = lastClient_;
  }
  ++requests_;
}

int Throttle::rests() const {
  const uint32_t requests = std::max(requests_, requestsBefore_);
  return static_cast<int>(std::min(kFewRests + requests / kRequestsPerRest, kManyRests));
}

bool Throttle::clientsServed() const {
  return lastClient_ != TimePoint{} && reactor_.now() - lastClient_ < kClientsLinger;
}

Task<Throttle::Turn> Throttle::turn(int weight) {
  co_await slots_.acquire();
  AsyncMutex::Guard alone;
  if (clientsServed()) {
    alone = co_await alone_.lock();
    if (clientsServed()) co_await sleepFor(reactor_, rest_);
  }
  co_return Turn(*this, weight, std::move(alone));
}

Throttle::Turn::Turn(Throttle& throttle, int weight, AsyncMutex::Guard alone)
    : throttle_(&throttle),
      weight_(weight),
      alone_(std::move(alone)),
      began_(throttle.reactor_.now()) {}

Throttle::Turn::~Turn() {
  if (throttle_ == nullptr) return;
  throttle_->rest_ =
      std::min(throttle_->rests() * weight_ * (throttle_->reactor_.now() - began_), kLongestRest);
  throttle_->slots_.release();
}

}  // namespace cairn::osd
