#include "common/sim/sim_network.h"

#include <doctest/doctest.h>

#include <numeric>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

using StreamPtr = std::unique_ptr<Stream>;

struct Pair {
  std::unique_ptr<Listener> listener;
  StreamPtr client;
  StreamPtr server;
};

Pair connectPair(SimWorld& world, SimNode& from, SimNode& to, uint16_t port = 7000) {
  Pair p;
  auto listener = to.network().listen({"0.0.0.0", port});
  REQUIRE(listener.has_value());
  p.listener = std::move(*listener);
  auto client = world.await(from, from.network().connect({to.host(), port}, 5s));
  REQUIRE(client.has_value());
  REQUIRE(client->has_value());
  p.client = std::move(**client);
  auto server = world.await(to, p.listener->accept());
  REQUIRE((server.has_value() && server->has_value()));
  p.server = std::move(**server);
  return p;
}

std::vector<uint8_t> pattern(size_t size) {
  std::vector<uint8_t> v(size);
  uint32_t x = 1;
  for (auto& b : v) b = static_cast<uint8_t>((x = x * 1664525 + 1013904223) >> 24);
  return v;
}

Task<Result<void>> writeAll(Stream& s, std::vector<uint8_t> bytes) {
  // Two parts, as a frame and its payload.
  const size_t cut = bytes.size() / 3;
  const iovec parts[] = {{bytes.data(), cut}, {bytes.data() + cut, bytes.size() - cut}};
  co_return co_await s.write(parts);
}

Task<Result<size_t>> readSome(Stream& s, size_t max) {
  std::vector<uint8_t> buf(max);
  const iovec part{buf.data(), buf.size()};
  co_return co_await s.read({&part, 1});
}

// Reads to the end of the stream, in parts of odd sizes.
Task<Result<std::vector<uint8_t>>> readAll(Stream& s, size_t* reads) {
  std::vector<uint8_t> got;
  for (;;) {
    uint8_t a[1000];
    uint8_t b[3333];
    const iovec parts[] = {{a, sizeof a}, {b, sizeof b}};
    auto n = co_await s.read(parts);
    CO_TRY(n);
    ++*reads;
    if (*n == 0) co_return got;
    got.insert(got.end(), a, a + std::min(*n, sizeof a));
    if (*n > sizeof a) got.insert(got.end(), b, b + (*n - sizeof a));
  }
}

Task<void> writeThenShutdown(Stream& s, std::vector<uint8_t> bytes) {
  auto r = co_await writeAll(s, std::move(bytes));
  CHECK(r.has_value());
  s.shutdown();
}

Errc codeOf(const auto& maybeResult) {
  REQUIRE(maybeResult.has_value());
  return maybeResult->has_value() ? Errc::kOk : maybeResult->error().code;
}

}  // namespace

TEST_CASE("sim: bytes arrive whole and in order, in pieces cut anywhere") {
  SimWorld world(11);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  CHECK(p.client->peer() == "b:7000");
  CHECK(p.server->peer().starts_with("a:"));
  const auto sent = pattern(1'000'000);
  a.spawn(writeThenShutdown(*p.client, sent));
  size_t reads = 0;
  auto got = world.await(b, readAll(*p.server, &reads));
  REQUIRE(codeOf(got) == Errc::kOk);
  CHECK(**got == sent);
  CHECK(reads > sent.size() / 4333);  // some reads returned less than they could
}

TEST_CASE("sim: a reader that stops stops the writer") {
  SimWorld world(1, {.pipeBytes = 64 << 10});
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(64 << 10)), 10s)) == Errc::kOk);
  CHECK_FALSE(world.await(a, writeAll(*p.client, pattern(1000)), 10s).has_value());
  CHECK(codeOf(world.await(b, readSome(*p.server, 4096))) == Errc::kOk);
  CHECK(world.drain(a, 1s));  // there is room now
}

TEST_CASE("sim: connecting where nobody listens is refused, unknown hosts are unavailable") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  world.addNode("b");
  CHECK(codeOf(world.await(a, a.network().connect({"b", 1}, 5s))) == Errc::kUnavailable);
  CHECK(codeOf(world.await(a, a.network().connect({"nowhere", 1}, 5s))) == Errc::kUnavailable);
  CHECK(world.elapsed() < Duration(1s));
}

