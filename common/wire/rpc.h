// Requests and answers over frames: both sides pipeline; any number of requests share one
// connection and are answered in any order. One reactor thread. See PROTOCOL.md.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <unordered_map>

#include "common/base/env.h"
#include "common/base/result.h"
#include "common/base/uuid.h"
#include "common/net/network.h"
#include "common/reactor/sync.h"
#include "common/wire/frame.h"
#include "common/wire/message.h"

namespace cairn {

// Who one end says it is.
struct Identity {
  schema::Hello::Role role = schema::Hello::Role::ADMIN;
  Uuid cluster;       // zero: not known yet
  uint64_t peer = 0;  // session id or daemon id
};

struct RpcLimits {
  size_t maxHeaderBytes = 1u << 20;
  size_t maxPayloadBytes = 4u << 20;
  size_t maxInFlight = 4096;  // requests of one connection that are being handled
  size_t maxInFlightBytes =
      64u << 20;  // their payloads; beyond either, the connection is not read from
  size_t maxConnections = 4096;
  Duration helloTimeout = 10s;  // a connection that does not say hello in time is closed

  [[nodiscard]] FrameLimits frame() const { return {maxHeaderBytes, maxPayloadBytes}; }
};

// One connection to one peer, made on demand and made again after it broke. Not owned by calls;
// must outlive them.
class RpcClient {
 public:
  struct Options {
    Endpoint to;
    Identity self;
    Duration connectTimeout = 3s;
    // A peer that answers nothing for so long while calls wait is taken for dead: the connection is
    // closed and its calls fail.
    Duration silenceTimeout = 5s;
    RpcLimits limits;
    std::function<void(const InMessage&)> onPush;  // may be empty
    // After every (re)connection, once the hello was answered and before waiting calls go out. A
    // failure drops the connection.
    std::function<Task<Result<void>>(RpcClient&)> onConnect;  // may be empty; uses callNow()
  };
  RpcClient(Env& env, Options options);
  ~RpcClient();  // closed and drained before: see close()
  RpcClient(const RpcClient&) = delete;
  RpcClient& operator=(const RpcClient&) = delete;

  // Sends `message` and waits for its answer. An error answer comes as its Error. kUnavailable:
  // could not connect or the connection broke (whether it happened is then unknown unless nothing
  // was sent); kTimeout after `timeout`; kInvalid for a message beyond the limits. Never retries by
  // itself.
  Task<Result<InMessage>> call(OutMessage message, Duration timeout);
  // For onConnect only: uses the connection that is being set up.
  Task<Result<InMessage>> callNow(OutMessage message, Duration timeout);
  // Fails every waiting call with kCanceled, closes the connection and waits until nothing runs
  // here.
  Task<void> close();
  // Drops the connection (the next call connects anew).
  void disconnect();

  [[nodiscard]] const Endpoint& endpoint() const { return options_.to; }
  // What the peer answered to the latest hello.
  [[nodiscard]] const Identity& peerIdentity() const { return peerIdentity_; }
  // Used in the hello of the next connection.
  void setIdentity(Identity self) { options_.self = self; }

 private:
  struct Call;
  struct Connection;
  Task<Result<std::shared_ptr<Connection>>> connected(TimePoint deadline);
  Task<void> establish();
  Task<Result<void>> tryEstablish();
  Task<Result<InMessage>> exchange(std::shared_ptr<Connection> conn, OutMessage message,
                                   Duration timeout);
  Task<void> readLoop(std::shared_ptr<Connection> conn);
  Task<void> writeLoop(std::shared_ptr<Connection> conn);
  Task<void> watchSilence(std::shared_ptr<Connection> conn);
  void broken(Connection& conn, Error why);

  Env& env_;
  Options options_;
  Identity peerIdentity_;
  std::shared_ptr<Connection> conn_;   // ready for calls
  std::shared_ptr<Connection> setup_;  // being greeted
  uint64_t attempts_ = 0;
  bool connecting_ = false, closed_ = false;
  Error lastError_;
  Event changed_;
  TaskScope scope_;
};

class RpcServer;

// One accepted connection, as handlers see it.
class RpcPeer {
 public:
  virtual ~RpcPeer() = default;
  [[nodiscard]] virtual const Identity& identity() const = 0;
  [[nodiscard]] virtual std::string address() const = 0;
  // Queues a push; dropped if the connection is gone. Never blocks.
  virtual void push(OutMessage message) = 0;
  virtual void disconnect() = 0;
};

// What a daemon implements. Calls arrive on the reactor's thread; many run at once.
class RpcHandler {
 public:
  virtual ~RpcHandler() = default;
  // Whom this daemon says it is; asked at every hello.
  virtual Identity identity() = 0;
  // May refuse a peer (after cluster and protocol were checked).
  virtual Task<Result<void>> onHello(const Identity& peer) {
    (void)peer;
    co_return Result<void>{};
  }
  // `request` and `peer` live until the task ends. The answer is the message or the Error.
  virtual Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) = 0;
  virtual void onConnected(RpcPeer& peer) { (void)peer; }
  // The connection is gone: nobody gets the answers of what still runs for it. Whatever of that
  // waits for other peers should end now: a newer connection of this one is greeted after it.
  virtual void onClosing(RpcPeer& peer) { (void)peer; }
  virtual void onDisconnected(RpcPeer& peer) { (void)peer; }  // last call for this peer
};

class RpcServer {
 public:
  RpcServer(Env& env, RpcHandler& handler, RpcLimits limits = {});
  ~RpcServer();
  // Listens and serves until close(). Fails with the listener's error.
  Result<void> start(Endpoint at);
  [[nodiscard]] uint16_t port() const;
  // Stops accepting, closes every connection, waits for the handlers that run.
  Task<void> close();

 private:
  struct Conn;
  Task<void> acceptLoop();
  Task<void> serve(std::unique_ptr<Stream> stream);
  Task<void> writeLoop(std::shared_ptr<Conn> conn);
  Task<void> handleOne(std::shared_ptr<Conn> conn, InMessage request);
  Task<Result<void>> welcome(std::shared_ptr<Conn> conn, const InMessage& hello);

  Env& env_;
  RpcHandler& handler_;
  RpcLimits limits_;
  std::unique_ptr<Listener> listener_;
  std::list<std::shared_ptr<Conn>> conns_;
  bool closed_ = false;
  TaskScope scope_;
};

}  // namespace cairn
