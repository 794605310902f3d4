#include "mds/server/mds.h"

#include "common/logging/log.h"

namespace cairn::mds {

Task<Result<std::unique_ptr<Mds>>> Mds::start(Env& env, MdsOptions options) {
  auto state =
      StateMachine::open(env, options.directory + "/meta", static_cast<size_t>(options.cacheBytes));
  CO_TRY(state);
  std::unique_ptr<Mds> mds(new Mds(env, std::move(options), std::move(*state)));
  if (auto up = co_await mds->bringUp(); !up) {
    co_await mds->stop();
    co_return fail(up.error());
  }
  co_return mds;
}

Mds::Mds(Env& env, MdsOptions options, std::unique_ptr<StateMachine> state)
    : env_(env),
      options_(std::move(options)),
      state_(std::move(state)),
      failed_(env.reactor),
      server_(env, *state_, serverOptions()),
      rpc_(env, server_, options_.limits) {}

Mds::~Mds() = default;

ServerOptions Mds::serverOptions() {
  ServerOptions o = options_.server;
  o.cluster = options_.cluster;
  o.directory = options_.directory;
  o.onFatal = [this](const Error& error) {
    if (failed_.isSet()) return;
    failure_ = error;
    if (error.code == Errc::kNoSpace)
      failure_.message += "; free space on the file system of " + options_.directory +
                          " and start the daemon again";
    failed_.set();
  };
  return o;
}

Task<Result<void>> Mds::bringUp() {
  SingleLogOptions log;
  log.path = options_.directory + "/log";
  log.bytes = roundDown(options_.logBytes, kBlockSize);
  log.identity = options_.cluster;
  log.applied = state_->applied();
  log.create = options_.create;
  const LogIndex before = state_->applied();
  auto opened = co_await CommandLog::openSingle(
      env_, std::move(log), [this](LogIndex first, std::span<const Bytes> commands) {
        return server_.onCommitted(first, commands);
      });
  CO_TRY(opened);
  log_ = std::move(*opened);
  if (state_->applied() != before)
    env_.log.info("log replayed", {{"commands", state_->applied().value - before.value},
                                   {"up_to", state_->applied().value}});
  CO_TRY(co_await server_.start(*log_));
  if (options_.onMade) CO_TRY(options_.onMade());
  CO_TRY(rpc_.start(options_.listen));
  auto at =
      options_.addr ? options_.addr(rpc_.port()) : Endpoint{options_.listen.host, rpc_.port()};
  CO_TRY(at);
  address_ = at->text();
  server_.setAdvertise(address_);
  env_.log.info("serving", {{"cluster", options_.cluster.text()}, {"at", address_}});
  co_return Result<void>{};
}

Result<void> Mds::health() const {
  if (failed_.isSet()) return fail(failure_);
  return {};
}

Task<void> Mds::stop() {
  co_await rpc_.close();
  co_await server_.close();
  if (log_) co_await log_->close();
}

}  // namespace cairn::mds