TEST_CASE("sim: a port in use is busy until its listener closes; port 0 picks a free one") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& other = world.addNode("a", {.name = "other"});
  auto first = a.network().listen({"a", 7000});
  REQUIRE(first.has_value());
  auto second = other.network().listen({"0.0.0.0", 7000});
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().code == Errc::kBusy);
  CHECK(second.error().message.find("7000") != std::string::npos);
  (*first)->close();
  CHECK(other.network().listen({"0.0.0.0", 7000}).has_value());
  auto any = a.network().listen({"127.0.0.1", 0});
  REQUIRE(any.has_value());
  CHECK((*any)->port() != 0);
  CHECK(a.network().listen({"elsewhere", 7001}).error().code == Errc::kInvalid);
}

TEST_CASE("sim: closing a listener ends its accept") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  auto listener = a.network().listen({"a", 7000});
  REQUIRE(listener.has_value());
  world.after(1s, [&] { (*listener)->close(); });
  CHECK(codeOf(world.await(a, (*listener)->accept())) == Errc::kCanceled);
}

TEST_CASE("sim: shutdown ends a pending read here, and the stream at the peer after its bytes") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(100)))) == Errc::kOk);
  world.after(1s, [&] { p.client->shutdown(); });
  CHECK(codeOf(world.await(a, readSome(*p.client, 10))) == Errc::kCanceled);
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(1)))) == Errc::kCanceled);
  size_t reads = 0;
  auto got = world.await(b, readAll(*p.server, &reads));
  REQUIRE(codeOf(got) == Errc::kOk);
  CHECK(**got == pattern(100));
  // Who goes on writing to it is reset.
  CHECK(codeOf(world.await(b, writeAll(*p.server, pattern(1)))) == Errc::kOk);
  world.run(1s);
  CHECK(codeOf(world.await(b, writeAll(*p.server, pattern(1)))) == Errc::kUnavailable);
}

TEST_CASE("sim: a cut link says nothing and loses nothing; healed, the bytes arrive") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  world.network().cutOneWay("a", "b");
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(100)))) == Errc::kOk);
  CHECK_FALSE(world.await(b, readSome(*p.server, 10), 10min).has_value());
  // The other direction works.
  CHECK(codeOf(world.await(b, writeAll(*p.server, pattern(5)))) == Errc::kOk);
  CHECK(codeOf(world.await(a, readSome(*p.client, 10), 1s)) == Errc::kOk);
  world.network().healAll();
  CHECK(world.drain(b, 1s));
  // And what is written from now on.
  world.run(1s);
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(1000)), 1s)) == Errc::kOk);
  a.spawn(writeThenShutdown(*p.client, pattern(100)));
  size_t reads = 0;
  auto rest = world.await(b, readAll(*p.server, &reads), 1s);
  REQUIRE(codeOf(rest) == Errc::kOk);
  CHECK((*rest)->size() > 1000);
}

TEST_CASE("sim: over a cut link a connect times out, and one that heals meanwhile succeeds") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  auto listener = b.network().listen({"b", 7000});
  world.network().cut("a", "b");
  const TimePoint start = world.now();
  CHECK(codeOf(world.await(a, a.network().connect({"b", 7000}, 3s))) == Errc::kTimeout);
  CHECK(world.now() - start == Duration(3s));
  world.after(2s, [&] { world.network().heal("a", "b"); });
  CHECK(codeOf(world.await(a, a.network().connect({"b", 7000}, 5s))) == Errc::kOk);
}

TEST_CASE("sim: a sender gives up on a cut link after resetAfter, its peer never learns") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  world.network().link("a", "b").resetAfter = 30s;
  Pair p = connectPair(world, a, b);
  world.network().cut("a", "b");
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(100)))) == Errc::kOk);
  const TimePoint start = world.now();
  CHECK(codeOf(world.await(a, readSome(*p.client, 10))) == Errc::kUnavailable);
  CHECK(world.now() - start >= Duration(30s));
  CHECK_FALSE(world.await(b, readSome(*p.server, 10), 1h).has_value());
  p.server->shutdown();
  CHECK(world.drain(b));
}

TEST_CASE("sim: latency and bandwidth are those of the link") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  world.network().defaults = {.latency = 10ms, .jitter = 0ns, .bytesPerSec = 1'000'000};
  Pair p = connectPair(world, a, b);
  const TimePoint start = world.now();
  a.spawn(writeThenShutdown(*p.client, pattern(2'000'000)));
  size_t reads = 0;
  CHECK(codeOf(world.await(b, readAll(*p.server, &reads))) == Errc::kOk);
  CHECK(world.now() - start >= Duration(2010ms));
  CHECK(world.now() - start < Duration(2200ms));
}

