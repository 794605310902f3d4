#include <algorithm>

#include "common/logging/log.h"
#include "common/schema/uuid_codec.h"
#include "common/wire/frame.h"
#include "common/wire/protocol.h"
#include "common/wire/rpc.h"

namespace cairn {

struct RpcServer::Conn final : RpcPeer {
  Conn(Reactor& r, std::unique_ptr<Stream> s)
      : stream(std::move(s)), wake(r), room(r), idle(r), dead(r) {
    idle.set();
  }
  std::unique_ptr<Stream> stream;
  Identity self;
  std::deque<OutMessage> out;
  size_t outBytes = 0;      // payload and push bytes in `out`
  size_t requests = 0;      // being handled, or their answers not sent yet
  size_t requestBytes = 0;  // payloads of those
  size_t handlers = 0;      // handlers that run
  Event wake;               // something to write, or dead
  Event room;               // fewer requests than before, or dead
  Event idle;               // no handler runs
  Event dead;
  bool claimed = false;  // `self` is known and older connections give way
  bool greeted = false;  // the hello was answered

  [[nodiscard]] const Identity& identity() const override { return self; }
  [[nodiscard]] std::string address() const override { return stream->peer(); }
  void push(OutMessage message) override {
    if (dead.isSet()) return;
    message.header().setKind(schema::RpcHeader::Kind::PUSH);
    send(std::move(message));
  }
  void disconnect() override {
    if (dead.isSet()) return;
    dead.set();
    wake.set();
    room.set();
    stream->shutdown();
  }
  void send(OutMessage message) {
    outBytes += message.payloadBytes();
    out.push_back(std::move(message));
    wake.set();
  }
};

RpcServer::RpcServer(Env& env, RpcHandler& handler, RpcLimits limits)
    : env_(env), handler_(handler), limits_(limits), scope_(env.reactor) {}

RpcServer::~RpcServer() = default;  // scope_ asserts that close() drained it

Result<void> RpcServer::start(Endpoint at) {
  auto listener = env_.network.listen(at);
  TRY(listener);
  listener_ = std::move(*listener);
  scope_.spawn(acceptLoop());
  return {};
}

uint16_t RpcServer::port() const {
  return listener_ ? listener_->port() : 0;
}

Task<void> RpcServer::close() {
  closed_ = true;
  if (listener_) listener_->close();
  for (auto& c : conns_) c->disconnect();
  co_await scope_.join();
}

Task<void> RpcServer::acceptLoop() {
  Event pause(env_.reactor);
  while (!closed_) {
    auto stream = co_await listener_->accept();
    if (closed_) break;
    if (!stream) {
      if (stream.error().code == Errc::kCanceled) break;
      // Out of descriptors or memory: serve those who are here, then look again.
      env_.log.warning("accept failed", {{"reason", stream.error().text()}});
      co_await pause.waitFor(100ms);
      continue;
    }
    if (conns_.size() >= limits_.maxConnections) {
      env_.log.warning("connection refused: too many", {{"peer", (*stream)->peer()}});
      continue;
    }
    scope_.spawn(serve(std::move(*stream)));
  }
}

Task<Result<void>> RpcServer::welcome(std::shared_ptr<Conn> conn, const InMessage& message) {
  if (message.header().getKind() != schema::RpcHeader::Kind::HELLO)
    co_return fail(Errc::kBadMessage, "the first frame is not a hello");
  auto hello = message.body<schema::Hello>();
  if (hello.getProtocol() != kProtocolVersion)
    co_return fail(Errc::kVersion, "this daemon speaks protocol version " +
                                       std::to_string(kProtocolVersion) + ", the peer " +
                                       std::to_string(hello.getProtocol()) +
                                       ": run the same release of Cairn on both");
  Identity mine = handler_.identity();
  Identity peer{hello.getRole(), readUuid(hello.getCluster()), hello.getPeer()};
  if (peer.cluster && mine.cluster && peer.cluster != mine.cluster)
    co_return fail(Errc::kWrongCluster, "this daemon belongs to cluster " + mine.cluster.text() +
                                            ", the peer to " + peer.cluster.text() +
                                            ": check the address");
  conn->self = peer;
  conn->claimed = true;
  if (peer.peer != 0) {
    // A request of the older connection must not run after this one's: it would overwrite newer
    // data with older.
    std::vector<std::shared_ptr<Conn>> older;
    for (auto& c : conns_)
      if (c != conn && c->claimed && c->self.role == peer.role && c->self.peer == peer.peer)
        older.push_back(c);
    for (auto& c : older) {
      c->disconnect();
      co_await c->idle.wait();
    }
  }
  CO_TRY(co_await handler_.onHello(peer));
  if (conn->dead.isSet()) co_return fail(Errc::kUnavailable, "superseded by a newer connection");
  conn->greeted = true;
  OutMessage answer;
  answer.header().setKind(schema::RpcHeader::Kind::RESPONSE);
  answer.header().setId(message.header().getId());
  auto body = answer.body<schema::Hello>();
  body.setProtocol(kProtocolVersion);
  body.getAnswer().setRole(mine.role);
  body.getAnswer().setId(mine.peer);
  writeUuid(body.getAnswer().initCluster(), mine.cluster);
  conn->send(std::move(answer));
  co_return Result<void>{};
}

namespace {

OutMessage errorAnswer(uint64_t id, const Error& error) {
  OutMessage m;
  m.header().setKind(schema::RpcHeader::Kind::RESPONSE);
  m.header().setId(id);
  m.header().setStatus(static_cast<uint16_t>(error.code));
  m.header().setDetail(error.message.substr(0, 4096).c_str());
  return m;
}

// A stranger who says nothing is closed; armed until the hello arrived.
struct HelloTimer final : Timer {
  HelloTimer(Reactor& r, RpcPeer& p) : Timer(r), peer(p) {}
  RpcPeer& peer;
  void fire() override { peer.disconnect(); }
};

}  // namespace

Task<void> RpcServer::serve(std::unique_ptr<Stream> stream) {
  auto conn = std::make_shared<Conn>(env_.reactor, std::move(stream));
  conns_.push_back(conn);
  auto position = std::prev(conns_.end());
  if (closed_) conn->disconnect();
  TaskScope mine(env_.reactor);
  mine.spawn(writeLoop(conn));
  FrameReader reader(*conn->stream, env_.buffers, limits_.frame());
  HelloTimer helloTimer(env_.reactor, *conn);
  helloTimer.arm(env_.reactor.now() + limits_.helloTimeout);

  bool welcomed = false;
  while (!conn->dead.isSet()) {
    auto in = co_await reader.next();
    if (!in) {
      if (in.error().code == Errc::kBadMessage)
        env_.log.warning("bad message",
                         {{"peer", conn->address()}, {"reason", in.error().message}});
      break;
    }
    if (conn->dead.isSet()) break;  // superseded while the frame arrived: it must not run any more
    if (!conn->greeted) {
      helloTimer.disarm();
      Result<void> ok = fail(Errc::kBadMessage, "the hello is not readable");
      try {
        ok = co_await welcome(conn, *in);
      } catch (const kj::Exception&) {  // `ok` says it
      }
      if (!ok) {
        env_.log.warning("peer refused",
                         {{"peer", conn->address()}, {"reason", ok.error().text()}});
        conn->send(errorAnswer(in->header().getId(), ok.error()));
        while (!conn->out.empty() && !conn->dead.isSet()) {
          conn->room.reset();
          co_await conn->room.wait();
        }
        break;
      }
      welcomed = true;
      handler_.onConnected(*conn);
      continue;
    }
    if (in->header().getKind() == schema::RpcHeader::Kind::PING) {
      OutMessage pong;
      pong.header().setKind(schema::RpcHeader::Kind::RESPONSE);
      pong.header().setId(in->header().getId());
      conn->send(std::move(pong));
      continue;
    }
    if (in->header().getKind() != schema::RpcHeader::Kind::REQUEST) break;
    ++conn->requests;
    conn->requestBytes += in->payload().size();
    ++conn->handlers;
    conn->idle.reset();
    mine.spawn(handleOne(conn, std::move(*in)));
    // Back-pressure: the socket is not read while too much of this peer's is unanswered.
    while (!conn->dead.isSet() &&
           (conn->requests >= limits_.maxInFlight ||
            conn->requestBytes + conn->outBytes >= limits_.maxInFlightBytes)) {
      conn->room.reset();
      co_await conn->room.wait();
    }
  }
  helloTimer.disarm();
  conn->disconnect();
  if (welcomed) handler_.onClosing(*conn);
  co_await mine.join();
  if (welcomed) handler_.onDisconnected(*conn);
  conns_.erase(position);
}

Task<void> RpcServer::handleOne(std::shared_ptr<Conn> conn, InMessage request) {
  uint64_t id = request.header().getId();
  Result<OutMessage> answer = fail(Errc::kBadMessage, "the request is not readable");
  bool readable = true;
  try {
    answer = co_await handler_.handle(request, *conn);
  } catch (const kj::Exception&) {
    readable = false;
  }
  if (!readable) {
    env_.log.warning("bad request", {{"peer", conn->address()}});
    conn->disconnect();
  }
  conn->requestBytes -= request.payload().size();
  if (--conn->handlers == 0) conn->idle.set();
  if (conn->dead.isSet()) co_return;
  if (answer) {
    if (auto fits = checkFits(*answer, limits_.frame()); !fits) {
      env_.log.error("an answer beyond the limits is not sent",
                     {{"peer", conn->address()}, {"reason", fits.error().message}});
      answer = fail(fits.error());
    }
  }
  if (answer) {
    answer->header().setKind(schema::RpcHeader::Kind::RESPONSE);
    answer->header().setId(id);
    conn->send(std::move(*answer));
  } else {
    conn->send(errorAnswer(id, answer.error()));
  }
}

Task<void> RpcServer::writeLoop(std::shared_ptr<Conn> conn) {
  while (true) {
    co_await conn->wake.wait();
    if (conn->dead.isSet()) break;
    conn->wake.reset();
    std::deque<OutMessage> batch = std::exchange(conn->out, {});
    if (!co_await writeFrames(*conn->stream, batch)) conn->disconnect();
    for (auto& m : batch) {
      conn->outBytes -= m.payloadBytes();
      if (m.header().getKind() == schema::RpcHeader::Kind::RESPONSE && conn->requests > 0)
        --conn->requests;
    }
    conn->room.set();
  }
}

}  // namespace cairn
