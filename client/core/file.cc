#include "client/core/file.h"

namespace cairn::client {

namespace {
// For each file: enough for one writer to fill the disks behind it.
constexpr size_t kFlushes = 128;
constexpr uint64_t kFlushBytes = 16 * kMiB;
}  // namespace

File::File(Core& core, InodeId ino)
    : core_(core),
      ino_(ino),
      chunks_(core.env.reactor, core.mds, ino),
      dirty_(core.env.buffers, core.budget),
      gate_(core.env.reactor),
      onDisk_(core.env.reactor),
      mutating_(core.env.reactor),
      tail_(core.env.reactor),
      flushed_(core.env.reactor) {}

// ---- What is known ----

void File::foreignChange() {
  core_.cache.drop(ino_);
  chunks_.forget();
  core_.onForeignChange(ino_);
}

void File::learn(const ServerAttr& a) {
  if (state_.learn(a)) foreignChange();
}

bool File::learnOpened(const ServerEntry& entry, uint64_t asked) {
  bool known = state_.loaded();
  bool upToDate = asked == chunks_.version();
  bool foreign = state_.learn(entry.attr);
  if (foreign) foreignChange();
  if (upToDate) chunks_.learn(entry);
  return known && !foreign;
}

void File::changedOnDisk(uint64_t from, uint64_t to) {
  core_.cache.invalidate(ino_, from, to);
}

void File::notePending() {
  if (!wasPending_) {
    wasPending_ = true;
    pendingSince_ = core_.env.reactor.now();
  }
  core_.onPending(*this);
}

// ---- Flushing ----

void File::kick() {
  while (flushesInFlight_ < kFlushes && flushBytesInFlight_ < kFlushBytes) {
    auto extent = dirty_.next();
    if (!extent) break;
    ++flushesInFlight_;
    flushBytesInFlight_ += extent->to - extent->from;
    core_.scope.spawn(flushExtent(shared_from_this(), std::move(extent)));
  }
}

Task<void> File::flushExtent(std::shared_ptr<File> self, DirtyMap::ExtentPtr extent) {
  {
    auto lock = co_await self->onDisk_.lock(extent->from, extent->to, true);
    auto stored = co_await self->store(extent->from, extent->bytes());
    if (stored) {
      self->changedOnDisk(extent->from, extent->to);
      self->state_.stored(extent->to);
    } else if (stored.error().code != Errc::kCanceled) {
      self->errors_.record(stored.error());
    }
  }
  self->dirty_.done(extent);
  --self->flushesInFlight_;
  self->flushBytesInFlight_ -= extent->to - extent->from;
  self->kick();
  self->flushed_.fire();
}

Task<Result<void>> File::store(uint64_t offset, Buffer data) {
  const auto index = static_cast<uint32_t>(offset / kChunkSize);
  for (int tries = 1;; ++tries) {
    auto chunk = co_await chunks_.make(index);
    CO_TRY(chunk);
    auto stored = co_await core_.io.write(*chunk, static_cast<uint32_t>(offset % kChunkSize), data);
    if (stored || stored.error().code != Errc::kStale || tries == kMaxStale) co_return stored;
    chunks_.doubt(index, *chunk);
  }
}

Task<void> File::drain(uint64_t from, uint64_t to) {
  uint64_t cut = dirty_.cut();
  dirty_.want(from, to, cut);
  kick();
  while (dirty_.pending(from, to, cut)) co_await flushed_.wait();
}

uint64_t File::pushOut() {
  uint64_t bytes = dirty_.idleBytes();
  dirty_.want(0, UINT64_MAX, dirty_.cut());
  kick();
  return bytes;
}

// ---- Committing ----

Task<Result<void>> File::commit(bool sizeOnly) {
  auto lock = co_await mutating_.lock();
  // Again, if another client has cut the file below what we have stored meanwhile.
  while (sizeOnly ? state_.grown() : state_.uncommitted()) {
    InodeState::Commit what = state_.beginCommit();
    state_.beginMutation();
    auto attr = co_await core_.mds.commitWrite({ino_, what.size, what.mtimeNs});
    state_.endMutation();
    if (!attr) {
      if (attr.error().code == Errc::kCanceled) {
        state_.commitFailed();
      } else {
        // The MDS will not take it, now or later (the inode is gone): the handles are told.
        state_.abandonCommit();
        errors_.record(attr.error());
      }
      co_return fail(attr.error());
    }
    if (state_.learnOwn(*attr)) foreignChange();
    state_.committed(what);
    if (!state_.grown()) break;  // what was stored meanwhile is somebody else's to commit
  }
  wasPending_ = pending();
  co_return Result<void>{};
}

Task<Result<void>> File::sync(bool sizeOnly) {
  co_await drain(0, UINT64_MAX);
  // The mount has ended under us: flushes were given up, and nobody recorded an error.
  if (core_.stop.isSet()) co_return fail(Errc::kCanceled, "the mount has ended");
  co_return co_await commit(sizeOnly);
}

Task<void> File::settle() {
  settling_ = true;
  pendingSince_ = core_.env.reactor.now();
  (void)co_await sync(false);  // errors are kept in errors_
  settling_ = false;
}

void File::loseUnflushed() {
  // What is on its way to the OSDs gets there, and is committed in the new session.
  if (!dirty_.dropUnflushed()) return;
  errors_.record(Error(Errc::kIo, "the session expired: unflushed data is lost"));
  flushed_.fire();
}

}  // namespace cairn::client
