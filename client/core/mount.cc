#include "client/core/mount.h"

#include "common/logging/log.h"

namespace cairn::client {

namespace {
constexpr Duration kMountPatience = 10s;
// Pages that the kernel drops: 4 GiB a second were measured on a busy machine.
constexpr uint64_t kDropBytesPerSec = kGiB;
}  // namespace

Mount::Mount(Env& env, Options options, MountInfo info)
    : env_(env),
      options_(std::move(options)),
      stop_(env.reactor),
      scope_(env.reactor),
      gate_(env.reactor),
      links_(env, scope_),
      session_(
          env, options_, std::move(info), stop_,
          Session::Hooks{
              .holdings =
                  [this] {
                    files_.doubtAccesses();  // pushes may have been lost
                    return Session::Holdings{.open = files_.openInodes(),
                                             .read = leases_.all(LeaseMode::kRead),
                                             .write = leases_.all(LeaseMode::kWrite),
                                             .locks = locks_.reclaim()};
                  },
              .onExpired =
                  [this] {
                    const std::vector<InodeId> written = leases_.all(LeaseMode::kWrite);
                    io_.sessionLost();
                    leases_.sessionLost();
                    files_.sessionLost(written);
                    locks_.sessionLost();
                    access_.sessionLost();
                  },
              .onOpened =
                  [this](SessionId id) {
                    links_.identify(session_.cluster(), id.value);
                    io_.sessionOpened(id);
                  },
              .onMapChanged = [this](MapEpoch epoch) { maps_.announced(epoch); },
              .onRecall = [this](InodeId ino, uint64_t serial,
                                 bool toRead) { scope_.spawn(answerRecall(ino, serial, toRead)); },
              .onLockGranted = [this](uint64_t id, uint64_t serial) { locks_.granted(id, serial); },
              .onLockProbe = [this](InodeId ino,
                                    uint64_t serial) { scope_.spawn(answerProbe(ino, serial)); },
              .onAccessed =
                  [this](std::vector<InodeId> inodes) {
                    scope_.spawn(noteAccesses(std::move(inodes)));
                  },
              .onAnswered = [this](TimePoint sentAt) { leases_.renewed(sentAt, maps_.lease()); },
              .onBarrier =
                  [this](MapEpoch epoch) {
                    io_.raiseBarrier(epoch);
                    maps_.announced(epoch);
                  },
          }),
      maps_(env, session_, stop_, scope_, [this](const ClusterMap& map) { links_.follow(map); }),
      leases_(env_, stop_, scope_,
              LeaseTable::Hooks{
                  .writeBack = [this](InodeId ino) { return files_.writeBack(ino); },
                  .forget = [this](InodeId ino, bool directory) { return forget(ino, directory); },
                  .mapped = [this](InodeId ino) { return files_.mapped(ino); },
                  .send = [this](std::vector<LeaseReturn> l) { return sendReturns(std::move(l)); },
                  .keep = [this](InodeId ino) { return files_.keepsLease(ino); },
                  .lapsesEarly = [this] { return muchToForget(); },
                  .lapsed = [this] { leasesLapsed(); },
              }),
      mds_(session_, leases_),
      io_(env, options_, maps_, links_, stop_),
      cache_(env.reactor, options_.cacheBytes),
      budget_(env.reactor, options_.writeBufferBytes),
      core_{.env = env_,
            .options = options_,
            .stop = stop_,
            .mds = mds_,
            .leases = leases_,
            .io = io_,
            .cache = cache_,
            .budget = budget_,
            .scope = scope_,
            .onPending = {},
            .onForeignChange =
                [this](InodeId ino) {
                  if (onDataChanged) onDataChanged(ino);
                },
            .onPageWait =
                [this](InodeId ino) {
                  if (onPageWait) onPageWait(ino);
                },
            .onWriteWait =
                [this](InodeId ino) {
                  if (onWriteWait) onWriteWait(ino);
                },
            .onLateWrite =
                [this](InodeId ino, PageWait pages) {
                  if (onLateWrite) onLateWrite(ino, pages);
                },
            .onScarceRoom = {},
            .dropPages = [this](File& file) { return forget(file.ino(), false); }},
      files_(core_),
      locks_(env_, mds_, stop_),
      access_(env_, stop_, scope_, mds_, options_.access,
              AccessTimes::Hooks{
                  .unsettled =
                      [this](InodeId ino) {
                        auto file = files_.find(ino);
                        return file && file->pending();
                      },
                  .taken =
                      [this](InodeId ino, int64_t atNs) {
                        if (auto file = files_.find(ino)) file->accessed(atNs);
                      },
                  .doubted = [this](InodeId ino) { doubtAccess(ino); },
              }),
      ended_(env.reactor) {}

Mount::~Mount() {
  CAIRN_ASSERT(ended_.isSet(), "a mount ends by unmount() or abandon()");
}

Task<Result<std::unique_ptr<Filesystem>>> Filesystem::mount(Env& env, Options options,
                                                            MountInfo info) {
  if (options.mds.empty()) co_return fail(Errc::kInvalid, "no address of an MDS was given");
  auto mount = std::make_unique<Mount>(env, std::move(options), std::move(info));
  CO_TRY(co_await mount->start());
  co_return std::unique_ptr<Filesystem>(std::move(mount));
}

Task<Result<void>> Mount::start() {
  auto opened = co_await session_.open(kMountPatience);
  if (opened) opened = co_await maps_.refresh();
  if (!opened) {
    co_await abandon();
    // The patience of the start is over: what it waited for is the message.
    if (opened.error().code == Errc::kIo)
      co_return fail(Errc::kUnavailable, opened.error().message);
    co_return opened;
  }
  scope_.spawn(maps_.keepAlive());
  scope_.spawn(files_.flushAging());
  scope_.spawn(files_.sendReleases());
  scope_.spawn(leases_.returnUnused());
  scope_.spawn(leases_.watchTime());
  scope_.spawn(access_.run());
  env_.log.info("mounted", {{"session", session_.id().value}, {"epoch", maps_.map()->epoch.value}});
  co_return Result<void>{};
}

Task<Result<void>> Mount::unmount() {
  if (ending_) {
    co_await ended_.wait();
    co_return lost_;
  }
  ending_ = true;
  gate_.close();
  co_await gate_.drained();
  auto flushed = co_await files_.flushAll();
  if (flushed) flushed = unflushed();  // if abandon() came meanwhile
  co_await access_.finish();
  co_await session_.end();
  co_await shutDown();
  co_return flushed;
}

// After the answers that came before it on the connection: those are on their way to whoever asked.
Task<void> Mount::answerRecall(InodeId ino, uint64_t serial, bool toRead) {
  co_await yield(env_.reactor);
  if (!toRead) access_.hurry(ino);
  leases_.recalled(ino, serial, toRead);
}

Task<void> Mount::closesHeard(InodeId ino) {
  if (onHearCloses) co_await onHearCloses(ino);
  co_await locks_.closesTold(ino);
}

Task<void> Mount::answerProbe(InodeId ino, uint64_t serial) {
  co_await closesHeard(ino);
  (void)co_await mds_.lockProbed(ino, serial);  // fails with the session, whose locks go
}

// In their turn, like recalls.
Task<void> Mount::noteAccesses(std::vector<InodeId> inodes) {
  co_await yield(env_.reactor);
  access_.readElsewhere(inodes);
}

void Mount::doubtAccess(InodeId ino) {
  // The kernel is not told: what it has of the inode it keeps for seconds (mayCache), and an
  // invalidation has a price (edge.h).
  if (auto file = files_.find(ino)) file->doubtAccess();
}

Task<void> Mount::sendReturns(std::vector<LeaseReturn> leases) {
  (void)co_await mds_.returnLeases(std::move(leases));  // fails with the session, which ends them
}

Task<void> Mount::forget(InodeId ino, bool directory) {
  if (!onForget) co_return;
  auto file = files_.find(ino);
  // Pages of a file that is closed are judged when it is opened again.
  const bool open = file && file->opens != 0;
  const Cached of = !open ? Cached::kAttributes : file->told() ? Cached::kPages : Cached::kUntold;
  const uint64_t losses = open ? file->forgetPages() : 0;
  co_await onForget(ino, directory ? Cached::kNames : of);
  if (open) file->pagesDropped(losses);
}

// From the end of our leases on the MDS keeps others waiting for a quarter of that time. What the
// kernel may not drop in it goes before, and then what has come back meanwhile.
bool Mount::muchToForget() const {
  const auto spareMs = static_cast<uint64_t>(maps_.lease() / 4 / Duration(1ms));
  return files_.shownBytes() > kDropBytesPerSec / 1000 * spareMs;
}

// A file that is mapped is open.
void Mount::leasesLapsed() {
  env_.log.info("the MDS is not heard: what the kernel has of open files is dropped");
  budget_.wake();
  for (InodeId ino : files_.openInodes()) scope_.spawn(forget(ino, false));
}

Duration Mount::mayCache(InodeId ino) {
  if (auto file = files_.find(ino)) {
    if (file->opens != 0 && !file->keepsAttrs()) return {};
    file->attrsKept();
  }
  return leases_.handOut(ino);
}

Filesystem::SizeDoubt Mount::sizeDoubt(InodeId ino) const {
  auto file = files_.find(ino);
  return file ? file->sizeDoubt() : SizeDoubt{};
}

void Mount::sizeRaised(InodeId ino, SizeDoubt doubt) {
  if (auto file = files_.find(ino)) file->sizeRaised(doubt);
}

Task<void> Mount::abandon() {
  stop_.set();
  gate_.close();
  budget_.wake();
  maps_.news().fire();
  files_.stop();
  leases_.wake();
  locks_.wake();
  access_.wake();
  if (ending_) {
    co_await ended_.wait();
    co_return;
  }
  ending_ = true;
  lost_ = unflushed();
  co_await shutDown();
}

Result<void> Mount::unflushed() const {
  const size_t files = files_.pendingFiles();
  if (files == 0) return {};
  return fail(Errc::kIo, std::to_string(files) + " files had data that was not written back");
}

Task<void> Mount::shutDown() {
  stop_.set();
  budget_.wake();
  maps_.news().fire();
  files_.stop();
  leases_.wake();
  locks_.wake();
  access_.wake();
  co_await session_.close();
  co_await links_.close();
  co_await gate_.drained();
  co_await scope_.join();
  files_.abandon();
  ended_.set();
}

}  // namespace cairn::client
