#include "client/core/file_table.h"

#include <fcntl.h>

#include <algorithm>

namespace cairn::client {

namespace {
// Files that are not open but still known, so that opening one again finds its cached data.
constexpr size_t kMaxClosed = 4096;
// Closes that come together go to the MDS together.
constexpr Duration kReleaseDelay = 5ms;
constexpr size_t kMaxReleases = 1024;
// Between two looks for what is buffered for a pool that is nearly full.
constexpr Duration kPushOutPause = 100ms;

bool writable(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}
// Pages can be mapped to be written through it.
bool mappable(int flags) {
  return (flags & O_ACCMODE) == O_RDWR;
}
}  // namespace

FileTable::FileTable(Core& core)
    : core_(core), releaseWanted_(core.env.reactor), released_(core.env.reactor) {
  core_.onPending = [this](File& file) {
    pending_.try_emplace(file.ino(), file.shared_from_this());
  };
  core_.budget.onPressure = [this] { relieve(); };
  core_.onScarceRoom = [this](PoolId pool) { pushOut(pool); };
}

// ---- What is known ----

std::shared_ptr<File> FileTable::find(InodeId ino) const {
  auto it = files_.find(ino);
  return it == files_.end() ? nullptr : it->second;
}

std::shared_ptr<File> FileTable::get(InodeId ino) {
  if (auto known = find(ino)) return known;
  auto file = std::make_shared<File>(core_, ino);
  files_[ino] = file;
  closedAt_[ino] = closed_.insert(closed_.end(), ino);
  evict();
  return file;
}

Attr FileTable::see(const ServerAttr& a) {
  auto file = find(a.ino);
  if (!file) return a;
  file->learn(a);
  return file->attr();
}

Task<Result<std::shared_ptr<File>>> FileTable::fetch(InodeId ino) {
  if (auto known = find(ino); known && known->current()) co_return known;
  auto attr = co_await core_.mds.getattr(ino);
  CO_TRY(attr);
  if (S_ISDIR(attr->mode)) co_return fail(Errc::kIsDirectory, "it is a directory");
  if (!S_ISREG(attr->mode)) co_return fail(Errc::kInvalid, "it is not a regular file");
  auto file = get(ino);
  file->learn(*attr);
  co_return file;
}

void FileTable::forget(InodeId ino) {
  if (auto it = closedAt_.find(ino); it != closedAt_.end()) {
    closed_.erase(it->second);
    closedAt_.erase(it);
  }
  files_.erase(ino);
  core_.cache.drop(ino);
}

void FileTable::evict() {
  for (size_t tries = closed_.size(); closed_.size() > kMaxClosed && tries > 0; --tries) {
    InodeId ino = closed_.front();
    if (files_[ino].use_count() > 1) {  // dirty, or somebody works with it
      closed_.splice(closed_.end(), closed_, closed_.begin());
      continue;
    }
    forget(ino);
  }
}

// ---- Open and closed ----

void FileTable::opening(const std::shared_ptr<File>& file, int flags) {
  ++file->opens;
  if (mappable(flags)) ++file->mappable;
  if ((flags & O_ACCMODE) != O_RDONLY) file->writable = true;
  if (auto it = closedAt_.find(file->ino()); it != closedAt_.end()) {
    closed_.erase(it->second);
    closedAt_.erase(it);
  }
  toRelease_.erase(file->ino());
}

void FileTable::closed(const std::shared_ptr<File>& file, int flags) {
  if (mappable(flags) && --file->mappable == 0) file->noneMaps();
  if (--file->opens != 0) return;
  closedAt_[file->ino()] = closed_.insert(closed_.end(), file->ino());
  evict();
}

Task<Result<Filesystem::Opened>> FileTable::open(InodeId ino, int flags, bool clearSuid) {
  auto file = get(ino);
  opening(file, flags);
  auto known = co_await openThere(file, flags);
  if (!known) {
    closed(file, flags);
    if (file->opens == 0) {
      bool gone = known.error().code == Errc::kStale || known.error().code == Errc::kNotFound;
      if (!gone) queueRelease(ino);  // unknown whether it is open there
      if (!file->loaded()) forget(ino);
    }
    co_return fail(known.error());
  }
  if (mappable(flags)) co_await file->readyToMap();
  Filesystem::Opened opened = handOut(file, flags);
  opened.dataUnchanged = *known;
  if (file->takeStale()) opened.dataUnchanged = false;
  if ((flags & O_TRUNC) != 0) {  // an empty file too: its times change
    AttrChange change;
    change.size = 0;
    change.clearSuid = clearSuid;
    if (auto r = co_await file->setattr(std::move(change)); !r) {
      release(*opened.handle);
      co_return fail(r.error());
    }
    opened.dataUnchanged = false;
  }
  opened.attr = file->attr();
  co_return opened;
}

// Counts it as open at the MDS, and learns what it says. True if the data is what this client knew.
Task<Result<bool>> FileTable::openThere(std::shared_ptr<File> file, int flags) {
  const bool write = writable(flags);
  // It is open there, and what we know is what we would hear.
  if (file->handles != 0 && file->currentUnder(write ? LeaseMode::kWrite : LeaseMode::kRead))
    co_return true;
  // The MDS must not hear of an earlier close after it heard of this open.
  while (releasing_.contains(file->ino())) co_await released_.wait();
  const File::Asked asked = file->asking();
  auto entry = co_await core_.mds.open(file->ino(), write);
  CO_TRY(entry);
  co_return file->learn(*entry, asked);
}

Filesystem::Opened FileTable::handOut(const std::shared_ptr<File>& file, int flags) {
  ++file->handles;
  Filesystem::Opened opened;
  opened.attr = file->attr();
  opened.handle = std::make_shared<Handle>(file, flags, file->errors().sample());
  return opened;
}

Filesystem::Opened FileTable::adopt(const ServerEntry& entry, int flags) {
  auto file = get(entry.attr.ino);
  opening(file, flags);
  file->learn(entry, file->asking());
  return handOut(file, flags);
}

void FileTable::release(Handle& handle) {
  if (std::exchange(handle.released, true)) return;
  auto file = handle.file;
  --file->handles;
  closed(file, handle.flags);
  if (file->opens != 0) return;
  if (file->pending())
    core_.scope.spawn(finishClosed(file));
  else
    queueRelease(file->ino());
}

// An unlinked file goes when nobody has it open: what is still dirty has to be out before.
Task<void> FileTable::finishClosed(std::shared_ptr<File> file) {
  co_await file->settle();
  if (file->opens == 0) queueRelease(file->ino());
}

void FileTable::queueRelease(InodeId ino) {
  if (auto file = find(ino); file && file->attr().nlink == 0 && !file->pending()) forget(ino);
  toRelease_.insert(ino);
  releaseWanted_.set();
}

std::vector<InodeId> FileTable::openInodes() const {
  std::vector<InodeId> out;
  for (const auto& [ino, file] : files_)
    if (file->opens != 0) out.push_back(ino);
  std::ranges::sort(out);
  return out;
}

uint64_t FileTable::shownBytes() const {
  uint64_t all = 0;
  for (const auto& [ino, file] : files_)
    if (file->opens != 0) all += file->shownBytes();
  return all;
}

Task<void> FileTable::sendReleases() {
  while (true) {
    co_await releaseWanted_.wait();
    if (core_.stop.isSet() || co_await core_.stop.waitFor(kReleaseDelay)) co_return;
    std::vector<InodeId> batch;
    while (!toRelease_.empty() && batch.size() < kMaxReleases)
      batch.push_back(toRelease_.extract(toRelease_.begin()).value());
    if (toRelease_.empty()) releaseWanted_.reset();
    if (batch.empty()) continue;
    releasing_.insert(batch.begin(), batch.end());
    (void)co_await core_.mds.release(batch);  // should it not get there, the session's end does it
    releasing_.clear();
    released_.fire();
  }
}

// ---- Flushing ----

Task<void> FileTable::settle(std::shared_ptr<File> file) {
  co_await file->settle();
}

Task<void> FileTable::flushAging() {
  const Duration age = core_.options.flushAge;
  const Duration tick = std::clamp<Duration>(age / 4, 10ms, 1s);
  while (!co_await core_.stop.waitFor(tick)) {
    TimePoint due = core_.env.reactor.now() - age;
    for (auto it = pending_.begin(); it != pending_.end();) {
      const auto& file = it->second;
      if (!file->pending() && !file->settling()) {
        it = pending_.erase(it);
        continue;
      }
      if (!file->settling() && file->pendingSince() <= due) core_.scope.spawn(settle(file));
      ++it;
    }
  }
}

void FileTable::relieve() {
  uint64_t enough = core_.budget.limitBytes() / 4, asked = 0;
  for (auto it = pending_.begin(); it != pending_.end() && asked < enough; ++it)
    asked += it->second->pushOut();
}

// Every writer asks for it.
void FileTable::pushOut(PoolId pool) {
  const TimePoint now = core_.env.reactor.now();
  if (core_.budget.idleBytes() == 0 || now < pushOutFrom_) return;
  pushOutFrom_ = now + kPushOutPause;
  for (const auto& [ino, file] : pending_)
    if (file->pool() == pool) file->pushOut();
}

Task<void> FileTable::writeBack(InodeId ino) {
  if (auto file = find(ino)) co_await file->writeBack();
}

bool FileTable::keepsLease(InodeId ino) const {
  auto file = find(ino);
  return file && (file->opens != 0 || file->pending());
}

bool FileTable::mapped(InodeId ino) const {
  auto file = find(ino);
  return file && file->mapped();
}

size_t FileTable::pendingFiles() const {
  return static_cast<size_t>(
      std::ranges::count_if(pending_, [](const auto& entry) { return entry.second->pending(); }));
}

void FileTable::doubtAccesses() {
  for (auto& [ino, file] : files_) file->doubtAccess();
}

void FileTable::sessionLost(const std::vector<InodeId>& written) {
  for (auto& [ino, file] : pending_) file->loseUnflushed();
  for (InodeId ino : written)
    if (auto file = find(ino)) file->losePages();
}

Task<Result<void>> FileTable::flushAll() {
  std::vector<Task<void>> settling;
  for (auto& [ino, file] : pending_) settling.push_back(settle(file));
  co_await whenAll(core_.env.reactor, std::move(settling));
  for (auto& [ino, file] : files_)
    if (auto e = file->errors().untold()) co_return fail(std::move(*e));
  co_return Result<void>{};
}

void FileTable::stop() {
  releaseWanted_.set();
  released_.fire();
}

void FileTable::abandon() {
  for (auto& [ino, file] : files_) file->abandon();
  for (auto& [ino, file] : pending_) file->abandon();
}

}  // namespace cairn::client
