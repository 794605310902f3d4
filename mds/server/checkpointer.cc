#include "mds/server/checkpointer.h"

namespace cairn::mds {
namespace {
constexpr double kFullness = 0.5;
constexpr Duration kInterval = 30s;
}  // namespace

Checkpointer::Checkpointer(Env& env, StateMachine& state, CommandLog& log)
    : state_(state), log_(log), work_(env.reactor) {}

void Checkpointer::noteAppended() {
  if (log_.fullness() > kFullness) work_.set();
}

void Checkpointer::stop() {
  stopped_ = true;
  work_.set();
}

Task<Result<void>> Checkpointer::run() {
  while (!stopped_) {
    co_await work_.waitFor(kInterval);
    if (stopped_) break;
    work_.reset();
    CO_TRY(co_await checkpoint());
  }
  co_return Result<void>{};
}

Task<Result<void>> Checkpointer::checkpoint() {
  const LogIndex upTo = state_.applied();
  if (upTo == trimmed_) co_return Result<void>{};
  CO_TRY(co_await state_.sync());
  log_.trim(upTo);
  trimmed_ = upTo;
  co_return Result<void>{};
}

}  // namespace cairn::mds
