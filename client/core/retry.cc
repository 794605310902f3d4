#include "client/core/retry.h"

#include <algorithm>

#include "common/logging/log.h"

namespace cairn::client {

namespace {
constexpr Duration kFirstPause = 20ms;
constexpr Duration kLongestPause = 1s;
// A stall of this length deserves a line in the log: the application sees nothing but slowness.
constexpr Duration kTellAfter = 5s;
}  // namespace

Retry::Retry(Env& env, Event& stop, Duration patience, const char* what)
    : env_(env),
      stop_(stop),
      patience_(patience),
      what_(what),
      started_(env.reactor.now()),
      next_(kFirstPause) {}

Duration Retry::limit(Duration usual) const {
  if (patience_ == Duration::zero()) return usual;
  Duration left = patience_ - (env_.reactor.now() - started_);
  return std::clamp(left, Duration(1ms), usual);
}

Task<Result<void>> Retry::pause(Error why, Event* early) {
  if (stop_.isSet()) co_return fail(Errc::kCanceled, "unmounting");
  Duration spent = env_.reactor.now() - started_;
  if (patience_ != Duration::zero() && spent >= patience_)
    co_return fail(Errc::kIo, std::string(what_) + " gave no answer in time: " + why.text());
  if (spent >= kTellAfter && !told_) {
    told_ = true;
    env_.log.warning("still waiting", {{"for", what_}, {"reason", why.text()}});
  }
  Duration half = next_ / 2;
  Duration wait = half + Duration(env_.random.below(static_cast<uint64_t>(half.count()) + 1));
  next_ = std::min(next_ * 2, kLongestPause);
  co_await (early != nullptr ? *early : stop_).waitFor(wait);
  if (stop_.isSet()) co_return fail(Errc::kCanceled, "unmounting");
  co_return Result<void>{};
}

}  // namespace cairn::client
