#include "client/core/mount.h"

#include "common/logging/log.h"

namespace cairn::client {

namespace {
constexpr Duration kMountPatience = 10s;
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
              .openInodes = [this] { return files_.openInodes(); },
              .onExpired =
                  [this] {
                    io_.sessionLost();
                    files_.sessionLost();
                  },
              .onOpened =
                  [this](SessionId id) {
                    links_.identify(session_.cluster(), id.value);
                    io_.sessionOpened(id);
                  },
              .onMapChanged = [this](MapEpoch epoch) { maps_.announced(epoch); },
          }),
      maps_(env, session_, stop_, scope_, [this](const ClusterMap& map) { links_.follow(map); }),
      mds_(session_),
      io_(env, options_, maps_, links_, stop_),
      cache_(env.reactor, options_.cacheBytes),
      budget_(env.reactor, options_.writeBufferBytes),
      core_{.env = env_,
            .options = options_,
            .stop = stop_,
            .mds = mds_,
            .io = io_,
            .cache = cache_,
            .budget = budget_,
            .scope = scope_,
            .onPending = {},
            .onForeignChange =
                [this](InodeId ino) {
                  if (onInvalidate) onInvalidate(ino);
                }},
      files_(core_),
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
  env_.log.info("mounted", {{"session", session_.id().value}, {"epoch", maps_.map()->epoch.value}});
  co_return Result<void>{};
}

Task<Result<void>> Mount::unmount() {
  if (ending_) {
    co_await ended_.wait();
    co_return Result<void>{};
  }
  ending_ = true;
  gate_.close();
  co_await gate_.drained();
  auto flushed = co_await files_.flushAll();
  co_await session_.end();
  co_await shutDown();
  co_return flushed;
}

Task<void> Mount::abandon() {
  stop_.set();
  gate_.close();
  budget_.wake();
  maps_.news().fire();
  files_.stop();
  if (ending_) {
    co_await ended_.wait();
    co_return;
  }
  ending_ = true;
  co_await shutDown();
}

Task<void> Mount::shutDown() {
  stop_.set();
  budget_.wake();
  maps_.news().fire();
  files_.stop();
  co_await session_.close();
  co_await links_.close();
  co_await gate_.drained();
  co_await scope_.join();
  files_.abandon();
  ended_.set();
}

}  // namespace cairn::client
