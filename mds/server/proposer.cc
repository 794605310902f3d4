#include "mds/server/proposer.h"

#include <algorithm>
#include <deque>

namespace cairn::mds {

Proposer::Proposer(Env& env, StateMachine& state, Observer observer, AfterGroup afterGroup)
    : env_(env),
      state_(state),
      observer_(std::move(observer)),
      afterGroup_(std::move(afterGroup)) {}

void Proposer::fatal(const Error& error) {
  if (failed_) return;
  failed_ = true;
  if (onFatal) onFatal(error);
}

Result<void> Proposer::onCommitted(LogIndex first, std::span<const Bytes> commands) {
  std::deque<FlatReader> messages;  // they do not move
  std::vector<schema::Command::Reader> readers;
  readers.reserve(commands.size());
  try {
    for (Bytes bytes : commands)
      readers.push_back(messages.emplace_back(bytes).root<schema::Command>());
    auto applied = state_.apply(first, readers);
    TRY(applied);
    for (size_t i = 0; i < readers.size(); ++i) {
      // A clock that was set back must not order what comes before what was.
      lastTimeNs_ = std::max(lastTimeNs_, readers[i].getTimeNs());
      observer_(readers[i], (*applied)[i]);
      if (auto it = waiting_.find(readers[i].getRandom()); it != waiting_.end())
        *it->second = std::move((*applied)[i]);
    }
  } catch (const kj::Exception& e) {
    return fail(Errc::kCorrupt,
                "command " + std::to_string(first.value) +
                    " or one of the next is not readable: " + e.getDescription().cStr());
  }
  afterGroup_();
  return {};
}

Task<Result<std::string>> Proposer::propose(Draft draft) {
  CAIRN_ASSERT(log_ != nullptr, "commands are proposed once the log is there");
  if (failed_) co_return fail(Errc::kUnavailable, "this metadata server is stopping");
  auto command = draft.command();
  uint64_t random = env_.random.next();
  while (random == 0 || waiting_.contains(random)) random = env_.random.next();
  lastTimeNs_ = std::max(lastTimeNs_, env_.reactor.wallNow());
  command.setTimeNs(lastTimeNs_);
  command.setRandom(random);
  auto record = draft.finish(env_.buffers);
  CO_TRY(record);
  ++proposed_;
  Applied applied;
  waiting_.emplace(random, &applied);
  auto index = co_await log_->append(std::move(*record));
  waiting_.erase(random);
  if (!index) {
    const Errc code = index.error().code;
    // These leave the log as it was; after anything else only recovery knows what is in it.
    const bool harmless = code == Errc::kTooBig || code == Errc::kCanceled ||
                          code == Errc::kNotLeader || code == Errc::kUnavailable ||
                          code == Errc::kTimeout;
    if (!harmless) {
      fatal(index.error());
      co_return fail(Errc::kUnavailable, "this metadata server is stopping");
    }
    co_return fail(index.error());
  }
  if (applied.code != Errc::kOk) co_return fail(applied.code, std::move(applied.detail));
  co_return std::move(applied.reply);
}

}  // namespace cairn::mds
