#include "client/core/file_copy.h"

#include <fcntl.h>

#include <algorithm>

namespace cairn::client {

namespace {

// A call goes on in the caller's next one, so that it can be interrupted: after so many bytes, and
// after so many that were moved.
constexpr uint64_t kMaxCopied = kGiB;
constexpr uint64_t kMaxMoved = 128 * kMiB;
// Less is not worth the requests to the MDS and the OSDs.
constexpr uint64_t kMinCloned = 128 * kKiB;

uint32_t chunkOf(uint64_t offset) {
  return static_cast<uint32_t>(offset / kChunkSize);
}

// Bytes of the range up to where the chunk ends in which it begins.
uint64_t toChunkEnd(uint64_t offset) {
  return kChunkSize - offset % kChunkSize;
}

}  // namespace

// ---- The two files ----

Task<Result<std::vector<std::optional<ChunkAddr>>>> File::lookToClone(const Handle& handle,
                                                                      uint64_t from, uint64_t& to) {
  std::vector<std::optional<ChunkAddr>> chunks;
  auto use = co_await enter(LeaseMode::kRead);
  CO_TRY(use);
  CO_TRY(handle.usable());
  to = std::max(from, std::min(to, roundDown(size(), kBlockSize)));
  if (to - from < kMinCloned) {
    to = from;
    co_return chunks;
  }
  co_await drain(from, to);
  if (core_.stop.isSet()) co_return fail(Errc::kCanceled, "the mount has ended");
  for (uint32_t index = chunkOf(from); index <= chunkOf(to - 1); ++index) {
    auto chunk = co_await chunks_.find(index);
    CO_TRY(chunk);
    chunks.push_back(*chunk);
  }
  co_return chunks;
}

// The chunk of this file at `index` to which that of `sources[0]` can be cloned, or none.
Task<Result<std::optional<ChunkAddr>>> File::cloneTarget(
    uint32_t index, std::span<const std::optional<ChunkAddr>> sources) {
  auto there = co_await chunks_.find(index);
  CO_TRY(there);
  if (*there && core_.io.sameGroup(*sources[0], **there)) co_return **there;
  // A chunk in which nothing of the file can be seen may go: the first one of a new file was made
  // before anybody knew what would be copied there. One that is seen stays where it is.
  const bool unseen = size() <= index * kChunkSize;
  if (*there && !unseen) co_return std::nullopt;
  std::vector<ChunkId> near;
  for (const auto& source : sources) {
    // Only what is behind the end for us is so for the MDS too, which knows a smaller size.
    if (!source || (!near.empty() && !unseen)) break;
    near.push_back(source->chunk);
  }
  auto made = co_await chunks_.makeNear(index, std::move(near), unseen);
  CO_TRY(made);
  if (!core_.io.sameGroup(*sources[0], *made)) co_return std::nullopt;
  co_return *made;
}

Task<Result<bool>> File::cloneFrom(Handle& handle, uint64_t offset, uint64_t length,
                                   std::span<const std::optional<ChunkAddr>> sources) {
  const uint64_t end = offset + length;
  if (auto e = errors_.check(handle.seen)) co_return fail(std::move(*e));
  if (end > kMaxFileSize) co_return fail(Errc::kTooBig, "a file holds at most 2^50 bytes");
  auto use = co_await enter(LeaseMode::kWrite);
  CO_TRY(use);
  const SessionId session = core_.io.session();
  shown_ += length;
  // Exclusively: a chunk may be replaced, which nobody must be writing to.
  auto gate = co_await gate_.lock(0, 1, true);
  CO_TRY(handle.usable());
  if (tailInTheWay(end)) CO_TRY(co_await cleanTail());
  std::optional<ChunkAddr> target;
  if (sources[0]) {
    auto found = co_await cloneTarget(chunkOf(offset), sources);
    CO_TRY(found);
    if (!*found) co_return false;
    target = *found;
  }
  if (dirty_.touches(offset, end)) co_await drain(offset, end);  // older bytes go first
  if (!sources[0]) {
    // Now, for flushing may have made one.
    auto found = co_await chunks_.find(chunkOf(offset));
    CO_TRY(found);
    target = *found;
  }
  if (target) {
    auto lock = co_await onDisk_.lock(offset, end, true);
    const auto at = static_cast<uint32_t>(offset % kChunkSize);
    const auto bytes = static_cast<uint32_t>(length);
    Result<void> done;
    if (sources[0])
      done = co_await core_.io.clone(*sources[0], *target, at, bytes, session);
    else
      done = co_await core_.io.zero(*target, at, bytes, session);
    changedOnDisk(offset, end);
    if (!done && done.error().code == Errc::kNotSupported) co_return false;  // an older OSD
    CO_TRY(done);
  }
  state_.stored(end);
  state_.wrote(core_.env.reactor.wallNow());
  notePending();
  if ((handle.flags & (O_DIRECT | O_SYNC | O_DSYNC)) != 0) CO_TRY(co_await commit(true));
  co_return true;
}

// ---- Between them ----

namespace {

// Clones as much as can be from the start of a range, a chunk at a time.
class Cloner {
 public:
  Cloner(Handle& in, Handle& out) : in_(in), out_(out) {}

