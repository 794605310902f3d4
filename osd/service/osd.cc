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
  auto store = co_await openOrCreate(env, options, stopping);
  CO_TRY(store);
  if (options.link.incarnation == 0) options.link.incarnation = env.random.next() | 1;
  std::unique_ptr<Osd> osd(new Osd(env, std::move(options), std::move(*store)));
  if (auto ok = osd->serve(addr); !ok) {
    co_await osd->stop();
    co_return fail(ok.error());
  }
  co_return osd;
}

Osd::Osd(Env& env, OsdOptions options, std::unique_ptr<Store> store)
    : env_(env),
      options_(std::move(options)),
      store_(std::move(store)),
      map_(env.reactor.clock()),
      link_(env, linkOptions(), *store_, map_),
      service_(env, options_.service, *store_, map_, link_,
               [this](const Error& error) { giveUp(error); }),
      server_(env, service_, options_.limits),
      settled_(env.reactor),
      failed_(env.reactor),
      scope_(env.reactor) {}

Osd::~Osd() = default;

MdsLinkOptions Osd::linkOptions() {
  MdsLinkOptions link = options_.link;
  link.onJoined = [this] { settled_.set(); };
  return link;
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
