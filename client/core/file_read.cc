// Reading: clean pieces from the cache or the OSDs, this client's dirty bytes over them.
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "client/core/page_request.h"

namespace cairn::client {

Task<Result<std::vector<Buffer>>> File::read(Handle& handle, uint64_t offset, uint32_t length,
                                             Reading how) {
  Filesystem::PageWait pages;
  if (how.intoPages) pages = {roundDown(offset, kBlockSize), roundUp(offset + length, kBlockSize)};
  PageRequest request(*this, pages);
  while (true) {
    // Somebody may open it to map it while this waits.
    const bool mayBeChanged = how.intoPages && mapped();
    auto use = co_await enter(mayBeChanged ? LeaseMode::kWrite : LeaseMode::kRead,
                              Urgency::kCanWait, &request);
    CO_TRY(use);
    if (how.intoPages && mapped() && !mayBeChanged) continue;
    CO_TRY(handle.usable());
    shown_ += length;
    request.beginAnew();
    auto parts = co_await readHeld(handle, offset, length);
    if (!parts || !request.lapsed()) co_return parts;
  }
}

// Inside a Use.
Task<Result<std::vector<Buffer>>> File::readHeld(Handle& handle, uint64_t offset, uint32_t length) {
  const uint64_t end = std::min(offset + length, std::max(size(), offset));
  if (end == offset) co_return std::vector<Buffer>{};
  // Taken now: what is flushed while we read may or may not be in what the OSD answers.
  std::vector<DirtyMap::Piece> dirty = dirty_.overlay(offset, end);

  const bool direct = (handle.flags & O_DIRECT) != 0;
  ReadPattern::Plan plan;
  if (!direct)
    plan = handle.pattern.next(offset, end - offset, size(), core_.options.readaheadBytes);

  IntervalSet covered;
  for (const auto& d : dirty) covered.add(d.offset, d.offset + d.bytes.size());
  std::vector<Task<Result<Buffer>>> reads;
  std::vector<uint64_t> offsets;
  for (uint64_t at = offset; at < end;) {
    uint64_t next = std::min(end, roundDown(at, kPieceSize) + kPieceSize);
    if (covered.endOf(at) < next) {
      reads.push_back(readPiece(shared_from_this(), at, next, plan.wholePieces, direct));
      offsets.push_back(at);
    }
    at = next;
  }
  if (plan.aheadTo > end) readAhead(end, plan.aheadTo);
  auto parts = co_await collect(std::move(reads));
  if (!parts || dirty.empty()) co_return parts;

  // Copied, because dirty bytes may be written again while the caller still holds them.
  Buffer whole = core_.env.buffers.get(end - offset);
  for (size_t i = 0; i < parts->size(); ++i)
    std::memcpy(whole.data() + (offsets[i] - offset), (*parts)[i].data(), (*parts)[i].size());
  for (const auto& d : dirty)
    std::memcpy(whole.data() + (d.offset - offset), d.bytes.data(), d.bytes.size());
  parts->clear();
  parts->push_back(std::move(whole));
  co_return parts;
}

// The results in order, or the first error.
Task<Result<std::vector<Buffer>>> File::collect(std::vector<Task<Result<Buffer>>> reads) {
  std::vector<Buffer> parts;
  if (reads.size() == 1) {
    auto part = co_await std::move(reads.front());
    CO_TRY(part);
    parts.push_back(std::move(*part));
    co_return parts;
  }
  for (auto& part : co_await whenAll(core_.env.reactor, std::move(reads))) {
    CO_TRY(part);
    parts.push_back(std::move(*part));
  }
  co_return parts;
}

// [from, to) of one piece. `keep`: the whole piece is read and cached. `fresh`: what is cached does
// not count.
Task<Result<Buffer>> File::readPiece(std::shared_ptr<File> self, uint64_t from, uint64_t to,
                                     bool keep, bool fresh) {
  const uint64_t index = from / kPieceSize, start = index * kPieceSize;
  BlockCache& cache = self->core_.cache;
  if (!fresh) {
    if (auto hit = cache.find(self->ino_, index, to - start))
      co_return hit->slice(from - start, to - from);
    auto fill = cache.filling(self->ino_, index);
    if (!fill && keep) fill = self->startFill(index, to - start);
    if (fill) {
      co_await fill->done.wait();
      const Errc error = fill->result ? Errc::kOk : fill->result.error().code;
      // A block that is lost takes none with it but itself: what was asked for may be good.
      if (error != Errc::kCorrupt && error != Errc::kIo) CO_TRY(fill->result);
      // A fill that began when the file was shorter does not reach far enough.
      if (fill->result && fill->result->size() >= to - start)
        co_return fill->result->slice(from - start, to - from);
    }
  }
  const uint64_t a = roundDown(from, kBlockSize), b = roundUp(to, kBlockSize);
  auto blocks = co_await self->readStored(a, b - a);
  CO_TRY(blocks);
  co_return blocks->slice(from - a, to - from);
}

// Whole blocks inside one piece, as the OSDs have them.
Task<Result<Buffer>> File::readStored(uint64_t offset, uint64_t length) {
  const auto index = static_cast<uint32_t>(offset / kChunkSize);
  for (int tries = 1;; ++tries) {
    auto chunk = co_await chunks_.find(index);
    CO_TRY(chunk);
    if (!*chunk) co_return core_.io.zeros(length);
    auto got = co_await core_.io.read(**chunk, static_cast<uint32_t>(offset % kChunkSize),
                                      static_cast<uint32_t>(length));
    // Truncated while we read, by us or by another client.
    if (got || got.error().code != Errc::kStale || tries == kMaxStale) co_return got;
    chunks_.doubt(index, **chunk);
  }
}

std::shared_ptr<BlockCache::Fill> File::startFill(uint64_t index, uint64_t need) {
  const uint64_t start = index * kPieceSize, now = size();
  uint64_t length = std::max(need, now > start ? now - start : 0);
  auto fill = core_.cache.begin(ino_, index);
  core_.scope.spawn(
      fillPiece(shared_from_this(), fill, std::min(roundUp(length, kBlockSize), kPieceSize)));
  return fill;
}

Task<void> File::fillPiece(std::shared_ptr<File> self, std::shared_ptr<BlockCache::Fill> fill,
                           uint64_t length) {
  auto result = co_await self->readStored(fill->index * kPieceSize, length);
  self->core_.cache.finish(fill, std::move(result));
}

void File::readAhead(uint64_t from, uint64_t to) {
  // Pieces that are on their way count against the cache: beyond it they would push each other out
  // before they are read.
  const uint64_t room = core_.cache.limitBytes() / 2 / kPieceSize;
  for (uint64_t index = from / kPieceSize; index * kPieceSize < to; ++index) {
    if (core_.cache.fillsInFlight() >= room) break;
    if (core_.cache.holds(ino_, index) || core_.cache.filling(ino_, index)) continue;
    // What is dirty as a whole will not be asked of the OSDs.
    startFill(index, 1);
  }
}

}  // namespace cairn::client
