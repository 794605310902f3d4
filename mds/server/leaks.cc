#include "mds/server/leaks.h"

#include <algorithm>

#include "common/logging/log.h"
#include "common/reactor/pulse.h"

namespace cairn::mds {
namespace {

// Which of some chunks, ascending by id, something names.
class Named {
 public:
  explicit Named(const std::vector<Suspect>& suspects)
      : suspects_(suspects), named_(suspects.size()) {}

  void see(ChunkId id) {
    const auto at = std::ranges::lower_bound(suspects_, id, {}, &Suspect::chunk);
    if (at != suspects_.end() && at->chunk == id)
      named_[static_cast<size_t>(at - suspects_.begin())] = true;
  }
  [[nodiscard]] std::vector<Suspect> others() const {
    std::vector<Suspect> out;
    for (size_t i = 0; i < suspects_.size(); ++i)
      if (!named_[i]) out.push_back(suspects_[i]);
    return out;
  }

 private:
  const std::vector<Suspect>& suspects_;
  std::vector<bool> named_;
};

Error gone() {
  return Error(Errc::kUnavailable, "the connection is gone");
}

}  // namespace

// Chunks move from a chunk map to the queue and from there nowhere: so in this order none slips by.
Task<Result<Leaked>> findLeaked(Reactor& reactor, StateMachine& state,
                                std::vector<Suspect> suspects, const Caller& caller, size_t page) {
  const ChunkId below = state.nextChunk();
  std::erase_if(suspects, [&](const Suspect& s) {
    return !s.chunk || s.chunk >= below || state.map().pool(s.pool) == nullptr;
  });
  std::ranges::sort(suspects, {}, &Suspect::chunk);
  const auto twice = std::ranges::unique(suspects, {}, &Suspect::chunk);
  suspects.erase(twice.begin(), twice.end());
  Named named(suspects);
  FileChunk last;
  for (bool more = !suspects.empty(); more;) {
    auto chunks = state.fileChunks(last.ino, last.chunk.index, page);
    CO_TRY(chunks);
    for (const FileChunk& c : *chunks) named.see(c.chunk.id);
    more = chunks->size() == page;
    if (more) last = chunks->back();
    co_await yield(reactor);
    if (caller.gone()) co_return fail(gone());
  }
  uint64_t position = 0;
  for (bool more = !suspects.empty(); more;) {
    auto garbage = state.garbage(position, page);
    CO_TRY(garbage);
    for (const Garbage& g : *garbage) named.see(g.chunk);
    more = garbage->size() == page;
    if (more) position = garbage->back().id;
    co_await yield(reactor);
    if (caller.gone()) co_return fail(gone());
  }
  co_return Leaked{named.others(), below};
}

Task<Result<std::vector<ChunkId>>> Leaks::remove(std::vector<Suspect> suspects,
                                                 const Caller& caller) {
  co_await turn_.acquire();
  auto removed = co_await removeAlone(std::move(suspects), caller);
  turn_.release();
  co_return removed;
}

Task<Result<std::vector<ChunkId>>> Leaks::removeAlone(std::vector<Suspect> suspects,
                                                      const Caller& caller) {
  std::vector<ChunkId> removed;
  auto leaked = co_await findLeaked(env_.reactor, state_, std::move(suspects), caller);
  CO_TRY(leaked);
  if (leaked->chunks.empty()) co_return removed;
  constexpr size_t kChunkWords = 2;
  Draft draft(leaked->chunks.size() * kChunkWords + 16);
  auto command = draft.mutation().initChunksLeaked();
  command.setBelow(leaked->below.value);
  auto list = command.initChunks(static_cast<uint32_t>(leaked->chunks.size()));
  for (uint32_t i = 0; i < list.size(); ++i) {
    list[i].setChunk(leaked->chunks[i].chunk.value);
    list[i].setPool(leaked->chunks[i].pool.value);
    removed.push_back(leaked->chunks[i].chunk);
  }
  auto done = co_await proposer_.propose(std::move(draft));
  CO_TRY(done);
  env_.log.warning("chunks that no file names are removed", {{"chunks", removed.size()}});
  co_return removed;
}

}  // namespace cairn::mds
