// Bytes of chunks, at the primary OSD of their placement group. Every payload travels with the
// checksums of its blocks; a damaged one is sent or asked for again.
//
// Failures that may pass (no connection, a stale map, no lease, a primary that is down) are waited
// out and repeated with the same bytes. That is safe because the caller never has two overlapping
// mutations of one chunk in flight, and because an older connection is drained before its successor
// is served. What comes back as an error is final: kNoSpace, kIo, kCorrupt (stored bytes do not
// match their checksum), kSessionExpired, kCanceled when stopping.
//
// Every request names the session and the map epoch that OSDs must have before they serve it
// (LEASES.md, "Clients that are silent"). A mutation belongs to one session, under whose leases its
// bytes were accepted, and is never sent in another: somebody else may have written there since.
// When that session is over, as an OSD or our own owner says, it fails with kSessionExpired; the
// MDS has been asked by then, so that the session's end is known to all of this client. Reads just
// go on in the next session. While none is open everything waits.
//
// A mutation that completed is durable on every in-sync copy. One reactor thread.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "client/core/map_cache.h"
#include "client/core/osd_links.h"
#include "common/schema/osd.capnp.h"

namespace cairn::client {

struct ChunkAddr {
  ChunkId chunk;
  PoolId pool;
  bool operator==(const ChunkAddr&) const = default;
};

// Where a chunk has data: ascending (offset, length), complete from the offset asked to `end`.
struct ChunkExtents {
  std::vector<std::pair<uint32_t, uint32_t>> data;
  uint32_t end = 0;
};

// The unit in which data travels and is cached; divides the chunk.
inline constexpr uint64_t kPieceSize = kMiB;

class ChunkIo {
 public:
  ChunkIo(Env& env, const Options& options, MapCache& maps, OsdLinks& links, Event& stop);
  ChunkIo(const ChunkIo&) = delete;
  ChunkIo& operator=(const ChunkIo&) = delete;

  // In whose name requests go out from now on.
  void sessionOpened(SessionId session);
  void sessionLost() { session_.reset(); }
  // A reply of the MDS said so (MdsReply.barrier).
  void raiseBarrier(MapEpoch barrier) { barrier_ = std::max(barrier_, barrier); }
  // The one that is open; none between two.
  [[nodiscard]] SessionId session() const { return session_.value_or(SessionId{}); }

  // At most kPieceSize, whole blocks; exactly `length` bytes. A hole costs no memory.
  Task<Result<Buffer>> read(ChunkAddr at, uint32_t offset, uint32_t length);
  // At most kMaxIoBytes, any bytes, of which all parts but the last end with a block. They do not
  // change until it completes. Mutations belong to `session`, or to the one that is open if none is
  // given.
  Task<Result<void>> write(ChunkAddr at, uint32_t offset, std::vector<Buffer> parts,
                           SessionId session = {});
  Task<Result<void>> zero(ChunkAddr at, uint32_t offset, uint32_t length, SessionId session = {});
  Task<Result<void>> allocate(ChunkAddr at, uint32_t offset, uint32_t length,
                              SessionId session = {});
  // Makes the blocks of `target` read as those of `source` at the same place, without moving them.
  // Both are in one group. kStale: one of them was removed, or nothing was ever written to
  // `source`; kNotSupported: the OSD cannot.
  Task<Result<void>> clone(ChunkAddr source, ChunkAddr target, uint32_t offset, uint32_t length,
                           SessionId session = {});
  [[nodiscard]] bool sameGroup(ChunkAddr a, ChunkAddr b) const;
  Task<Result<ChunkExtents>> extents(ChunkAddr at, uint32_t offset);

  // Little room is left in the pool: what is written there is stored before write(2) returns, so
  // that it is told when there is none.
  [[nodiscard]] bool nearlyFull(PoolId pool) const;

  // Shared zeros, read-only, at most kPieceSize.
  [[nodiscard]] Buffer zeros(size_t length) const { return zeros_.slice(0, length); }

 private:
  // `until` is one of those below.
  void noteFull(PoolId pool, std::map<PoolId, TimePoint>& until, const char* what);
  // Writes the request's union; called once for each attempt.
  using Fill = std::function<void(schema::OsdRequest::Builder)>;
  // Judges an answer: kCorrupt means that it was damaged on the way.
  using Check = std::function<Result<void>(const InMessage&)>;
  enum class Kind : uint8_t { kQuery, kMutation };
  Task<Result<void>> ask(Kind kind, SessionId session, ChunkAddr at, Fill fill,
                         std::vector<Buffer> payload, Check take);
  Task<Result<InMessage>> attempt(const ClusterMap& map, ChunkAddr at, const Fill& fill,
                                  const std::vector<Buffer>& payload, Duration timeout);
  Env& env_;
  const Options& options_;
  MapCache& maps_;
  OsdLinks& links_;
  Event& stop_;
  // Before the first one it is session 0, which no OSD refuses.
  std::optional<SessionId> session_ = SessionId{};
  MapEpoch barrier_;
  std::map<PoolId, TimePoint> scarceUntil_, noneUntil_;  // little room, no room: an OSD said so
  Buffer zeros_;
};

}  // namespace cairn::client
