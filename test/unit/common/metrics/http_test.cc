#include "common/metrics/http.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "common/metrics/metrics.h"
#include "common/sim/sim_world.h"

using namespace cairn;

namespace {

constexpr uint16_t kPort = 7900;

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

// Sends `request` and gives everything that comes back until the server ends the connection, or
// until the answer is complete.
Task<std::string> fetch(Env env, std::string request) {
  auto stream = co_await env.network.connect({"server", kPort}, 5s);
  if (!stream) co_return "no connection: " + stream.error().text();
  const iovec out{request.data(), request.size()};
  (void)co_await (*stream)->write({&out, 1});
  std::string reply;
  char part[512];
  while (true) {
    const iovec in{part, sizeof part};
    auto n = co_await (*stream)->read({&in, 1});
    if (!n || *n == 0) break;
    reply.append(part, *n);
    const size_t head = reply.find("\r\n\r\n");
    const size_t length = reply.find("Content-Length: ");
    if (head != reply.npos && length != reply.npos &&
        reply.size() >= head + 4 + std::stoul(reply.substr(length + 16)))
      break;
  }
  (*stream)->shutdown();
  co_return reply;
}

// A connection that is opened and kept, silent, until the server ends it.
Task<void> holdOpen(Env env, size_t& open) {
  auto stream = co_await env.network.connect({"server", kPort}, 5s);
  if (!stream) co_return;
  ++open;
  char byte;
  const iovec in{&byte, 1};
  (void)co_await (*stream)->read({&in, 1});
  (*stream)->shutdown();
  --open;
}

struct Served {
  sim::SimWorld world{42};
  sim::SimNode& server = world.addNode("server");
  sim::SimNode& client = world.addNode("client");
  std::unique_ptr<MetricsServer> metrics;
  explicit Served(bool start = true) {
    metrics = std::make_unique<MetricsServer>(server.env(), Endpoint{"0.0.0.0", kPort});
    if (!start) return;
    auto started = metrics->start();
    REQUIRE_MESSAGE(started.has_value(), started.error().text());
  }
  ~Served() {
    CHECK(world.await(server, metrics->close()));
    metrics.reset();
    CHECK(world.drain(client));
    CHECK(world.drain(server));
  }
  std::string get(const std::string& path) { return raw("GET " + path + " HTTP/1.1\r\n\r\n"); }
  std::string raw(std::string request) {
    auto reply = world.await(client, fetch(client.env(), std::move(request)));
    REQUIRE(reply.has_value());
    return *reply;
  }
};

}  // namespace

