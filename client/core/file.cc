#include "client/core/file.h"

#include "client/core/page_request.h"

namespace cairn::client {

namespace {
// For each file: enough for one writer to fill the disks behind it.
constexpr size_t kFlushes = 128;
constexpr uint64_t kFlushBytes = 32 * kMiB;
// When so much is under way, what is behind it goes in large messages only: they cost the OSDs
// less.
constexpr uint64_t kBusyBytes = 8 * kMiB;
// Within which a process that waits for an answer has taken it up.
constexpr Duration kTakenUp = 1s;
}  // namespace

File::File(Core& core, InodeId ino)
    : core_(core),
      ino_(ino),
      chunks_(core.env.reactor, core.mds, ino),
      dirty_(core.env.buffers, core.budget),
      gate_(core.env.reactor),
      onDisk_(core.env.reactor),
      committing_(core.env.reactor),
      acquiring_(core.env.reactor),
      tail_(core.env.reactor),
      appending_(core.env.reactor),
      dropping_(core.env.reactor),
      flushed_(core.env.reactor),
      admitted_(core.env.reactor) {}

// ---- What is known ----

void File::foreignChange() {
  core_.cache.drop(ino_);
  chunks_.forget();
  // Pages are dropped only where that is needed: the answer under way is the first with the new
  // attributes, and the kernel would not believe it (see edge.h).
  if (shown_ == 0) return;
  if (opens == 0) {
    stale_ = true;
    return;
  }
  shown_ = 0;
  core_.onForeignChange(ino_);
}

void File::learn(const ServerAttr& a) {
  const uint64_t since = core_.leases.since(ino_), before = size();
  if (since == 0 || since == learnedUnder_) {
    state_.learn(a);
  } else {
    learnedUnder_ = since;
    learnedAt_ = 0;
    if (state_.takeOver(a))
      foreignChange();
    else
      chunks_.forget();  // chunks may have been made without a change of data
  }
  if (size() > before) ++foreignGrowth_;
}

void File::learn(const ServerAttr& a, Asked asked) {
  learn(a);
  if (asked.nameChanges == core_.nameChanges) learnedAt_ = asked.nameChanges;
}

bool File::learn(const ServerEntry& entry, Asked asked) {
  const bool known = state_.loaded() && state_.dataVersion() == entry.attr.dataVersion;
  const bool upToDate = asked.chunkVersion == chunks_.version();
  learn(entry.attr, asked);
  // Without a lease chunks may come and go.
  if (upToDate && core_.leases.since(ino_) != 0) chunks_.learn(entry);
  return known;
}

bool File::current() const {
  return state_.loaded() && learnedAt_ == core_.nameChanges &&
         core_.leases.held(ino_) != LeaseMode::kNone && core_.leases.since(ino_) == learnedUnder_;
}

bool File::currentUnder(LeaseMode mode) const {
  return current() && !!core_.leases.tryUse(ino_, mode);
}

LeaseTable::Use File::tryEnter(LeaseMode mode, Urgency urgency) {
  if (core_.leases.since(ino_) != learnedUnder_) return {};
  return core_.leases.tryUse(ino_, mode, urgency);
}

std::vector<Filesystem::PageWait> File::pageWaits() const {
  std::vector<Filesystem::PageWait> out;
  for (const PageRequest* r : pageRequests_)
    if (r->inTheWay()) out.push_back(r->pages());
  return out;
}

bool File::writeWaits() const {
  return std::ranges::any_of(pageRequests_, [](const auto* r) { return r->isWaitingWrite(); });
}

Task<void> File::writesAdmitted() {
  while (writeWaits() && !core_.stop.isSet()) co_await admitted_.wait();
}

void File::pageWaitBegan(bool ofWrite) {
  if (core_.onPageWait) core_.onPageWait(ino_);
  // Nothing to forget, nothing to pay for it (see keepsAttrs).
  if (!ofWrite || !attrsKept_) return;
  attrsKept_ = false;
  if (core_.onWriteWait) core_.onWriteWait(ino_);
}

Task<Result<LeaseTable::Use>> File::enter(LeaseMode mode, Urgency urgency, PageRequest* request) {
  if (auto use = tryEnter(mode, urgency)) co_return use;
  PageRequest::Waiting waiting(request);
  while (!core_.stop.isSet()) {
    if (auto use = tryEnter(mode, urgency)) co_return use;
    if (core_.leases.givingUp(ino_)) {
      co_await core_.leases.settled(ino_, urgency);
      continue;
    }
    auto lock = co_await acquiring_.lock();
    if (auto use = tryEnter(mode, urgency)) co_return use;
    if (core_.leases.givingUp(ino_)) continue;
    const Asked asked = asking();
    auto entry = co_await core_.mds.lease(ino_, mode == LeaseMode::kWrite);
    CO_TRY(entry);
    learn(*entry, asked);
    // Here and now: a recall that follows right behind then waits for this use, and whoever asks
    // gets something done.
    if (auto use = tryEnter(mode, urgency)) co_return use;
  }
  co_return fail(Errc::kCanceled, "the mount has ended");
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
    auto run = dirty_.next(kMaxIoBytes, flushBytesInFlight_ < kBusyBytes ? 0 : kMaxIoBytes);
    if (run.empty()) break;
    ++flushesInFlight_;
    flushBytesInFlight_ += run.back()->to - run.front()->from;
    core_.scope.spawn(flush(shared_from_this(), std::move(run)));
  }
}

