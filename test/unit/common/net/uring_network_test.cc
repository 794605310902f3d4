#include "common/net/uring_network.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "common/base/buffer.h"
#include "test/unit/common/reactor/make_reactor.h"

using namespace cairn;

namespace {

std::unique_ptr<Listener> listenSomewhere(UringNetwork& network) {
  auto l = network.listen({"127.0.0.1", 0});
  REQUIRE_MESSAGE(l.has_value(), (l ? std::string() : l.error().message));
  return std::move(*l);
}

struct NetFixture {
  std::unique_ptr<UringReactor> reactor = makeReactor();
  UringNetwork network{*reactor};
  std::unique_ptr<Listener> listener = listenSomewhere(network);
  Endpoint at{"127.0.0.1", listener->port()};
};

struct SocketPair {
  std::unique_ptr<Stream> client, server;
};

Task<void> acceptInto(Listener& listener, std::unique_ptr<Stream>& out) {
  auto s = co_await listener.accept();
  REQUIRE(s);
  out = std::move(*s);
}

Task<SocketPair> connectPair(NetFixture& f) {
  SocketPair p;
  TaskScope scope(*f.reactor);
  scope.spawn(acceptInto(*f.listener, p.server));
  auto c = co_await f.network.connect(f.at, 5s);
  REQUIRE(c);
  p.client = std::move(*c);
  co_await scope.join();
  co_return p;
}

Task<Result<void>> readAll(Stream& s, MutBytes into) {
  size_t done = 0;
  while (done < into.size()) {
    iovec part{into.data() + done, into.size() - done};
    auto n = co_await s.read({&part, 1});
    CO_TRY(n);
    if (*n == 0) co_return fail(Errc::kUnavailable, "end of stream");
    done += *n;
  }
  co_return Result<void>();
}

Task<Result<void>> writeAll(Stream& s, Bytes bytes) {
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  co_return co_await s.write({&part, 1});
}

Task<void> echo(Stream& s) {
  std::vector<uint8_t> room(64 * kKiB);
  while (true) {
    iovec part{room.data(), room.size()};
    auto n = co_await s.read({&part, 1});
    if (!n || *n == 0) break;
    if (!co_await writeAll(s, {room.data(), *n})) break;
  }
  s.shutdown();
}

std::vector<uint8_t> socketPattern(size_t size) {
  std::vector<uint8_t> v(size);
  SeededRandom random(size);
  for (size_t i = 0; i < size; ++i) v[i] = static_cast<uint8_t>(random.next());
  return v;
}

Task<void> readError(Stream& s, Errc& code) {
  uint8_t byte;
  iovec part{&byte, 1};
  auto n = co_await s.read({&part, 1});
  code = n ? Errc::kOk : n.error().code;
}

Task<void> writeError(Stream& s, Bytes bytes, Errc& code) {
  auto r = co_await writeAll(s, bytes);
  code = r ? Errc::kOk : r.error().code;
}

Task<void> store(Task<Result<void>> task, Result<void>& out) {
  out = co_await std::move(task);
}

}  // namespace

TEST_CASE("what is written comes back from an echo, in several sizes") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    SocketPair p = co_await connectPair(f);
    TaskScope scope(*f.reactor);
    scope.spawn(echo(*p.server));
    for (size_t size : {size_t{1}, size_t{4096}, size_t{1} << 20, (size_t{1} << 20) + 7}) {
      auto out = socketPattern(size);
      std::vector<uint8_t> in(size);
      Result<void> sent;
      scope.spawn(store(writeAll(*p.client, out), sent));
      CHECK(co_await readAll(*p.client, in));
      CHECK(in == out);
    }
    p.client->shutdown();
    co_await scope.join();
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("8 MiB in many parts arrive whole and in order, into many parts") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    SocketPair p = co_await connectPair(f);
    auto out = socketPattern(8 * kMiB);
    std::vector<uint8_t> in(out.size());
    std::vector<iovec> parts;
    // More parts than one sendmsg takes, of odd sizes, some empty.
    for (size_t at = 0, i = 0; at < out.size(); ++i) {
      size_t n = i % 50 == 0 ? 0 : std::min<size_t>(1 + (i * 977) % 8000, out.size() - at);
      parts.push_back({out.data() + at, n});
      at += n;
    }
    REQUIRE(parts.size() > 1024);
    Result<void> sent = fail(Errc::kInvalid);
    TaskScope scope(*f.reactor);
    scope.spawn(store(p.client->write(parts), sent));
    for (size_t done = 0; done < in.size();) {
      size_t half = (in.size() - done + 1) / 2;
      iovec room[2] = {{in.data() + done, half},
                       {in.data() + done + half, in.size() - done - half}};
      auto n = co_await p.server->read(room);
      REQUIRE(n);
      REQUIRE(*n > 0);
      done += *n;
    }
    co_await scope.join();
    CHECK(sent);
    CHECK(in == out);
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("shutdown ends a pending read and a pending write, at both ends") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    SocketPair p = co_await connectPair(f);
    auto big = socketPattern(64 * kMiB);  // more than the socket buffers hold
    Errc reading = Errc::kOk, writing = Errc::kOk;
    TaskScope scope(*f.reactor);
    scope.spawn(readError(*p.client, reading));
    scope.spawn(writeError(*p.client, big, writing));
    co_await sleepFor(*f.reactor, 5ms);  // both are in the kernel now
    CHECK(scope.size() == 2);
    p.client->shutdown();
    p.client->shutdown();
    co_await scope.join();
    CHECK(reading == Errc::kCanceled);
    CHECK(writing == Errc::kCanceled);
    Errc later = Errc::kOk;
    co_await readError(*p.client, later);
    CHECK(later == Errc::kCanceled);
    co_await writeError(*p.client, {big.data(), 1}, later);
    CHECK(later == Errc::kCanceled);

    // The peer reads what had arrived, then the end.
    std::vector<uint8_t> room(kMiB);
    while (true) {
      iovec part{room.data(), room.size()};
      auto n = co_await p.server->read({&part, 1});
      if (!n || *n == 0) break;
    }
    CHECK(p.server->peer().starts_with("127.0.0.1:"));
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("a write to a peer that is gone is kUnavailable and no signal") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    SocketPair p = co_await connectPair(f);
    auto big = socketPattern(64 * kMiB);
    p.server.reset();
    Errc code = Errc::kOk;
    co_await writeError(*p.client, big, code);
    CHECK(code == Errc::kUnavailable);
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("a port in use is named, and the way out with it") {
  NetFixture f;
  auto second = f.network.listen(f.at);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kBusy);
  CHECK(second.error().message.find(std::to_string(f.at.port)) != std::string::npos);
  CHECK(second.error().message.find("choose another port") != std::string::npos);
}

