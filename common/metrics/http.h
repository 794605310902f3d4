// What an admin's browser, curl and Prometheus talk to: GET /metrics (Prometheus text format 0.0.4)
// and GET /healthz ("ok", or 503 and the reason). HTTP/1.1, one request a connection.
//
// Owned by a daemon; all calls on the reactor's thread. Nothing here trusts the peer: a request has
// 8 KiB and ten seconds, a connection beyond 64 ends the oldest one, and anything that is not a
// request is answered with 400 and closed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/env.h"
#include "common/net/network.h"
#include "common/reactor/sync.h"

namespace cairn {

inline constexpr size_t kMaxHttpRequestBytes = 8 * kKiB;

// The first line of a request. Nothing but what is answered by it is looked at.
struct HttpRequest {
  std::string_view method;
  std::string_view path;  // without the query
};
// `head` is everything up to the blank line. Pure, so that it can be fuzzed; kInvalid says what is
// not HTTP about it. The result refers to `head`.
Result<HttpRequest> parseHttpRequest(std::string_view head);

class MetricsServer {
 public:
  // What `env` refers to outlives the server.
  MetricsServer(const Env& env, Endpoint at);
  ~MetricsServer();  // after close(), or if start() was never called or failed
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // What /healthz answers: ok, or the error's text. Called for every such request. Unset: ok.
  void setHealth(std::function<Result<void>()> health) { health_ = std::move(health); }
  // Listens and serves from then on. kBusy names a port in use.
  Result<void> start();
  // Ends all connections and waits for them. May be called more than once.
  Task<void> close();
  // Where it listens: the port that was picked, if 0 was asked for.
  [[nodiscard]] uint16_t port() const;

 private:
  struct Connection;
  Task<void> acceptLoop();
  Task<void> serve(std::unique_ptr<Stream> stream);
  Task<void> talk(Stream& stream);
  [[nodiscard]] std::string answer(std::string_view head) const;

  Env env_;
  Endpoint at_;
  std::function<Result<void>()> health_;
  std::unique_ptr<Listener> listener_;
  std::list<Connection*> connections_;  // those being served; each removes itself
  Semaphore slots_;
  Event stopped_;
  TaskScope tasks_;
};

}  // namespace cairn
