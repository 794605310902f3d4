// TCP over a UringReactor: IPv4, IPv6 and names. Thread and lifetime: as the reactor, which
// outlives it; streams and listeners may outlive the UringNetwork object, not the reactor.
//
// connect() tries the addresses of a name in the resolver's order until one answers; `timeout`
// bounds the attempts together, not the look-up of a name, which runs on the reactor's pool.
// Streams have TCP_NODELAY set, because every message is written whole, and keepalive, so that a
// peer whose machine vanished is noticed within a minute. No operation here makes anything durable.
#pragma once

#include "common/net/network.h"
#include "common/reactor/uring_reactor.h"

namespace cairn {

class UringNetwork final : public Network {
 public:
  explicit UringNetwork(UringReactor& reactor) : reactor_(reactor) {}

  Task<Result<std::unique_ptr<Stream>>> connect(Endpoint to, Duration timeout) override;
  // For start-up: blocks while it looks up a name (literals are the rule here), and up to a second
  // while a killed predecessor's port is not free yet.
  Result<std::unique_ptr<Listener>> listen(Endpoint at) override;

 private:
  UringReactor& reactor_;
};

}  // namespace cairn