TEST_CASE("the port of a daemon that was just killed can be listened on at once") {
  // Its ring dies after it, and holds the listener for some milliseconds.
  static constexpr auto accepting = [](Listener& l, int ready) -> Task<void> {
    CHECK(::write(ready, "x", 1) == 1);
    co_await l.accept();
  };
  for (int i = 0; i < 5; ++i) {
    int ready[2];
    REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
    uint16_t port;
    {
      NetFixture f;
      port = f.at.port;
    }
    pid_t child = ::fork();
    if (child == 0) {
      auto r = UringReactor::create();
      if (!r) ::_exit(1);
      UringNetwork network(**r);
      auto l = network.listen({"127.0.0.1", port});
      if (!l) ::_exit(1);
      (*r)->run(accepting(**l, ready[1]));
      ::_exit(0);
    }
    ::close(ready[1]);
    char byte;
    CHECK(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    auto r = makeReactor();
    UringNetwork network(*r);
    auto l = network.listen({"127.0.0.1", port});
    CHECK_MESSAGE(l.has_value(), (l ? std::string() : l.error().message));
  }
}

TEST_CASE("an address that is not this machine's is refused") {
  NetFixture f;
  auto l = f.network.listen({"192.0.2.1", 0});
  REQUIRE_FALSE(l);
  CHECK(l.error().code == Errc::kInvalid);
}

TEST_CASE("connecting where nobody listens fails at once and says so") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    f.listener->close();
    auto c = co_await f.network.connect(f.at, 5s);
    REQUIRE_FALSE(c);
    CHECK(c.error().code == Errc::kUnavailable);
    CHECK(c.error().message.find("start the daemon") != std::string::npos);
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("connecting to someone who does not answer ends at the timeout") {
  static constexpr auto body = [](NetFixture& f, Endpoint full) -> Task<void> {
    // A backlog of zero holds one connection; the kernel drops further attempts without an answer.
    auto first = co_await f.network.connect(full, 5s);
    REQUIRE(first);
    TimePoint before = f.reactor->now();
    auto second = co_await f.network.connect(full, 50ms);
    Duration took = f.reactor->now() - before;
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::kTimeout);
    CHECK(second.error().message.find("50 ms") != std::string::npos);
    CHECK(took >= 50ms);
    CHECK(took < 5s);
    auto none = co_await f.network.connect(f.at, 0ms);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::kTimeout);
  };
  NetFixture f;
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), length) == 0);
  REQUIRE(::listen(fd, 0) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length) == 0);
  f.reactor->run(body(f, {"127.0.0.1", ntohs(at.sin_port)}));
  ::close(fd);
}

TEST_CASE("closing a listener ends a pending accept and frees the port") {
  static constexpr auto accepting = [](Listener& l, Errc& code) -> Task<void> {
    auto s = co_await l.accept();
    code = s ? Errc::kOk : s.error().code;
  };
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    Errc code = Errc::kOk;
    TaskScope scope(*f.reactor);
    scope.spawn(accepting(*f.listener, code));
    co_await sleepFor(*f.reactor, 1ms);
    f.listener->close();
    co_await scope.join();
    CHECK(code == Errc::kCanceled);
    co_await accepting(*f.listener, code);
    CHECK(code == Errc::kCanceled);
    CHECK(f.network.listen(f.at));
  };
  NetFixture f;
  f.reactor->run(body(f));
}

TEST_CASE("names and IPv6 are dialled") {
  static constexpr auto body = [](NetFixture& f) -> Task<void> {
    TaskScope scope(*f.reactor);
    std::unique_ptr<Stream> server;
    scope.spawn(acceptInto(*f.listener, server));
    auto c = co_await f.network.connect({"localhost", f.at.port}, 5s);
    REQUIRE(c);
    co_await scope.join();

    auto none = co_await f.network.connect({"no-such-host.invalid", 1}, 1s);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::kUnavailable);
    CHECK(none.error().message.find("no-such-host.invalid") != std::string::npos);

    auto six = f.network.listen({"::1", 0});
    if (!six) {
      MESSAGE("IPv6 skipped: ", six.error().message);
      co_return;
    }
    std::unique_ptr<Stream> server6;
    scope.spawn(acceptInto(**six, server6));
    auto c6 = co_await f.network.connect({"::1", (*six)->port()}, 5s);
    REQUIRE(c6);
    co_await scope.join();
    CHECK((*c6)->peer() == "[::1]:" + std::to_string((*six)->port()));
  };
  NetFixture f;
  f.reactor->run(body(f));
}
