#include "common/metrics/http.h"

#include <algorithm>

#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/reactor/reactor.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxConnections = 64;
constexpr Duration kRequestTime = 10s;  // from the connection to the whole answer
constexpr Duration kLingerTime = 1s;
constexpr size_t kMaxLingerBytes = 64 * kKiB;
constexpr Duration kAcceptRetry = 1s;

std::string response(std::string_view status, std::string_view type, std::string_view body,
                     bool withBody = true, std::string_view moreHeaders = {}) {
  std::string out = "HTTP/1.1 ";
  out += status;
  out += "\r\nContent-Type: ";
  out += type;
  out += "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  out += moreHeaders;
  out += "Connection: close\r\n\r\n";
  if (withBody) out += body;
  return out;
}

std::string plain(std::string_view status, std::string_view body, bool withBody = true,
                  std::string_view moreHeaders = {}) {
  return response(status, "text/plain; charset=utf-8", body, withBody, moreHeaders);
}

// Length of the head with its blank line, 0 while that has not arrived.
size_t headLength(std::string_view bytes) {
  const size_t crlf = bytes.find("\r\n\r\n");
  const size_t lf = bytes.find("\n\n");
  if (crlf == bytes.npos && lf == bytes.npos) return 0;
  return crlf < lf ? crlf + 4 : lf + 2;
}

}  // namespace

Result<HttpRequest> parseHttpRequest(std::string_view head) {
  std::string_view line = head.substr(0, head.find('\n'));
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == line.npos || first == last)
    return fail(Errc::kInvalid, "the first line is not METHOD PATH HTTP/1.1");
  HttpRequest request;
  request.method = line.substr(0, first);
  request.path = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);

  if (request.method.empty() || !std::ranges::all_of(request.method, [](char c) {
        return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
      }))
    return fail(Errc::kInvalid, "no HTTP method");
  if (version != "HTTP/1.1" && version != "HTTP/1.0")
    return fail(Errc::kInvalid, "not HTTP/1.0 or HTTP/1.1");
  if (request.path.empty() || request.path.front() != '/' ||
      !std::ranges::all_of(request.path, [](char c) { return c > 0x20 && c < 0x7f; }))
    return fail(Errc::kInvalid, "no path");
  request.path = request.path.substr(0, request.path.find('?'));
  return request;
}

// One peer. The timer ends whatever the coroutine waits on when the peer is too slow.
struct MetricsServer::Connection final : Timer {
  Connection(MetricsServer& server, Stream& s)
      : Timer(server.env_.reactor), server_(server), stream(s) {
    at_ = server_.connections_.insert(server_.connections_.end(), this);
    arm(server_.env_.reactor.now() + kRequestTime);
  }
  ~Connection() override { server_.connections_.erase(at_); }
  void fire() override { stream.shutdown(); }

  MetricsServer& server_;
  Stream& stream;
  std::list<Connection*>::iterator at_;
};

MetricsServer::MetricsServer(const Env& env, Endpoint at)
    : env_(env),
      at_(std::move(at)),
      slots_(env.reactor, kMaxConnections),
      stopped_(env.reactor),
      tasks_(env.reactor) {}

MetricsServer::~MetricsServer() {
  CAIRN_ASSERT(tasks_.size() == 0, "a metrics server is closed before it dies");
}

Result<void> MetricsServer::start() {
  auto listener = env_.network.listen(at_);
  TRY(listener);
  listener_ = std::move(*listener);
  tasks_.spawn(acceptLoop());
  return {};
}

uint16_t MetricsServer::port() const {
  return listener_ ? listener_->port() : 0;
}

Task<void> MetricsServer::close() {
  stopped_.set();
  if (listener_) listener_->close();
  for (Connection* c : connections_) c->stream.shutdown();
  co_await tasks_.join();
}

Task<void> MetricsServer::acceptLoop() {
  bool reported = false;
  while (!stopped_.isSet()) {
    auto stream = co_await listener_->accept();
    if (stream) {
      reported = false;
      // Silent peers must not keep an admin out: the oldest connection makes room.
      if (slots_.available() == 0 && !connections_.empty()) connections_.front()->stream.shutdown();
      co_await slots_.acquire();
      tasks_.spawn(serve(std::move(*stream)));
      continue;
    }
    if (stream.error().code == Errc::kCanceled) co_return;
    // Out of descriptors, most likely: serve again when it is over, and say so once.
    if (!reported) env_.log.warning("metrics accept failed", {{"reason", stream.error().text()}});
    reported = true;
    co_await stopped_.waitFor(kAcceptRetry);
  }
}

Task<void> MetricsServer::serve(std::unique_ptr<Stream> stream) {
  if (!stopped_.isSet()) {
    Connection connection(*this, *stream);
    co_await talk(*stream);
    // The peer, who was told "Connection: close" and the length, ends first: ending here with its
    // bytes unread would reset the connection and take the answer away from it.
    connection.arm(env_.reactor.now() + kLingerTime);
    char discarded[1024];
    size_t total = 0;
    while (total < kMaxLingerBytes) {
      const iovec part{discarded, sizeof discarded};
      auto n = co_await stream->read({&part, 1});
      if (!n || *n == 0) break;
      total += *n;
    }
  }
  stream->shutdown();
  stream.reset();
  slots_.release();
}

Task<void> MetricsServer::talk(Stream& stream) {
  std::string request(kMaxHttpRequestBytes, '\0');
  size_t have = 0;
  size_t head = 0;
  while (head == 0 && have < request.size()) {
    const iovec part{request.data() + have, request.size() - have};
    auto n = co_await stream.read({&part, 1});
    if (!n || *n == 0) co_return;  // gone, or too slow
    have += *n;
    head = headLength(std::string_view(request).substr(0, have));
  }
  std::string reply = head > 0
                          ? answer(std::string_view(request).substr(0, head))
                          : plain("431 Request Header Fields Too Large", "request too large\n");
  const iovec part{reply.data(), reply.size()};
  // A peer that went away needs no answer.
  (void)co_await stream.write({&part, 1});
}

std::string MetricsServer::answer(std::string_view head) const {
  auto request = parseHttpRequest(head);
  if (!request) return plain("400 Bad Request", request.error().message + "\n");
  if (request->method != "GET" && request->method != "HEAD")
    return plain("405 Method Not Allowed", "only GET and HEAD\n", true, "Allow: GET, HEAD\r\n");
  const bool withBody = request->method == "GET";
  if (request->path == "/metrics")
    return response("200 OK", "text/plain; version=0.0.4; charset=utf-8", env_.metrics.render(),
                    withBody);
  if (request->path == "/healthz") {
    auto health = health_ ? health_() : Result<void>{};
    if (!health) return plain("503 Service Unavailable", health.error().text() + "\n", withBody);
    return plain("200 OK", "ok\n", withBody);
  }
  return plain("404 Not Found", "try /metrics or /healthz\n", withBody);
}

}  // namespace cairn
