// The shape of a file: size, holes, reserved space, and where data is.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "client/core/file.h"

namespace cairn::client {

namespace {
uint32_t chunkOf(uint64_t offset) {
  return static_cast<uint32_t>(offset / kChunkSize);
}
}  // namespace

// ---- Attributes and size ----

// Times that are set here must not be overridden by a later commit of older writes: those go first.
Task<Result<Attr>> File::setattr(AttrChange change) {
  if (!change.size) {
    // Not under the lease: the MDS may let us wait for others, who wait for our lease.
    co_await drain(0, UINT64_MAX);
    CO_TRY(co_await commit(false));
    co_return co_await mutateAttr(std::move(change));
  }
  while (true) {
    auto use = co_await enter(LeaseMode::kWrite, Urgency::kHoldsPages);
    CO_TRY(use);
    auto gate = co_await gate_.lock(0, 1, true);
    co_await drain(0, UINT64_MAX);
    CO_TRY(co_await commit(false));
    auto attr = co_await resize(change);
    // The session was lost on the way, and this was asked for in the next one.
    if (!attr && attr.error().code == Errc::kLeaseLost) continue;
    co_return attr;
  }
}

Task<Result<Attr>> File::mutateAttr(AttrChange change) {
  auto attr = co_await core_.mds.setattr(ino_, change);
  CO_TRY(attr);
  if (change.size) {
    state_.learnOwn(*attr);
    state_.resized();
  } else {
    learn(*attr);
  }
  co_return state_.merged(dirty_.end());
}

// gate_ is held exclusively and nothing is pending: the MDS knows the size that is cut.
Task<Result<Attr>> File::resize(AttrChange change) {
  const uint64_t to = *change.size, before = state_.server().size;
  if (to > kMaxFileSize) co_return fail(Errc::kTooBig, "a file holds at most 2^50 bytes");
  if (to > before && state_.server().tailUnclean) CO_TRY(co_await cleanTail());
  auto attr = co_await mutateAttr(std::move(change));
  CO_TRY(attr);
  if (to < before) chunks_.truncated(chunkOf(roundUp(to, kChunkSize)));
  changedOnDisk(std::min(to, before), UINT64_MAX);
  if (to < before && state_.server().tailUnclean) {
    // Not needed before somebody extends the file, but the space is given back now. Should it fail,
    // the mark stays.
    if (auto cleaned = co_await cleanTail(); !cleaned && cleaned.error().code == Errc::kCanceled)
      co_return fail(cleaned.error());
  }
  co_return state_.merged(dirty_.end());
}

Task<Result<void>> File::extendTo(uint64_t size) {
  if (size <= state_.server().size) co_return Result<void>{};
  AttrChange change;
  change.size = size;
  CO_TRY(co_await resize(std::move(change)));
  co_return Result<void>{};
}

// ---- fallocate(2) ----

Task<Result<void>> File::fallocate(const Handle& handle, int mode, uint64_t offset,
                                   uint64_t length) {
  const bool keepSize = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int what = mode & ~FALLOC_FL_KEEP_SIZE;
  if (what != 0 && what != FALLOC_FL_ZERO_RANGE && what != FALLOC_FL_PUNCH_HOLE)
    co_return fail(Errc::kNotSupported, "this mode of fallocate is not supported");
  if (what == FALLOC_FL_PUNCH_HOLE && !keepSize)
    co_return fail(Errc::kNotSupported, "a hole is punched with the size kept");
  if (length == 0) co_return fail(Errc::kInvalid, "nothing to allocate");
  if (length > kMaxFileSize || offset > kMaxFileSize - length)
    co_return fail(Errc::kTooBig, "a file holds at most 2^50 bytes");
  const uint64_t end = offset + length;

  auto use = co_await enter(LeaseMode::kWrite);
  CO_TRY(use);
  auto gate = co_await gate_.lock(0, 1, true);
  CO_TRY(handle.usable());
  co_await drain(0, UINT64_MAX);
  CO_TRY(co_await commit(false));
  if (what != 0) CO_TRY(co_await punch(offset, end));
  if (what != FALLOC_FL_PUNCH_HOLE) {
    CO_TRY(co_await reserve(offset, end));
    if (!keepSize) CO_TRY(co_await extendTo(end));
  }
  co_return Result<void>{};
}

// gate_ is held exclusively and nothing is dirty in the range. Bytes of [from, to) read as zeros
// afterwards.
Task<Result<void>> File::punch(uint64_t from, uint64_t to) {
  const uint64_t size = state_.server().size;
  if (from >= size) co_return Result<void>{};
  // A chunk of which all that the file has is punched goes as a whole.
  if (to >= size) to = roundUp(size, kChunkSize);
  const uint64_t firstWhole = roundUp(from, kChunkSize), endWhole = roundDown(to, kChunkSize);
  if (firstWhole < endWhole) {
    CO_TRY(co_await zeroStored(from, firstWhole));
    CO_TRY(co_await removeWhole(chunkOf(firstWhole), chunkOf(endWhole - firstWhole)));
    CO_TRY(co_await zeroStored(endWhole, to));
  } else {
    CO_TRY(co_await zeroStored(from, std::min(firstWhole, to)));
    if (firstWhole < to) CO_TRY(co_await zeroStored(firstWhole, to));
  }
  state_.stored(0);
  state_.wrote(core_.env.reactor.wallNow());
  notePending();
  co_return co_await commit(false);
}

// Part of one chunk.
Task<Result<void>> File::zeroStored(uint64_t from, uint64_t to) {
  if (from >= to) co_return Result<void>{};
  auto lock = co_await onDisk_.lock(from, to, true);
  co_return co_await zeroLocked(from, to);
}

// The same, by whoever holds the range.
Task<Result<void>> File::zeroLocked(uint64_t from, uint64_t to) {
  auto chunk = co_await chunks_.find(chunkOf(from));
  CO_TRY(chunk);
  if (!*chunk) co_return Result<void>{};
  auto zeroed = co_await core_.io.zero(**chunk, static_cast<uint32_t>(from % kChunkSize),
                                       static_cast<uint32_t>(to - from));
  changedOnDisk(from, to);
  co_return zeroed;
}

Task<Result<void>> File::removeWhole(uint32_t first, uint32_t count) {
  while (count != 0) {
    uint32_t n = std::min(count, kMaxChunksPerCall);
    auto attr = co_await core_.mds.removeChunks(ino_, first, n);
    CO_TRY(attr);
    state_.learnOwn(*attr);
    chunks_.removed(first, n);
    changedOnDisk(first * kChunkSize, (uint64_t{first} + n) * kChunkSize);
    first += n;
    count -= n;
  }
  co_return Result<void>{};
}

// Space for [from, to): later writes there do not fail for lack of it. A few chunks at a time, so
// that what does not fit is noticed before the MDS has made chunks for all of it.
Task<Result<void>> File::reserve(uint64_t from, uint64_t to) {
  constexpr uint64_t kStep = 16 * kChunkSize;
  for (uint64_t step = from; step < to; step = roundDown(step, kStep) + kStep) {
    const uint64_t end = std::min(to, roundDown(step, kStep) + kStep);
    CO_TRY(co_await chunks_.makeRange(chunkOf(step), chunkOf(end - 1) - chunkOf(step) + 1));
    for (uint64_t at = step; at < end;) {
      uint64_t next = std::min(end, roundDown(at, kChunkSize) + kChunkSize);
      auto chunk = co_await chunks_.make(chunkOf(at));
      CO_TRY(chunk);
      auto lock = co_await onDisk_.lock(at, next, true);
      CO_TRY(co_await core_.io.allocate(*chunk, static_cast<uint32_t>(at % kChunkSize),
                                        static_cast<uint32_t>(next - at)));
      at = next;
    }
  }
  co_return Result<void>{};
}

// ---- lseek(2) ----

// kNoAttribute stands for ENXIO. The end of the file is a hole.
Task<Result<uint64_t>> File::seek(uint64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE)
    co_return fail(Errc::kInvalid, "seek is for data and holes");
  const bool data = whence == SEEK_DATA;
  // The kernel does not write back what was stored into mapped pages before it asks this.
  if (mapped()) co_await core_.dropPages(*this);
  auto use = co_await enter(LeaseMode::kRead);
  CO_TRY(use);
  co_await drain(0, UINT64_MAX);
  const uint64_t size = this->size();
  if (offset >= size) co_return fail(Errc::kNoAttribute, "beyond the end of the file");
  const uint32_t chunks = chunkOf(roundUp(size, kChunkSize));
  uint64_t at = offset;
  while (at < size) {
    if (core_.stop.isSet()) co_return fail(Errc::kCanceled, "unmounting");
    auto index = co_await chunks_.firstFrom(chunkOf(at), chunks);
    CO_TRY(index);
    const uint64_t base = *index ? uint64_t{**index} * kChunkSize : size;
    if (base > at) {
      if (!data) co_return at;
      at = base;
      continue;
    }
    auto chunk = co_await chunks_.find(**index);
    CO_TRY(chunk);
    if (!*chunk) continue;  // another client took it away meanwhile
    auto extents = co_await core_.io.extents(**chunk, static_cast<uint32_t>(at - base));
    CO_TRY(extents);
    for (auto [from, length] : extents->data) {
      const uint64_t a = std::max(at, base + from), b = base + from + length;
      if (b <= at) continue;
      if (data) {
        if (a < size) co_return a;
        co_return fail(Errc::kNoAttribute, "no more data");
      }
      if (a > at) co_return at;
      at = b;
    }
    const uint64_t end = base + extents->end;
    if (at < end) {
      if (!data) co_return std::min(at, size);
      at = end;
    }
  }
  if (data) co_return fail(Errc::kNoAttribute, "no more data");
  co_return size;
}

}  // namespace cairn::client