TEST_CASE("sim: when a process is killed its peer sees the connection end") {
  int ends = 0;
  int resets = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SimWorld world(seed);
    SimNode& a = world.addNode("a");
    SimNode& b = world.addNode("b");
    Pair p = connectPair(world, a, b);
    world.kill(b);
    auto r = world.await(a, readSome(*p.client, 10), 1s);
    REQUIRE(r.has_value());
    if (r->has_value())
      ++ends;
    else
      ++resets;
    CHECK(codeOf(world.await(b, readSome(*p.server, 10), 1s)) == Errc::kCanceled);
    CHECK(codeOf(world.await(b, writeAll(*p.server, pattern(10)), 1s)) == Errc::kCanceled);
    CHECK(codeOf(world.await(a, a.network().connect({"b", 7000}, 1s))) == Errc::kUnavailable);
    SimNode& again = world.addNode("b");
    CHECK(again.network().listen({"b", 7000}).has_value());
  }
  CHECK(ends > 0);
  CHECK(resets > 0);
}

TEST_CASE("sim: a killed process's reads, writes, accepts and connects in flight are canceled") {
  SimWorld world(1, {.pipeBytes = 4096});
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  auto listener = a.network().listen({"a", 7000});
  REQUIRE(listener.has_value());
  world.network().cut("a", "c");
  world.machine("c");
  auto reading = a.start(readSome(*p.client, 10));
  auto writing = a.start(writeAll(*p.client, pattern(10'000)));
  auto accepting = a.start((*listener)->accept());
  auto connecting = a.start(a.network().connect({"c", 1}, 1h));
  world.run(1s);
  CHECK(a.running() == 4);
  world.kill(a);
  CHECK(a.running() == 4);  // nothing ends inside the call
  CHECK(world.drain(a, 1us));
  CHECK(codeOf(*reading) == Errc::kCanceled);
  CHECK(codeOf(*writing) == Errc::kCanceled);
  CHECK(codeOf(*accepting) == Errc::kCanceled);
  CHECK(codeOf(*connecting) == Errc::kCanceled);
}

TEST_CASE("sim: what a killed process writes afterwards reaches nobody") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimWorld world(seed);
    SimNode& a = world.addNode("a");
    SimNode& b = world.addNode("b");
    Pair p = connectPair(world, a, b);
    world.kill(a);
    a.spawn([](Stream& s) -> Task<void> {
      auto r = co_await writeAll(s, pattern(10));
      CHECK_FALSE(r.has_value());
    }(*p.client));
    auto r = world.await(b, readSome(*p.server, 10), 10s);
    REQUIRE(r.has_value());
    CHECK_FALSE((r->has_value() && **r != 0));
    CHECK(world.drain(a));
  }
}

TEST_CASE("sim: a host without power is silent; once up, it resets what it no longer knows") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  world.powerOff("b");
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(100)))) == Errc::kOk);
  CHECK_FALSE(world.await(a, readSome(*p.client, 10), 10min).has_value());
  CHECK(codeOf(world.await(a, a.network().connect({"b", 7000}, 2s))) == Errc::kTimeout);
  world.addNode("b");
  CHECK(world.drain(a, 1s));
  CHECK(codeOf(world.await(a, readSome(*p.client, 10))) == Errc::kUnavailable);
}

TEST_CASE("sim: a paused peer takes what the pipe holds, and answers when it goes on") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  world.pause(b);
  CHECK(codeOf(world.await(a, writeAll(*p.client, pattern(1000)))) == Errc::kOk);
  CHECK_FALSE(world.await(b, readSome(*p.server, 10), 1h).has_value());
  world.resume(b);
  CHECK(world.drain(b, 1ms));
}

TEST_CASE("sim: the harness can reset the connections between two hosts") {
  SimWorld world(1);
  SimNode& a = world.addNode("a");
  SimNode& b = world.addNode("b");
  Pair p = connectPair(world, a, b);
  CHECK(world.network().openConnections() == 1);
  world.after(1s, [&] { world.network().reset("a", "b"); });
  CHECK(codeOf(world.await(a, readSome(*p.client, 10))) == Errc::kUnavailable);
  CHECK(codeOf(world.await(b, readSome(*p.server, 10))) == Errc::kUnavailable);
}
