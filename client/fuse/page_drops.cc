#include "client/fuse/page_drops.h"

#include <algorithm>

namespace cairn::client {

// Not a coroutine itself: it counts from the call on.
Task<void> PageDrops::drop(InodeId ino) {
  begin(ino);
  return dropAround(ino);
}

Task<void> PageDrops::dropAround(InodeId ino) {
  Pieces pieces;
  start(ino, 0, kEnd, waits_(ino), pieces);
  while (true) {
    std::erase_if(pieces, [](const auto& piece) { return piece->dropped; });
    if (pieces.empty()) break;
    const auto waits = waits_(ino);
    if (std::ranges::any_of(waits, [](const auto& wait) { return wait.write; })) break;
    // A piece that may be stuck where a request waits now is started again around it.
    Pieces around;
    std::erase_if(pieces, [&](const auto& piece) {
      const bool stuck = std::ranges::any_of(
          waits, [&](const auto& wait) { return wait.from < piece->to && piece->from < wait.to; });
      if (stuck) start(ino, piece->from, piece->to, waits, around);
      return stuck;
    });
    pieces.insert(pieces.end(), around.begin(), around.end());
    if (!pieces.empty()) co_await changed_.wait();
  }
  end(ino);
}

void PageDrops::start(InodeId ino, uint64_t from, uint64_t to,
                      const std::vector<Filesystem::PageWait>& waits, Pieces& pieces) {
  std::vector<Filesystem::PageWait> sorted = waits;
  std::ranges::sort(sorted, {}, &Filesystem::PageWait::from);
  auto piece = [&](uint64_t a, uint64_t b) {
    if (a >= b) return;
    pieces.push_back(std::make_shared<Piece>(a, b));
    begin(ino);
    scope_.spawn(dropPiece(ino, pieces.back()));
  };
  for (const auto& wait : sorted) {
    piece(from, std::min(wait.from, to));
    from = std::max(from, wait.to);
  }
  piece(from, to);
}

Task<void> PageDrops::dropPiece(InodeId ino, std::shared_ptr<Piece> piece) {
  co_await invalidate_(ino, piece->from, piece->to);
  piece->dropped = true;
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
