#include "common/sim/sim_connection.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

namespace {
// A connection that was held up goes on with the sender's next retransmission.
constexpr Duration kRetransmit = 200ms;
}  // namespace

void Pipe::dropInFlight() {
  inFlight.clear();
  inFlightBytes = 0;
  ++generation;
}

void Pipe::dropUnread() {
  unread.clear();
  unreadBytes = 0;
  frontUsed = 0;
}

const std::string& Connection::hostOf(int i) const {
  return side[i].node->host();
}

bool Connection::passable(int from) const {
  return side[1 - from].node->machine().powered && !fabric.isCut(hostOf(from), hostOf(1 - from));
}

void Connection::send(int from, Segment segment) {
  Pipe& p = pipe[from];
  const size_t bytes = segment.bytes.size();
  p.inFlightBytes += bytes;
  p.inFlight.push_back(std::move(segment));
  if (!p.stalled) scheduleDelivery(from, bytes);
}

void Connection::scheduleDelivery(int from, size_t bytes) {
  Pipe& p = pipe[from];
  p.lastDelivery =
      std::max(p.lastDelivery, world.now() + fabric.transit(hostOf(from), hostOf(1 - from), bytes));
  world.scheduleAt(p.lastDelivery, [self = shared_from_this(), from, generation = p.generation] {
    if (generation == self->pipe[from].generation) self->deliver(from);
  });
}

void Connection::stall(int from) {
  Pipe& p = pipe[from];
  p.stalled = true;
  ++p.generation;
  const Duration patience = fabric.link(hostOf(from), hostOf(1 - from)).resetAfter;
  if (patience <= Duration::zero()) return;
  world.schedule(patience, [self = shared_from_this(), from, generation = p.generation] {
    Pipe& held = self->pipe[from];
    if (generation != held.generation || !held.stalled) return;
    held.dropInFlight();
    self->breakSide(from, Error(Errc::kUnavailable,
                                "connection to " + self->side[1 - from].name + " timed out"));
  });
}

void Connection::unstall(int from) {
  Pipe& p = pipe[from];
  if (!p.stalled || !passable(from)) return;
  p.stalled = false;
  ++p.generation;
  p.lastDelivery = world.now() + world.jittered(Duration::zero(), kRetransmit);
  for (const Segment& s : p.inFlight) scheduleDelivery(from, s.bytes.size());
}

void Connection::deliver(int from) {
  Pipe& p = pipe[from];
  if (p.inFlight.empty()) return;
  if (!passable(from)) {
    stall(from);
    return;
  }
  Segment segment = std::move(p.inFlight.front());
  p.inFlight.pop_front();
  p.inFlightBytes -= segment.bytes.size();
  world.trace(TraceKind::kSegment, side[from].node->id() << 32 | side[1 - from].node->id(),
              segment.bytes.size());
  const int to = 1 - from;
  if (side[to].broken) return;
  if (side[to].closed) {
    if (segment.kind == Segment::Kind::kData) sendReset(to);
    return;
  }
  switch (segment.kind) {
    case Segment::Kind::kData:
      p.unreadBytes += segment.bytes.size();
      p.unread.push_back(std::move(segment.bytes));
      break;
    case Segment::Kind::kEnd:
      p.end = true;
      break;
    case Segment::Kind::kReset:
      breakSide(to, Error(Errc::kUnavailable, "connection to " + side[from].name + " was reset"));
      return;
  }
  if (p.reader != nullptr) p.reader->end();
}

void Connection::breakSide(int i, Error error) {
  if (side[i].broken || side[i].closed) return;
  side[i].broken = error;
  pipe[1 - i].dropUnread();
  pipe[i].dropInFlight();
  if (SimOp* op = pipe[1 - i].reader) op->end(fail(error));
  if (SimOp* op = pipe[i].writer) op->end(fail(std::move(error)));
}

void Connection::sendReset(int from) {
  pipe[from].dropInFlight();
  send(from, {Segment::Kind::kReset, {}});
}

