#include "client/fuse/page_drops.h"

#include <algorithm>

namespace cairn::client {

namespace {

// Where one request begins to wait, others do: one more walk for all that come in this time.
constexpr Duration kGather = 1ms;
// What a walk takes that is not stuck, and more.
constexpr Duration kWritePatience = 20ms;

bool inTheWay(const std::vector<Filesystem::PageWait>& waits, const PageDrops::Walk& walk) {
  return std::ranges::any_of(waits, [&](const auto& wait) {
    return std::ranges::any_of(walk.spans, [&](const PageDrops::Span& span) {
      return wait.from < span.to && span.from < wait.to;
    });
  });
}

}  // namespace

// Not a coroutine itself: it counts from the call on.
Task<void> PageDrops::drop(InodeId ino, Span span) {
  begin(ino);
  return dropAround(ino, span);
}

Task<void> PageDrops::dropAround(InodeId ino, Span span) {
  std::shared_ptr<Walk> walk = start(ino, span, waits_(ino));
  Duration withWrites{};
  while (!walk->ended) {
    const auto waits = waits_(ino);
    if (inTheWay(waits, *walk)) {
      co_await sleepFor(reactor_, kGather);
      if (walk->ended) break;
      walk->superseded = true;
      walk = start(ino, span, waits_(ino));
      withWrites += kGather;
    } else if (std::ranges::any_of(waits, &Filesystem::PageWait::write)) {
      if (withWrites > kWritePatience) break;
      co_await changed_.event().waitFor(kGather);
      withWrites += kGather;
    } else {
      co_await changed_.wait();
    }
  }
  end(ino);
}

// Around what the requests have locked that wait now.
std::shared_ptr<PageDrops::Walk> PageDrops::start(InodeId ino, Span span,
                                                  std::vector<Filesystem::PageWait> waits) {
  auto walk = std::make_shared<Walk>();
  std::ranges::sort(waits, {}, &Filesystem::PageWait::from);
  uint64_t at = span.from;
  for (const auto& wait : waits) {
    if (at < std::min(wait.from, span.to))
      walk->spans.push_back({at, std::min(wait.from, span.to)});
    at = std::max(at, wait.to);
  }
  if (at < span.to) walk->spans.push_back({at, span.to});
  begin(ino);
  scope_.spawn(run(ino, walk));
  return walk;
}

Task<void> PageDrops::run(InodeId ino, std::shared_ptr<Walk> walk) {
  co_await drop_(ino, walk);
  walk->ended = true;
  end(ino);
}

void PageDrops::end(InodeId ino) {
  auto it = underWay_.find(ino);
  if (--it->second == 0) underWay_.erase(it);
  changed_.fire();
}

Task<void> PageDrops::ended(InodeId ino) {
  while (underWay(ino)) co_await changed_.wait();
}

}  // namespace cairn::client
