// Writing: into the dirty map, or through to the OSDs.
#include <fcntl.h>

#include <algorithm>

#include "client/core/page_request.h"

namespace cairn::client {

namespace {
bool goesThrough(int flags) {
  return (flags & (O_DIRECT | O_SYNC | O_DSYNC)) != 0;
}

Result<void> checkEnd(uint64_t offset, uint64_t length) {
  if (length > kMaxFileSize || offset > kMaxFileSize - length)
    return fail(Errc::kTooBig, "a file holds at most 2^50 bytes");
  return {};
}
}  // namespace

Task<Result<void>> File::write(Handle& handle, uint64_t offset, Buffer data, Writing how) {
  // Not of a mapping: nobody is there to be told, and what was stored after the loss would go too.
  // msync(2) and close(2) come here as well.
  if (!how.fromMapping)
    if (auto e = errors_.check(handle.seen)) co_return fail(std::move(*e));
  if (data.empty()) co_return Result<void>{};
  const bool append = (handle.flags & O_APPEND) != 0 && !how.fromMapping;
  // O_SYNC is not said of mappings; which open file their pages come through is the kernel's
  // choice.
  const bool through = goesThrough(handle.flags) && !how.fromMapping;
  Urgency urgency = Urgency::kCanWait;
  Filesystem::PageWait pages;
  if (how.fromMapping || how.intoPages) {
    urgency = how.fromMapping ? Urgency::kFromMapping : Urgency::kLocksPages;
    pages = {roundDown(offset, kBlockSize), roundUp(offset + data.size(), kBlockSize), true};
  }
  PageRequest request(*this, pages);
  const uint64_t lossesBefore = losses_;
  // Before the lease: memory comes free when any file's writes are flushed. What mappings have
  // changed has to get out when the leases have lapsed; no more can follow then.
  if (!through)
    CO_TRY(co_await core_.budget.admit(core_.stop,
                                       [&leases = core_.leases, fromMapping = how.fromMapping] {
                                         return fromMapping && !leases.standing();
                                       }));
  if (how.fromMapping) CO_TRY(checkMapping(lossesBefore));
  auto use = co_await enter(LeaseMode::kWrite, urgency, &request);
  CO_TRY(use);
  const Accepted accepted{core_.leases.session(), core_.io.session()};
  // What comes from a mapping is of a page that was there before, and that may just be dropped.
  if (!how.fromMapping) shown_ += data.size();
  // Two appends must not both start at the same end.
  AsyncMutex::Guard appending;
  if (append) appending = co_await appending_.lock();
  auto gate = co_await gate_.lock(0, 1, false);
  while (true) {
    if (append) offset = size();
    CO_TRY(checkEnd(offset, data.size()));
    if (!tailInTheWay(offset + data.size())) break;
    CO_TRY(co_await cleanTail());
  }
  if (how.fromMapping) CO_TRY(checkMapping(lossesBefore));
  CO_TRY(handle.usable());
  CO_TRY(stillIn(accepted));
  const bool scarce = !through && !how.fromMapping && core_.io.nearlyFull(pool());
  if (scarce) {
    // What was buffered when there was room is not to find that others have taken it since.
    core_.onScarceRoom(pool());
    co_await drain(0, UINT64_MAX);
    if (auto e = errors_.check(handle.seen)) co_return fail(std::move(*e));
  }
  if (through || scarce) {
    CO_TRY(co_await writeThrough(offset, std::move(data), accepted));
    // Without O_SYNC the size may follow later.
    if (through) co_return co_await commit(true);
    co_return Result<void>{};
  }
  dirty_.write(offset, data.bytes());
  state_.wrote(core_.env.reactor.wallNow());
  notePending();
  kick();
  co_return Result<void>{};
}

Result<void> File::stillIn(const Accepted& accepted) const {
  if (accepted.leases == core_.leases.session()) return {};
  return fail(Errc::kIo, "the session expired: what was not stored is lost");
}

// What was stored under a write lease that was lost: others may have changed the file since.
Result<void> File::checkMapping(uint64_t lossesBefore) {
  if (losses_ == lossesBefore && losses_ == lossesDropped_) return {};
  errors_.record(Error(Errc::kIo, "the session expired: what mappings have changed is lost"));
  return fail(Errc::kIo, "the session expired under a mapping");
}

bool File::tailInTheWay(uint64_t end) const {
  return state_.server().tailUnclean && end > size();
}

// What the last chunk holds beyond the end is of before a truncation: it must be zeros before the
// file grows over it.
Task<Result<void>> File::cleanTail() {
  auto lock = co_await tail_.lock();
  if (!state_.server().tailUnclean) co_return Result<void>{};
  uint64_t end = state_.server().size;
  CO_TRY(co_await zeroStored(end, roundUp(end, kChunkSize)));
  // Takes the chunks behind that one off the file, if somebody else was its last writer.
  auto attr = co_await core_.mds.tailCleaned(ino_, end);
  CO_TRY(attr);
  state_.learnOwn(*attr);
  chunks_.truncated(static_cast<uint32_t>(roundUp(end, kChunkSize) / kChunkSize));
  co_return Result<void>{};
}

Task<Result<void>> File::storePiece(std::shared_ptr<File> self, uint64_t offset, Buffer data,
                                    SessionId session) {
  std::vector<Buffer> whole;
  whole.push_back(std::move(data));
  co_return co_await self->store(offset, std::move(whole), session);
}

// Durable when it completes: the data. The size if the file has grown, and the time of the change,
// follow with the next commit.
Task<Result<void>> File::writeThrough(uint64_t offset, Buffer data, const Accepted& in) {
  const uint64_t end = offset + data.size();
  const SessionId session = in.session;
  if (dirty_.touches(offset, end)) co_await drain(offset, end);  // older bytes go first
  {
    auto lock = co_await onDisk_.lock(offset, end, true);
    std::vector<Task<Result<void>>> pieces;
    for (uint64_t at = offset; at < end;) {
      uint64_t next = std::min(end, roundDown(at, kPieceSize) + kPieceSize);
      pieces.push_back(
          storePiece(shared_from_this(), at, data.slice(at - offset, next - at), session));
      at = next;
    }
    Result<void> outcome;
    if (pieces.size() == 1) {
      outcome = co_await std::move(pieces.front());
    } else {
      for (auto& r : co_await whenAll(core_.env.reactor, std::move(pieces)))
        if (!r && outcome) outcome = std::move(r);
    }
    changedOnDisk(offset, end);
    CO_TRY(stillIn(in));
    // What part of it has found room is not to be there when the file grows over it.
    if (!outcome && outcome.error().code == Errc::kNoSpace) {
      for (uint64_t at = std::max(offset, size()); at < end;) {
        const uint64_t next = std::min(end, roundDown(at, kChunkSize) + kChunkSize);
        CO_TRY(co_await zeroLocked(at, next));
        at = next;
      }
    }
    CO_TRY(outcome);
    state_.stored(end);
    state_.wrote(core_.env.reactor.wallNow());
  }
  notePending();
  co_return Result<void>{};
}

}  // namespace cairn::client
