#include "mds/server/orphan_keeper.h"

#include <algorithm>

namespace cairn::mds {
namespace {

constexpr size_t kBatch = 256;
constexpr uint32_t kChunksAtOnce = 1024;  // of one purge command
// Between looks: many removals are dealt with together.
constexpr Duration kPause = 50ms;

}  // namespace

OrphanKeeper::OrphanKeeper(Env& env, StateMachine& state, Proposer& proposer,
                           const Sessions& sessions)
    : state_(state),
      proposer_(proposer),
      sessions_(sessions),
      work_(env.reactor),
      stopped_(env.reactor) {}

void OrphanKeeper::stop() {
  stopped_.set();
  work_.set();
}

Task<void> OrphanKeeper::run() {
  while (!stopped_.isSet()) {
    co_await work_.wait();
    if (co_await stopped_.waitFor(kPause)) break;
    work_.reset();
    co_await pass();
  }
}

Task<void> OrphanKeeper::pass() {
  InodeId after;
  while (!stopped_.isSet()) {
    auto batch = state_.orphans(after, kBatch);
    if (!batch || batch->empty()) break;
    after = batch->back().ino;
    for (const Orphan& orphan : *batch) {
      size_t held = orphan.holders.size();
      for (SessionId session : orphan.holders) {
        if (!sessions_.surelyNotHolding(session, orphan.ino)) continue;
        if (!co_await release(orphan.ino, session)) co_return;  // the log is closed: we stop
        --held;
      }
      if (held == 0 && !co_await purge(orphan.ino)) co_return;
    }
    // Held orphans are looked at without waiting for anything: let others run.
    if (co_await stopped_.waitFor(1ms)) break;
  }
}

Task<Result<void>> OrphanKeeper::release(InodeId ino, SessionId session) {
  Draft draft;
  auto r = draft.mutation().initReleaseOrphan();
  r.setIno(ino.value);
  r.setSession(session.value);
  auto done = co_await proposer_.propose(std::move(draft));
  // The state machine may say that there was nothing to release; only the log's end matters.
  if (!done && (done.error().code == Errc::kCanceled || done.error().retryable()))
    co_return fail(done.error());
  co_return Result<void>{};
}

Task<Result<void>> OrphanKeeper::purge(InodeId ino) {
  while (!stopped_.isSet()) {
    auto left = state_.orphans(InodeId{ino.value - 1}, 1);
    if (!left || left->empty() || left->front().ino != ino || !left->front().holders.empty()) break;
    Draft draft;
    auto p = draft.mutation().initPurge();
    p.setIno(ino.value);
    p.setLimit(kChunksAtOnce);
    auto done = co_await proposer_.propose(std::move(draft));
    if (done) continue;
    if (done.error().code == Errc::kCanceled || done.error().retryable())
      co_return fail(done.error());
    break;
  }
  co_return Result<void>{};
}

}  // namespace cairn::mds