void Connection::close(int i) {
  if (side[i].closed) return;
  side[i].closed = true;
  pipe[1 - i].dropUnread();
  const Error error(Errc::kCanceled, "connection to " + side[1 - i].name + " was closed here");
  if (SimOp* op = pipe[1 - i].reader) op->end(fail(error));
  if (SimOp* op = pipe[i].writer) op->end(fail(error));
  if (!side[i].broken) send(i, {Segment::Kind::kEnd, {}});
}

// ---- SimStream ----

Result<void> SimStream::usable() const {
  const Side& s = c_->side[me_];
  if (!s.node->alive()) return fail(s.node->killedError());
  if (s.closed) return fail(Errc::kCanceled, "connection to " + peer() + " was closed here");
  if (s.broken) return fail(*s.broken);
  return {};
}

Task<Result<size_t>> SimStream::read(std::span<const iovec> parts) {
  Pipe& p = c_->pipe[1 - me_];
  CAIRN_ASSERT(p.reader == nullptr, "one reader at a time per stream");
  auto ready = [&] { return p.unreadBytes != 0 || p.end || !usable(); };
  do {
    SimOp op(node());
    if (ready()) op.end();  // still goes through the loop: completion is never inline
    p.reader = &op;
    Result<void> waited = co_await op;
    p.reader = nullptr;
    CO_TRY(std::move(waited));
  } while (!ready());
  CO_TRY(usable());
  if (p.unreadBytes == 0) co_return size_t{0};

  size_t room = 0;
  for (const iovec& v : parts) room += v.iov_len;
  CAIRN_ASSERT(room != 0, "a read has somewhere to put its bytes");
  size_t want = std::min(room, p.unreadBytes);
  // What recv(2) returns ends anywhere: make callers cope.
  Random& random = c_->world.random();
  if (random.below(4) == 0) want = 1 + random.below(want);
  size_t left = want;
  for (const iovec& v : parts) {
    auto* to = static_cast<uint8_t*>(v.iov_base);
    for (size_t space = std::min(v.iov_len, left); space != 0;) {
      const auto& front = p.unread.front();
      const size_t n = std::min(space, front.size() - p.frontUsed);
      std::memcpy(to, front.data() + p.frontUsed, n);
      to += n;
      space -= n;
      left -= n;
      p.frontUsed += n;
      if (p.frontUsed == front.size()) {
        p.unread.pop_front();
        p.frontUsed = 0;
      }
    }
  }
  p.unreadBytes -= want;
  if (p.writer != nullptr) p.writer->end();
  co_return want;
}

Task<Result<void>> SimStream::write(std::span<const iovec> parts) {
  Pipe& p = c_->pipe[me_];
  CAIRN_ASSERT(p.writer == nullptr, "one writer at a time per stream");
  const size_t capacity = c_->world.options().pipeBytes;
  size_t left = 0;
  for (const iovec& v : parts) left += v.iov_len;
  size_t part = 0;
  size_t used = 0;  // of parts[part]
  do {
    SimOp op(node());
    if (p.heldBytes() < capacity || !usable()) op.end();
    p.writer = &op;
    Result<void> waited = co_await op;
    p.writer = nullptr;
    CO_TRY(std::move(waited));
    CO_TRY(usable());
    const size_t room = capacity - std::min(capacity, p.heldBytes());
    size_t n = std::min(left, room);
    if (n == 0) continue;
    Segment segment;
    segment.bytes.reserve(n);
    left -= n;
    while (n != 0) {
      const auto* from = static_cast<const uint8_t*>(parts[part].iov_base) + used;
      const size_t take = std::min(n, parts[part].iov_len - used);
      segment.bytes.insert(segment.bytes.end(), from, from + take);
      used += take;
      n -= take;
      if (used == parts[part].iov_len) {
        ++part;
        used = 0;
      }
    }
    c_->send(me_, std::move(segment));
  } while (left != 0);
  co_return Result<void>{};
}

void SimStream::shutdown() {
  c_->close(me_);
}

}  // namespace cairn::sim
