#include "osd/service/osd.h"

#include "common/logging/log.h"

namespace cairn::osd {

Task<Result<std::unique_ptr<Store>>> Osd::openOrCreate(Env& env, const OsdOptions& options,
                                                       Event& stopping) {
  auto opened = co_await Store::open(env, options.store);
  if (opened || opened.error().code != Errc::kNotFound) co_return opened;
  {
    // Before anything is made: could it serve at all?
    auto probe = env.network.listen(options.listen);
    CO_TRY(probe);
    (*probe)->close();
  }
  auto cluster = co_await askCluster(env, options.link.mds, options.joinPatience, stopping);
  CO_TRY(cluster);
  CO_TRY(co_await Store::create(env, options.store, *cluster));
  env.log.info("store made",
               {{"directory", options.store.directory}, {"cluster", cluster->text()}});
  co_return co_await Store::open(env, options.store);
}

Task<Result<std::unique_ptr<Osd>>> Osd::start(Env& env, OsdOptions options, Event& stopping,
                                              std::function<Result<Endpoint>(uint16_t port)> addr) {
  auto watched = std::make_unique<Watched>(env);
  auto store = co_await openOrCreate(watched->env, options, stopping);
  CO_TRY(store);
  if (options.link.incarnation == 0) options.link.incarnation = env.random.next() | 1;
  std::unique_ptr<Osd> osd(new Osd(std::move(watched), std::move(options), std::move(*store)));
  if (auto ok = osd->serve(addr); !ok) {
    co_await osd->stop();
    co_return fail(ok.error());
  }
  co_return osd;
}

Osd::Watched::Watched(Env& env)
    : disk(env.disk, env.reactor.clock()),
      env{.reactor = env.reactor,
          .random = env.random,
          .network = env.network,
          .disk = disk,
          .kv = env.kv,
          .buffers = env.buffers,
          .log = env.log,
          .metrics = env.metrics} {}

Osd::Osd(std::unique_ptr<Watched> watched, OsdOptions options, std::unique_ptr<Store> store)
    : watched_(std::move(watched)),
      env_(watched_->env),
      options_(std::move(options)),
      store_(std::move(store)),
      map_(env_.reactor.clock()),
      link_(env_, linkOptions(), *store_, map_),
      service_(env_, options_.service, *store_, map_, link_,
               [this](const Error& error) { giveUp(error); }),
      server_(env_, service_, options_.limits),
      settled_(env_.reactor),
      failed_(env_.reactor),
      scope_(env_.reactor) {}

Osd::~Osd() = default;

MdsLinkOptions Osd::linkOptions() {
  MdsLinkOptions link = options_.link;
  link.onJoined = [this] { settled_.set(); };
  link.fit = [this] { return diskAnswers(); };
  return link;
}

Result<void> Osd::diskAnswers() const {
  const Duration waits = watched_->disk.oldest();
  if (waits <= options_.diskTimeout) return {};
  return fail(Errc::kUnavailable,
              "the disk has not answered for " +
                  std::to_string(std::chrono::duration_cast<std::chrono::seconds>(waits).count()) +
                  " s; look at it and its cables (dmesg), or raise osd.disk_timeout");
}

Result<void> Osd::serve(const std::function<Result<Endpoint>(uint16_t port)>& addr) {
  TRY(server_.start(options_.listen));
  auto at = addr ? addr(server_.port()) : Endpoint{options_.listen.host, server_.port()};
  TRY(at);
  address_ = at->text();
  link_.setAddress(address_);
  link_.showProgress([this] { return service_.recovery(); }, [this] { return service_.scrub(); });
  service_.start();
  scope_.spawn(keepJoined());
  return {};
}

Task<void> Osd::keepJoined() {
  auto ended = co_await link_.run();
  if (!ended) giveUp(ended.error());
}

void Osd::giveUp(const Error& error) {
  if (failed_.isSet()) return;
  env_.log.error("cannot go on", {{"reason", error.text()}});
  failure_ = error;
  failed_.set();
  settled_.set();
}

Result<void> Osd::health() const {
  if (failed_.isSet()) return fail(failure_);
  TRY(diskAnswers());
  if (!map_.leased()) return fail(Errc::kUnavailable, "no lease on the cluster map");
  return {};
}

Task<void> Osd::stop() {
  co_await service_.close();
  co_await link_.close();
  co_await server_.close();
  co_await scope_.join();
  co_await store_->close();
}

}  // namespace cairn::osd