TEST_CASE("GET /metrics shows the registry") {
  Served s;
  s.server.env().metrics.counter("widgets", "Widgets.") = 41;
  const std::string reply = s.get("/metrics");
  CHECK(reply.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(holds(reply, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  CHECK(holds(reply, "Connection: close\r\n"));
  CHECK(holds(reply, "\ncairn_widgets_total 41\n"));
  CHECK(holds(s.get("/metrics?format=prometheus"), "cairn_widgets_total 41"));
  CHECK(holds(s.raw("GET /metrics HTTP/1.0\n\n"), "cairn_widgets_total 41"));
}

TEST_CASE("/healthz answers 200, or 503 with the reason") {
  Served s;
  CHECK(s.get("/healthz").starts_with("HTTP/1.1 200 OK"));
  bool healthy = false;
  s.metrics->setHealth([&healthy]() -> Result<void> {
    if (!healthy) return fail(Errc::kUnavailable, "no lease");
    return {};
  });
  const std::string reply = s.get("/healthz");
  CHECK(reply.starts_with("HTTP/1.1 503 "));
  CHECK(holds(reply, "\r\n\r\nno lease"));
  healthy = true;
  CHECK(s.get("/healthz").starts_with("HTTP/1.1 200 OK"));
}

TEST_CASE("HEAD gives the head alone") {
  Served s;
  const std::string reply = s.raw("HEAD /healthz HTTP/1.1\r\n\r\n");
  CHECK(reply.starts_with("HTTP/1.1 200 OK"));
  CHECK(holds(reply, "Content-Length: 3\r\n"));
  CHECK(reply.ends_with("\r\n\r\n"));
}

TEST_CASE("what is not served is refused with the code that says why") {
  Served s;
  CHECK(s.get("/").starts_with("HTTP/1.1 404 "));
  CHECK(s.get("/metrics/").starts_with("HTTP/1.1 404 "));
  CHECK(s.get("/../etc/passwd").starts_with("HTTP/1.1 404 "));
  const std::string post = s.raw("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
  CHECK(post.starts_with("HTTP/1.1 405 "));
  CHECK(holds(post, "Allow: GET, HEAD\r\n"));
  CHECK(s.raw("GET /metrics HTTP/2.0\r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(s.raw("GET /metrics\r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(s.raw("get /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(s.raw(" \r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(s.raw("\r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(s.raw("GET /a\x01 HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST_CASE("a request that does not end is refused at 8 KiB") {
  Served s;
  CHECK(s.raw("GET /" + std::string(20'000, 'a')).starts_with("HTTP/1.1 431 "));
  CHECK(s.raw(std::string(20'000, '\0')).starts_with("HTTP/1.1 431 "));
  CHECK(s.get("/healthz").starts_with("HTTP/1.1 200 OK"));
}

TEST_CASE("garbage does not disturb the server") {
  Served s;
  SeededRandom random(1);
  for (int i = 0; i < 200; ++i) {
    std::string bytes(random.below(300), '\0');
    for (char& c : bytes) c = static_cast<char>(random.next());
    const std::string reply = s.raw(bytes + "\r\n\r\n");
    CHECK(reply.starts_with("HTTP/1.1 4"));
  }
  CHECK(s.get("/healthz").starts_with("HTTP/1.1 200 OK"));
}

TEST_CASE("silent peers keep nobody out, and are dropped") {
  Served s;
  size_t open = 0;
  for (int i = 0; i < 200; ++i) s.client.spawn(holdOpen(s.client.env(), open));
  s.world.run(1s);
  CHECK(open == 64);
  const TimePoint before = s.world.now();
  CHECK(s.get("/healthz").starts_with("HTTP/1.1 200 OK"));
  CHECK(s.world.now() - before < 1s);
  s.world.run(15s);
  CHECK(open == 0);
}

TEST_CASE("close ends connections that are open") {
  Served s;
  size_t open = 0;
  for (int i = 0; i < 100; ++i) s.client.spawn(holdOpen(s.client.env(), open));
  s.world.run(1s);
  const TimePoint before = s.world.now();
  CHECK(s.world.await(s.server, s.metrics->close()));
  CHECK(s.world.now() - before < 1s);
  CHECK(holds(s.get("/healthz"), "no connection"));
}

TEST_CASE("a port in use is an error that names it") {
  Served s;
  MetricsServer second(s.server.env(), Endpoint{"0.0.0.0", kPort});
  auto started = second.start();
  REQUIRE_FALSE(started.has_value());
  CHECK(started.error().code == Errc::kBusy);
  CHECK(holds(started.error().message, std::to_string(kPort)));
  CHECK(s.world.await(s.server, second.close()));
}

TEST_CASE("the server of a killed process unwinds") {
  Served s;
  size_t open = 0;
  for (int i = 0; i < 3; ++i) s.client.spawn(holdOpen(s.client.env(), open));
  s.world.run(1s);
  s.world.kill(s.server);
  s.world.run(30s);  // ~Served closes and drains
}

TEST_CASE("parsing takes any bytes") {
  SeededRandom random(3);
  const std::string good = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  auto parsed = parseHttpRequest(good);
  REQUIRE(parsed.has_value());
  CHECK(parsed->method == "GET");
  CHECK(parsed->path == "/metrics");
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good.substr(0, random.below(good.size() + 1));
    for (uint64_t n = random.below(4); n > 0 && !bytes.empty(); --n)
      bytes[random.below(bytes.size())] = static_cast<char>(random.next());
    auto r = parseHttpRequest(bytes);
    if (!r) {
      CHECK_FALSE(r.error().message.empty());
      continue;
    }
    CHECK_FALSE(r->method.empty());
    CHECK(r->path.starts_with('/'));
  }
}