  // `done` is what was cloned, also when it fails. Nothing, and not lookAgain(): the start of the
  // range must be moved.
  Task<Result<void>> clone(uint64_t from, uint64_t to, uint64_t length, uint64_t& done) {
    uint64_t end = from + length;
    lookAgain_ = false;
    auto chunks = co_await in_.file->lookToClone(in_, from, end);
    CO_TRY(chunks);
    const uint32_t first = chunkOf(from);
    for (auto& chunk : *chunks)
      if (chunk == empty_) chunk.reset();
    for (uint64_t at = from; at < end;) {
      const uint64_t n = std::min(end - at, toChunkEnd(at));
      if (n < kMinCloned) break;
      const std::span sources = std::span(*chunks).subspan(chunkOf(at) - first);
      auto cloned = co_await out_.file->cloneFrom(out_, to + done, n, sources);
      if (!cloned && cloned.error().code == Errc::kStale && sources[0]) {
        // It was removed, and another one or none is in its place when we look again; or nothing
        // was ever written to it: then it is still the file's.
        in_.file->doubtChunk(chunkOf(at), *sources[0]);
        empty_ = sources[0];
        lookAgain_ = ++stale_ < kMaxStale;
        break;
      }
      CO_TRY(cloned);
      if (!*cloned) break;
      stale_ = 0;
      done += n;
      at += n;
    }
    co_return Result<void>{};
  }
  [[nodiscard]] bool lookAgain() const { return lookAgain_; }

 private:
  Handle& in_;
  Handle& out_;
  std::optional<ChunkAddr> empty_;  // nothing is stored in it
  int stale_ = 0;                   // in a row
  bool lookAgain_ = false;
};

// By way of this client; less than `length` at the end of the source, or if a part fails.
Task<Result<uint64_t>> moveBytes(Handle& in, uint64_t from, Handle& out, uint64_t to,
                                 uint64_t length) {
  auto parts = co_await in.file->read(in, from, static_cast<uint32_t>(length));
  CO_TRY(parts);
  uint64_t moved = 0;
  for (Buffer& part : *parts) {
    const size_t bytes = part.size();
    auto written = co_await out.file->write(out, to + moved, std::move(part));
    if (!written && moved == 0) co_return fail(std::move(written).error());
    if (!written) break;
    moved += bytes;
  }
  co_return moved;
}

}  // namespace

Task<Result<uint64_t>> copyRange(std::shared_ptr<Handle> in, uint64_t inOffset,
                                 std::shared_ptr<Handle> out, uint64_t outOffset, uint64_t length) {
  length = std::min(length, kMaxCopied);
  const bool alike = inOffset % kChunkSize == outOffset % kChunkSize;
  Cloner cloner(*in, *out);
  uint64_t copied = 0, moved = 0;
  uint64_t moveTo = 0;  // of the source: up to there it is not asked again whether it can be cloned
  while (copied < length && moved < kMaxMoved) {
    const uint64_t from = inOffset + copied, to = outOffset + copied;
    const uint64_t blocks = roundDown(length - copied, kBlockSize);
    if (alike && from % kBlockSize == 0 && from >= moveTo && blocks >= kMinCloned) {
      uint64_t cloned = 0;
      auto done = co_await cloner.clone(from, to, blocks, cloned);
      copied += cloned;
      if (!done && copied == 0) co_return fail(std::move(done).error());
      if (!done) break;
      if (cloned != 0 || cloner.lookAgain()) continue;
      moveTo = from + toChunkEnd(from);
    }
    // Pieces of the source as it is cut: read-ahead runs before us, write-behind after us. The
    // first goes up to where cloning can begin.
    const uint64_t unit = alike && from % kBlockSize != 0 ? kBlockSize : kPieceSize;
    const uint64_t n = std::min(length - copied, unit - from % unit);
    auto step = co_await moveBytes(*in, from, *out, to, n);
    if (!step && copied == 0) co_return step;
    if (!step) break;
    copied += *step;
    moved += *step;
    if (*step < n) break;
  }
  co_return copied;
}

}  // namespace cairn::client
