#include "client/core/chunk_io.h"

#include "client/core/decode.h"
#include "common/crc/crc32c.h"
#include "common/logging/log.h"

namespace cairn::client {

namespace {
constexpr Duration kAttemptTimeout = 10s;
// Bytes that arrive damaged over and over are not an accident of the wire.
constexpr int kMaxDamaged = 5;

// An OSD has said that a pool is nearly full. Until then the MDS has heard of it, too.
constexpr Duration kFullFor = 10s;

Result<void> anyAnswer(const InMessage&) {
  return {};
}
}  // namespace

ChunkIo::ChunkIo(Env& env, const Options& options, MapCache& maps, OsdLinks& links, Event& stop)
    : env_(env),
      options_(options),
      maps_(maps),
      links_(links),
      stop_(stop),
      zeros_(env.buffers.zeroed(kPieceSize)) {}

void ChunkIo::sessionOpened(SessionId session) {
  session_ = session;
  maps_.news().fire();  // whoever waits for a session looks again
}

bool ChunkIo::nearlyFull(PoolId pool) const {
  const auto said = [&](const std::map<PoolId, TimePoint>& until) {
    auto it = until.find(pool);
    return it != until.end() && env_.reactor.now() < it->second;
  };
  return maps_.nearlyFull(pool) || said(scarceUntil_) || said(noneUntil_);
}

void ChunkIo::noteFull(PoolId pool, std::map<PoolId, TimePoint>& until, const char* what) {
  const TimePoint now = env_.reactor.now();
  if (now >= until[pool]) env_.log.warning(what, {{"pool", pool.value}});
  until[pool] = now + kFullFor;
}

Task<Result<InMessage>> ChunkIo::attempt(const ClusterMap& map, ChunkAddr at, const Fill& fill,
                                         const std::vector<Buffer>& payload, Duration timeout) {
  const Pool* pool = map.pool(at.pool);
  if (pool == nullptr)
    co_return fail(Errc::kUnavailable, "pool " + std::to_string(at.pool.value) +
                                           " is not in the map of epoch " +
                                           std::to_string(map.epoch.value));
  PgIndex pg = pool->pgOf(at.chunk);
  auto group = map.group(at.pool, pg);
  if (!group) co_return fail(Errc::kUnavailable, group.error().message);
  const OsdEntry* primary = (*group)->osds.empty() ? nullptr : map.osd((*group)->osds.front());
  if (primary == nullptr || !primary->up)
    co_return fail(Errc::kUnavailable, "no primary is up for placement group " +
                                           std::to_string(pg.value) + " of pool " + pool->name);
  auto link = links_.to(*primary);
  CO_TRY(link);
  OutMessage message;
  auto request = message.body<schema::OsdRequest>();
  request.setPool(at.pool.value);
  request.setPg(pg.value);
  request.setPgEpoch((*group)->epoch.value);
  request.setSession(session().value);
  request.setMapEpoch(barrier_.value);
  fill(request);
  for (const Buffer& part : payload) message.addPayload(part);
  auto reply = co_await (*link)->call(std::move(message), timeout);
  // Late requests die with their connection, see rpc.capnp.
  if (!reply && reply.error().code == Errc::kTimeout) (*link)->disconnect();
  co_return reply;
}

Task<Result<void>> ChunkIo::ask(Kind kind, SessionId session, ChunkAddr at, Fill fill,
                                std::vector<Buffer> payload, Check take) {
  Retry retry(env_, stop_, options_.requestTimeout, "osd");
  int damaged = 0;
  // The only one in which it may be sent.
  std::optional<SessionId> only;
  if (kind == Kind::kMutation) only = session ? session : session_;
  while (!stop_.isSet()) {
    if (only && session_ != only)
      co_return fail(Errc::kSessionExpired, "session " + std::to_string(only->value) +
                                                " is over: what was not sent is lost");
    if (!session_) {
      CO_TRY(co_await retry.pause(Error(Errc::kUnavailable, "no session is open"),
                                  &maps_.news().event()));
      continue;
    }
    const SessionId asked = *session_;
    if (kind == Kind::kMutation) only = asked;
    std::shared_ptr<const ClusterMap> map = maps_.map();
    auto reply = co_await attempt(*map, at, fill, payload, retry.limit(kAttemptTimeout));
    Error why;
    if (reply) {
      auto taken = decode(*reply, [&](const InMessage& answer) {
        if (kind == Kind::kMutation && answer.body<schema::OsdReply>().getNearlyFull())
          noteFull(at.pool, scarceUntil_, "a pool is nearly full: what is written is not buffered");
        return take(answer);
      });
      if (taken) co_return taken;
      why = taken.error();
    } else {
      why = reply.error();
      // An OSD that finds stored bytes damaged says so about a read; about a write it may mean what
      // it received.
      if (why.code == Errc::kCorrupt && payload.empty()) co_return fail(std::move(why));
    }
    if (why.code == Errc::kCorrupt || why.code == Errc::kBadMessage) {
      if (++damaged >= kMaxDamaged) co_return fail(std::move(why));
    } else if (why.code == Errc::kStaleEpoch) {
      CO_TRY(co_await maps_.refresh());
      if (maps_.map() != map) continue;
    } else if (why.code == Errc::kSessionExpired) {
      // When the MDS has answered, the next session is open.
      CO_TRY(co_await maps_.refresh());
      if (only) co_return fail(std::move(why));
      if (session_ != asked) continue;
    } else if (why.retryable() || why.code == Errc::kCanceled) {
      // Perhaps the group has another primary by now; the answer also tells an expired session.
      maps_.poke();
      if (maps_.map() != map) continue;
    } else {
      // Full disks and removed chunks are of the day; the rest should not be.
      if (why.code == Errc::kNoSpace)
        noteFull(at.pool, noneUntil_, "a pool is full");
      else if (why.code != Errc::kStale)
        env_.log.warning("an OSD refuses a request",
                         {{"chunk", at.chunk.value}, {"reason", why.text()}});
      co_return fail(std::move(why));
    }
    CO_TRY(co_await retry.pause(std::move(why), &maps_.news().event()));
  }
  co_return fail(Errc::kCanceled, "unmounting");
}

Task<Result<Buffer>> ChunkIo::read(ChunkAddr at, uint32_t offset, uint32_t length) {
  CAIRN_ASSERT(offset % kBlockSize == 0 && length % kBlockSize == 0 && length <= kPieceSize,
               "reads are whole blocks of at most one piece");
  Buffer got;
  Fill fill = [&](schema::OsdRequest::Builder request) {
    auto read = request.initRead();
    read.setChunk(at.chunk.value);
    read.setOffset(offset);
    read.setLength(length);
  };
  Check take = [&](const InMessage& reply) -> Result<void> {
    auto body = reply.body<schema::OsdReply>();
    if (!body.isRead()) return fail(Errc::kBadMessage, "not an answer to a read");
    auto data = body.getRead();
    if (data.getHole()) {
      got = zeros(length);
      return {};
    }
    auto crcs = data.getCrcs();
    if (reply.payload().size() != length ||
        !blockCrcsMatch(offset, reply.payload().bytes(), {crcs.begin(), crcs.size()}))
      return fail(Errc::kCorrupt,
                  "data of chunk " + std::to_string(at.chunk.value) + " arrived damaged");
    got = reply.payload();
    return {};
  };
  CO_TRY(co_await ask(Kind::kQuery, {}, at, std::move(fill), {}, std::move(take)));
  co_return got;
}

Task<Result<void>> ChunkIo::write(ChunkAddr at, uint32_t offset, std::vector<Buffer> parts,
                                  SessionId session) {
  std::vector<uint32_t> crcs;
  uint32_t length = 0;
  for (const Buffer& part : parts) {
    CAIRN_ASSERT(length == 0 || (offset + length) % kBlockSize == 0,
                 "a block does not lie in two parts");
    const auto ofPart = blockCrcs(offset + length, part.bytes());
    crcs.insert(crcs.end(), ofPart.begin(), ofPart.end());
    length += static_cast<uint32_t>(part.size());
  }
  CAIRN_ASSERT(length != 0 && length <= kMaxIoBytes && offset + length <= kChunkSize,
               "a write lies inside its chunk and fits a message");
  Bytes wire = crcBytes(crcs);
  Fill fill = [&](schema::OsdRequest::Builder request) {
    auto write = request.initWrite();
    write.setChunk(at.chunk.value);
    write.setOffset(offset);
    write.setLength(length);
    write.setCrcs({wire.data(), wire.size()});
  };
  co_return co_await ask(Kind::kMutation, session, at, std::move(fill), std::move(parts),
                         anyAnswer);
}

Task<Result<void>> ChunkIo::zero(ChunkAddr at, uint32_t offset, uint32_t length,
                                 SessionId session) {
  Fill fill = [=](schema::OsdRequest::Builder request) {
    auto zero = request.initZero();
    zero.setChunk(at.chunk.value);
    zero.setOffset(offset);
    zero.setLength(length);
  };
  return ask(Kind::kMutation, session, at, std::move(fill), {}, anyAnswer);
}

Task<Result<void>> ChunkIo::allocate(ChunkAddr at, uint32_t offset, uint32_t length,
                                     SessionId session) {
  Fill fill = [=](schema::OsdRequest::Builder request) {
    auto allocate = request.initAllocate();
    allocate.setChunk(at.chunk.value);
    allocate.setOffset(offset);
    allocate.setLength(length);
  };
  return ask(Kind::kMutation, session, at, std::move(fill), {}, anyAnswer);
}

Task<Result<void>> ChunkIo::clone(ChunkAddr source, ChunkAddr target, uint32_t offset,
                                  uint32_t length, SessionId session) {
  CAIRN_ASSERT(sameGroup(source, target), "an OSD shares blocks only within a group");
  Fill fill = [=](schema::OsdRequest::Builder request) {
    auto clone = request.initClone();
    clone.setSource(source.chunk.value);
    clone.setSourceOffset(offset);
    clone.setTarget(target.chunk.value);
    clone.setTargetOffset(offset);
    clone.setLength(length);
  };
  return ask(Kind::kMutation, session, target, std::move(fill), {}, anyAnswer);
}

bool ChunkIo::sameGroup(ChunkAddr a, ChunkAddr b) const {
  if (a.pool != b.pool) return false;
  const Pool* pool = maps_.map()->pool(a.pool);
  return pool != nullptr && pool->pgOf(a.chunk) == pool->pgOf(b.chunk);
}

Task<Result<ChunkExtents>> ChunkIo::extents(ChunkAddr at, uint32_t offset) {
  ChunkExtents out;
  Fill fill = [&](schema::OsdRequest::Builder request) {
    auto extents = request.initExtents();
    extents.setChunk(at.chunk.value);
    extents.setOffset(offset);
  };
  Check take = [&](const InMessage& reply) -> Result<void> {
    auto body = reply.body<schema::OsdReply>();
    if (!body.isExtents()) return fail(Errc::kBadMessage, "not an answer to extents");
    out.data.clear();
    for (auto r : body.getExtents().getData()) {
      if (r.getOffset() > kChunkSize || r.getLength() > kChunkSize - r.getOffset())
        return fail(Errc::kBadMessage, "an extent beyond its chunk");
      out.data.emplace_back(r.getOffset(), r.getLength());
    }
    out.end = body.getExtents().getEnd();
    if (out.end <= offset || out.end > kChunkSize)
      return fail(Errc::kBadMessage, "extents that lead nowhere");
    return {};
  };
  CO_TRY(co_await ask(Kind::kQuery, {}, at, std::move(fill), {}, std::move(take)));
  co_return out;
}

}  // namespace cairn::client