Task<void> File::flush(std::shared_ptr<File> self, DirtyMap::Run run) {
  const uint64_t session = self->core_.leases.session();
  const uint64_t from = run.front()->from, to = run.back()->to;
  {
    const SessionId accepted = self->core_.io.session();
    auto lock = co_await self->onDisk_.lock(from, to, true);
    auto stored = co_await self->storeRun(run, accepted);
    if (session != self->core_.leases.session()) {
      // Lost with the session; loseUnflushed() said so.
    } else if (stored) {
      self->changedOnDisk(from, to);
      self->state_.stored(to);
    } else if (stored.error().code != Errc::kCanceled) {
      self->errors_.record(stored.error());
    }
  }
  for (const auto& extent : run) self->dirty_.done(extent);
  --self->flushesInFlight_;
  self->flushBytesInFlight_ -= to - from;
  self->kick();
  self->flushed_.fire();
}

// What has no room together may have some piece by piece.
Task<Result<void>> File::storeRun(const DirtyMap::Run& run, SessionId session) {
  std::vector<Buffer> parts;
  for (const auto& extent : run) parts.push_back(extent->bytes());
  auto stored = co_await store(run.front()->from, std::move(parts), session);
  if (stored || stored.error().code != Errc::kNoSpace || run.size() == 1) co_return stored;
  Result<void> outcome;
  for (const auto& extent : run) {
    std::vector<Buffer> one;
    one.push_back(extent->bytes());
    auto alone = co_await store(extent->from, std::move(one), session);
    if (alone && session == core_.io.session())
      state_.stored(extent->to);
    else if (!alone && outcome)
      outcome = std::move(alone);
  }
  changedOnDisk(run.front()->from, run.back()->to);
  co_return outcome;
}

Task<Result<void>> File::store(uint64_t offset, std::vector<Buffer> parts, SessionId session) {
  const auto index = static_cast<uint32_t>(offset / kChunkSize);
  for (int tries = 1;; ++tries) {
    auto chunk = co_await chunks_.make(index);
    CO_TRY(chunk);
    auto stored =
        co_await core_.io.write(*chunk, static_cast<uint32_t>(offset % kChunkSize), parts, session);
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
  auto lock = co_await committing_.lock();
  while (sizeOnly ? state_.grown() : state_.uncommitted()) {
    InodeState::Commit what = state_.beginCommit();
    auto attr = co_await core_.mds.commitWrite({ino_, what.size, what.mtimeNs});
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
    state_.learnOwn(*attr);
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

Task<void> File::writeBack() {
  do {
    (void)co_await sync(false);  // errors are kept in errors_
  } while (pending() && !core_.stop.isSet());
}

// While the lease stands nobody else has a page of it. Otherwise they may be under a read lease:
// they are dropped here, since what the kernel drops when it is told of the open it would have to
// write back first, if another open was quicker. `mappable` counts already, so what is filled from
// now on is filled under the write lease.
Task<void> File::readyToMap() {
  auto lock = co_await dropping_.lock();
  if (readyToMap_) co_return;
  if (!currentUnder(LeaseMode::kWrite)) co_await core_.dropPages(*this);
  readyToMap_ = mapped();
}

Task<Result<void>> File::holdToMap() {
  CO_TRY(co_await enter(LeaseMode::kWrite));
  co_return Result<void>{};
}

void File::losePages() {
  if (mapped()) ++losses_;
}

bool File::keepsAttrs() {
  if (writeWaits()) return false;
  const TimePoint now = core_.env.reactor.now();
  if (const uint64_t since = core_.leases.since(ino_); since != answeredUnder_) {
    answeredUnder_ = since;
    answeredAt_ = now;
  }
  if (now - answeredAt_ < kTakenUp) return false;
  attrsKept_ = true;
  return true;
}

uint64_t File::forgetPages() {
  shown_ = 0;
  attrsKept_ = false;
  return losses_;
}

// What the drop went around goes when it has ended, and may be stored into until then.
void File::pagesDropped(uint64_t losses) {
  if (std::ranges::any_of(pageRequests_,
                          [](const auto* r) { return r->pages().write && r->lapsed(); }))
    return;
  lossesDropped_ = std::max(lossesDropped_, losses);
}

void File::loseUnflushed() {
  if (!pending()) return;
  dirty_.dropUnflushed();
  state_.abandonCommit();
  // What OSDs have of it and the MDS does not know is somebody else's to overwrite now.
  core_.cache.drop(ino_);
  errors_.record(Error(Errc::kIo, "the session expired: unflushed data is lost"));
  flushed_.fire();
}

}  // namespace cairn::client
