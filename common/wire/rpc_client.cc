#include <algorithm>

#include "common/base/uuid.h"
#include "common/logging/log.h"
#include "common/schema/uuid_codec.h"
#include "common/wire/frame.h"
#include "common/wire/protocol.h"
#include "common/wire/rpc.h"

namespace cairn {

struct RpcClient::Call {
  explicit Call(Reactor& r) : done(r) {}
  Event done;
  Result<InMessage> result = fail(Errc::kTimeout);
};

struct RpcClient::Connection {
  Connection(Reactor& r, std::unique_ptr<Stream> s) : stream(std::move(s)), wake(r), dead(r) {}
  std::unique_ptr<Stream> stream;
  std::unordered_map<uint64_t, Call*> pending;
  std::deque<OutMessage> out;
  Event wake;  // something to write, or dead
  Event dead;
  Error why;
  uint64_t nextId = 1;
  TimePoint lastHeard, waitingSince;  // waitingSince: when `pending` became non-empty
  bool pinged = false;

  void send(OutMessage message) {
    out.push_back(std::move(message));
    wake.set();
  }
};

RpcClient::RpcClient(Env& env, Options options)
    : env_(env), options_(std::move(options)), changed_(env.reactor), scope_(env.reactor) {}

RpcClient::~RpcClient() = default;  // scope_ asserts that close() drained it

void RpcClient::broken(Connection& conn, Error why) {
  if (conn.dead.isSet()) return;
  conn.why = std::move(why);
  conn.dead.set();
  conn.wake.set();
  conn.stream->shutdown();
  for (auto& [id, call] : conn.pending) {
    call->result = fail(conn.why);
    call->done.set();
  }
  conn.pending.clear();
  // Who waited for this connection may find it made and broken again.
  lastError_ = conn.why;
  if (conn_.get() == &conn) conn_.reset();
  if (setup_.get() == &conn) setup_.reset();
}

void RpcClient::disconnect() {
  Error why(Errc::kUnavailable, "connection to " + options_.to.text() + " was dropped");
  if (auto c = conn_) broken(*c, why);
  if (auto c = setup_) broken(*c, why);
}

Task<void> RpcClient::close() {
  closed_ = true;
  Error why(Errc::kCanceled, "closing");
  if (auto c = conn_) broken(*c, why);
  if (auto c = setup_) broken(*c, why);
  changed_.set();
  co_await scope_.join();
}

Task<Result<std::shared_ptr<RpcClient::Connection>>> RpcClient::connected(TimePoint deadline) {
  while (true) {
    if (closed_) co_return fail(Errc::kCanceled, "closing");
    if (conn_) co_return conn_;
    if (!connecting_) {
      connecting_ = true;
      ++attempts_;
      changed_.reset();
      scope_.spawn(establish());
    }
    uint64_t attempt = attempts_;
    Duration left = deadline - env_.reactor.now();
    if (left <= Duration::zero() || !co_await changed_.waitFor(left))
      co_return fail(Errc::kUnavailable, "no connection to " + options_.to.text() + " in time");
    if (!conn_ && !closed_ && attempt == attempts_ && !connecting_) co_return fail(lastError_);
  }
}

Task<void> RpcClient::establish() {
  Result<void> outcome = fail(Errc::kBadMessage, options_.to.text() + ": unreadable hello");
  try {
    outcome = co_await tryEstablish();
  } catch (const kj::Exception&) {  // `outcome` says it
  }
  if (!outcome) {
    lastError_ = outcome.error();
    if (auto c = setup_) broken(*c, lastError_);
  }
  setup_.reset();
  connecting_ = false;
  changed_.set();
}

Task<Result<void>> RpcClient::tryEstablish() {
  auto stream = co_await env_.network.connect(options_.to, options_.connectTimeout);
  CO_TRY(stream);
  if (closed_) co_return fail(Errc::kCanceled, "closing");
  auto conn = std::make_shared<Connection>(env_.reactor, std::move(*stream));
  conn->lastHeard = env_.reactor.now();
  setup_ = conn;
  scope_.spawn(readLoop(conn));
  scope_.spawn(writeLoop(conn));
  scope_.spawn(watchSilence(conn));

  OutMessage hello;
  hello.header().setKind(schema::RpcHeader::Kind::HELLO);
  auto body = hello.body<schema::Hello>();
  body.setProtocol(kProtocolVersion);
  body.setRole(options_.self.role);
  writeUuid(body.initCluster(), options_.self.cluster);
  body.setPeer(options_.self.peer);
  auto reply = co_await exchange(conn, std::move(hello), options_.connectTimeout);
  CO_TRY(reply);
  auto answer = reply->body<schema::Hello>().getAnswer();
  peerIdentity_ = {answer.getRole(), readUuid(answer.getCluster()), answer.getId()};
  if (options_.onConnect) CO_TRY(co_await options_.onConnect(*this));
  if (conn->dead.isSet()) co_return fail(conn->why);
  conn_ = std::move(conn);
  co_return Result<void>{};
}

Task<Result<InMessage>> RpcClient::call(OutMessage message, Duration timeout) {
  TimePoint deadline = env_.reactor.now() + timeout;
  auto conn = co_await connected(deadline);
  CO_TRY(conn);
  co_return co_await exchange(std::move(*conn), std::move(message), deadline - env_.reactor.now());
}

Task<Result<InMessage>> RpcClient::callNow(OutMessage message, Duration timeout) {
  auto conn = setup_;
  if (!conn)
    co_return fail(Errc::kUnavailable, "the connection to " + options_.to.text() + " broke");
  co_return co_await exchange(std::move(conn), std::move(message), timeout);
}

Task<Result<InMessage>> RpcClient::exchange(std::shared_ptr<Connection> conn, OutMessage message,
                                            Duration timeout) {
  if (conn->dead.isSet()) co_return fail(conn->why);
  if (auto fits = checkFits(message, options_.limits.frame()); !fits) {
    env_.log.error("a request beyond the limits is not sent",
                   {{"peer", options_.to.text()}, {"reason", fits.error().message}});
    co_return fail(fits.error());
  }
  auto header = message.header();
  uint64_t id = conn->nextId++;
  header.setId(id);
  if (header.getKind() != schema::RpcHeader::Kind::HELLO)
    header.setKind(schema::RpcHeader::Kind::REQUEST);
  header.setDeadlineMs(static_cast<uint32_t>(std::clamp<int64_t>(timeout / 1ms, 1, UINT32_MAX)));
  Call call(env_.reactor);
  if (conn->pending.empty()) conn->waitingSince = env_.reactor.now();
  conn->pending.emplace(id, &call);
  conn->send(std::move(message));
  if (!co_await call.done.waitFor(timeout)) {
    conn->pending.erase(id);
    co_return fail(Errc::kTimeout, "no answer from " + options_.to.text() + " in time");
  }
  co_return std::move(call.result);
}

Task<void> RpcClient::readLoop(std::shared_ptr<Connection> conn) {
  FrameReader reader(*conn->stream, env_.buffers, options_.limits.frame());
  while (!conn->dead.isSet()) {
    auto in = co_await reader.next();
    if (!in) {
      Errc code = in.error().code == Errc::kBadMessage ? Errc::kBadMessage : Errc::kUnavailable;
      broken(*conn, Error(code, options_.to.text() + ": " + in.error().message));
      break;
    }
    if (conn->dead.isSet()) break;  // what is said now may contradict the next connection
    conn->lastHeard = env_.reactor.now();
    conn->pinged = false;
    auto header = in->header();
    if (header.getKind() == schema::RpcHeader::Kind::PUSH) {
      if (!options_.onPush) continue;
      try {
        options_.onPush(*in);
      } catch (const kj::Exception&) {
        broken(*conn, Error(Errc::kBadMessage, options_.to.text() + ": unreadable push"));
      }
      continue;
    }
    auto it = conn->pending.find(header.getId());
    if (it == conn->pending.end()) continue;  // a ping's answer, or one that came too late
    Call* call = it->second;
    conn->pending.erase(it);
    if (header.getStatus() != 0) {
      std::string why;
      try {
        auto detail = header.getDetail();
        why.assign(detail.begin(), detail.size());
      } catch (const kj::Exception&) {  // the sentence cannot be read; the code can
      }
      call->result = fail(static_cast<Errc>(header.getStatus()), std::move(why));
    } else {
      call->result = std::move(*in);
    }
    call->done.set();
  }
}

Task<void> RpcClient::writeLoop(std::shared_ptr<Connection> conn) {
  while (true) {
    co_await conn->wake.wait();
    if (conn->dead.isSet()) break;
    conn->wake.reset();
    std::deque<OutMessage> batch = std::exchange(conn->out, {});
    auto sent = co_await writeFrames(*conn->stream, batch);
    if (!sent)
      broken(*conn, Error(Errc::kUnavailable, options_.to.text() + ": " + sent.error().message));
  }
}

Task<void> RpcClient::watchSilence(std::shared_ptr<Connection> conn) {
  // A slow operation is not silence: the peer's RPC layer answers pings while its handlers work.
  while (!co_await conn->dead.waitFor(options_.silenceTimeout / 4)) {
    if (conn->pending.empty()) continue;
    Duration silent = env_.reactor.now() - std::max(conn->lastHeard, conn->waitingSince);
    if (silent >= options_.silenceTimeout) {
      broken(*conn, Error(Errc::kUnavailable, options_.to.text() + " does not answer"));
    } else if (silent >= options_.silenceTimeout / 2 && !conn->pinged) {
      conn->pinged = true;
      OutMessage ping;
      ping.header().setKind(schema::RpcHeader::Kind::PING);
      ping.header().setId(conn->nextId++);
      conn->send(std::move(ping));
    }
  }
}

}  // namespace cairn
