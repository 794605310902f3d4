#include "client/core/session.h"

#include <algorithm>

#include "client/core/decode.h"
#include "client/core/mds_codec.h"
#include "common/logging/log.h"

namespace cairn::client {

namespace {
// One attempt. Silence is noticed sooner (RpcClient::Options::silenceTimeout); this bounds a peer
// that answers others but not us.
constexpr Duration kAttemptTimeout = 15s;
constexpr Duration kReclaimTimeout = 5s;
constexpr size_t kReclaimBatch = 60'000;  // inodes in one message
constexpr size_t kLockBatch = 8'000;      // locks; both together stay below its limit
constexpr Duration kEndTimeout = 3s;
// A garbled answer breaks the connection and is asked for again, but not for ever.
constexpr int kMaxGarbled = 5;

bool worthRepeating(const Error& error, int& garbled) {
  if (error.retryable()) return true;
  // Its end is shutting down, not ours: the caller checks `stop`.
  if (error.code == Errc::kCanceled) return true;
  return error.code == Errc::kBadMessage && ++garbled <= kMaxGarbled;
}

// Answers that say that nothing was done.
bool refused(const Error& error) {
  return error.code == Errc::kNotLeader || error.code == Errc::kBusyTryLater ||
         error.code == Errc::kSessionExpired;
}
}  // namespace

Session::Session(Env& env, const Options& options, MountInfo info, Event& stop, Hooks hooks)
    : env_(env),
      options_(options),
      info_(std::move(info)),
      stop_(stop),
      hooks_(std::move(hooks)),
      renewing_(env.reactor) {
  for (const Endpoint& e : options_.mds) {
    RpcClient::Options o;
    o.to = e;
    o.self.role = schema::Hello::Role::CLIENT;
    o.onPush = [this](const InMessage& message) {
      auto push = message.body<schema::MdsPush>();
      if (push.isMapChanged()) hooks_.onMapChanged(MapEpoch{push.getMapChanged()});
      if (push.isRecall()) {
        auto recall = push.getRecall();
        hooks_.onRecall(InodeId{recall.getIno()}, recall.getSerial(), recall.getToRead());
      }
      if (push.isAccessed()) {
        std::vector<InodeId> inodes;
        for (uint64_t ino : push.getAccessed()) inodes.emplace_back(ino);
        hooks_.onAccessed(std::move(inodes));
      }
      if (push.isLockGranted())
        hooks_.onLockGranted(push.getLockGranted().getId(), push.getLockGranted().getSerial());
      if (push.isLockProbe())
        hooks_.onLockProbe(InodeId{push.getLockProbe().getIno()}, push.getLockProbe().getSerial());
    };
    o.onConnect = [this](RpcClient& client) { return reclaim(client); };
    members_.push_back(std::make_unique<RpcClient>(env_, std::move(o)));
  }
}

Task<Result<void>> Session::reclaim(RpcClient& client) {
  ++connections_;
  if (client.peerIdentity().cluster) cluster_ = client.peerIdentity().cluster;
  if (!id_) co_return Result<void>{};
  const Holdings held = hooks_.holdings();
  const size_t all = held.open.size() + held.read.size() + held.write.size();
  size_t told = 0, locksTold = 0;
  do {
    OutMessage message;
    auto request = message.body<schema::MdsRequest>();
    request.setSession(id_.value);
    auto reclaim = request.initReclaim();
    // The part of each list that lies in [told, end) when they are put in a row.
    const size_t end = std::min(all, told + kReclaimBatch);
    size_t at = 0;
    auto part = [&](const std::vector<InodeId>& list, auto init) {
      const size_t from = std::clamp(told, at, at + list.size()) - at;
      const size_t to = std::clamp(end, at, at + list.size()) - at;
      at += list.size();
      auto out = init(static_cast<uint32_t>(to - from));
      for (size_t i = from; i < to; ++i) out.set(static_cast<uint32_t>(i - from), list[i].value);
    };
    part(held.open, [&](uint32_t n) { return reclaim.initOpen(n); });
    part(held.read, [&](uint32_t n) { return reclaim.initRead(n); });
    part(held.write, [&](uint32_t n) { return reclaim.initWrite(n); });
    // Locks take more room: they come by fewer, with the last inodes and behind them.
    const size_t locks = end < all ? 0 : std::min(kLockBatch, held.locks.size() - locksTold);
    auto list = reclaim.initLocks(static_cast<uint32_t>(locks));
    for (uint32_t i = 0; i < locks; ++i) writeLock(held.locks[locksTold++], list[i]);
    reclaim.setLast(end == all && locksTold == held.locks.size());
    reclaim.setLeases(true);
    auto reply = co_await client.callNow(std::move(message), kReclaimTimeout);
    CO_TRY(reply);
    told = end;
  } while (told < all || locksTold < held.locks.size());
  co_return Result<void>{};
}

Task<Result<InMessage>> Session::attempt(const Fill& fill, SessionId session, uint64_t seq,
                                         Duration timeout) {
  size_t asked = current_;
  OutMessage message;
  auto request = message.body<schema::MdsRequest>();
  request.setSession(session.value);
  request.setSeq(seq);
  request.setAckedBelow(unanswered_.empty() ? nextSeq_ : *unanswered_.begin());
  fill(request);
  const TimePoint sentAt = env_.reactor.now();
  auto reply = co_await members_[asked]->call(std::move(message), timeout);
  if (reply && session && session == id_) {
    auto barrier = decode(*reply, [](const InMessage& m) -> Result<uint64_t> {
      return m.body<schema::MdsReply>().getBarrier();
    });
    if (barrier && *barrier != 0) hooks_.onBarrier(MapEpoch{*barrier});
    hooks_.onAnswered(sentAt);
  }
  if (!reply) {
    // The request may still be on its way: over the connection that replaces this one it cannot be
    // overtaken by its own repetition (see Hello.peer in rpc.capnp).
    if (reply.error().code == Errc::kTimeout) members_[asked]->disconnect();
    Errc code = reply.error().code;
    if ((reply.error().retryable() && code != Errc::kBusyTryLater) || code == Errc::kCanceled) {
      if (asked == current_ && members_.size() > 1) current_ = (asked + 1) % members_.size();
    }
  }
  co_return reply;
}

Task<Result<InMessage>> Session::query(Fill fill) {
  return query(std::move(fill), [] { return false; }, nullptr);
}

Task<Result<InMessage>> Session::query(Fill fill, std::function<bool()> givenUp, Event* early) {
  Retry retry(env_, stop_, options_.requestTimeout, "mds");
  int garbled = 0;
  while (!stop_.isSet()) {
    SessionId session = id_;
    if (!session) {
      CO_TRY(co_await renew(session, options_.requestTimeout));
      continue;
    }
    auto reply = co_await attempt(fill, session, 0, retry.limit(kAttemptTimeout));
    if (reply) co_return reply;
    if (reply.error().code == Errc::kSessionExpired) {
      CO_TRY(co_await renew(session, options_.requestTimeout));
    } else if (!worthRepeating(reply.error(), garbled)) {
      co_return reply;
    }
    if (givenUp()) co_return reply;
    CO_TRY(co_await retry.pause(reply.error(), early));
    if (givenUp()) co_return reply;
  }
  co_return fail(Errc::kCanceled, "unmounting");
}

Task<Result<InMessage>> Session::mutate(Fill fill, Repeat repeat) {
  Retry retry(env_, stop_, options_.requestTimeout, "mds");
  int garbled = 0;
  SessionId session;  // in which `seq` counts
  uint64_t seq = 0;
  bool mayHaveHappened = false;
  Result<InMessage> outcome = fail(Errc::kCanceled, "unmounting");
  while (!stop_.isSet()) {
    if (!id_) {
      if (auto r = co_await renew(id_, options_.requestTimeout); !r) {
        outcome = fail(r.error());
        break;
      }
      continue;
    }
    if (session != id_) {
      if (mayHaveHappened && repeat == Repeat::kNever) {
        outcome = fail(Errc::kIo, "the session expired: whether this was done is unknown");
        break;
      }
      session = id_;
      seq = nextSeq_++;
      unanswered_.insert(seq);
    }
    outcome = co_await attempt(fill, session, seq, retry.limit(kAttemptTimeout));
    if (outcome) break;
    Error why = outcome.error();
    if (!refused(why)) mayHaveHappened = true;
    if (why.code == Errc::kSessionExpired) {
      if (auto r = co_await renew(session, options_.requestTimeout); !r) {
        outcome = fail(r.error());
        break;
      }
    } else if (!worthRepeating(why, garbled)) {
      break;
    }
    if (auto r = co_await retry.pause(why); !r) {
      outcome = fail(r.error());
      break;
    }
  }
  settle(session, seq);
  co_return outcome;
}

void Session::settle(SessionId session, uint64_t seq) {
  if (session == id_) unanswered_.erase(seq);
}

void Session::identify(SessionId id) {
  id_ = id;
  nextSeq_ = 1;
  unanswered_.clear();
  for (auto& m : members_) {
    m->setIdentity({schema::Hello::Role::CLIENT, cluster_, id.value});
    m->disconnect();
  }
}

Task<Result<void>> Session::open(Duration patience) {
  return renew(SessionId{}, patience);
}

Task<Result<void>> Session::renew(SessionId expired, Duration patience) {
  auto lock = co_await renewing_.lock();
  if (id_ && id_ != expired) co_return Result<void>{};  // another operation did it
  if (stop_.isSet()) co_return fail(Errc::kCanceled, "unmounting");
  if (id_) {
    env_.log.warning("session expired", {{"session", id_.value}});
    identify(SessionId{});
    hooks_.onExpired();
  }
  co_return co_await openNew(patience);
}

Task<Result<void>> Session::openNew(Duration patience) {
  Retry retry(env_, stop_, patience, "mds");
  int garbled = 0;
  // Not protected by a sequence number: should an answer be lost, the MDS is left with a session
  // that nobody uses, and ends it.
  Fill fill = [this](schema::MdsRequest::Builder request) {
    auto open = request.initMutate().initSessionOpen();
    open.setMount(info_.mountPoint);
    open.setHost(info_.host);
    open.setPid(info_.pid);
    open.setLeases(true);
  };
  while (!stop_.isSet()) {
    auto reply = co_await attempt(fill, SessionId{}, 0, retry.limit(kAttemptTimeout));
    if (reply) {
      auto id = decode(*reply, [](const InMessage& m) -> Result<uint64_t> {
        auto body = m.body<schema::MdsReply>();
        if (!body.isId() || body.getId() == 0) return fail(Errc::kBadMessage, "no session id");
        return body.getId();
      });
      CO_TRY(id);
      identify(SessionId{*id});
      hooks_.onOpened(id_);
      co_return Result<void>{};
    }
    if (!worthRepeating(reply.error(), garbled)) co_return fail(reply.error());
    CO_TRY(co_await retry.pause(reply.error()));
  }
  co_return fail(Errc::kCanceled, "unmounting");
}

Task<void> Session::end() {
  if (!id_ || stop_.isSet()) co_return;
  Fill fill = [](schema::MdsRequest::Builder request) { request.setSessionClose(); };
  (void)co_await attempt(fill, id_, 0, kEndTimeout);
}

Task<void> Session::close() {
  for (auto& m : members_) co_await m->close();
}

}  // namespace cairn::client
