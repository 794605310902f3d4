// Bytes of chunks, at the primary OSD of their placement group. Every payload travels with the
// checksums of its blocks; a damaged one is sent or asked for again.
//
// Failures that may pass (no connection, a stale map, no lease, a primary that is down) are waited
// out and repeated with the same bytes. That is safe because the caller never has two overlapping
// mutations of one chunk in flight, and because an older connection is drained before its successor
// is served. What comes back as an error is final: kNoSpace, kIo, kCorrupt (stored bytes do not
// match their checksum), kCanceled when stopping.
//
// A mutation that completed is durable on every in-sync copy. One reactor thread.
#pragma once

#include <functional>
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

  // At most kPieceSize, whole blocks; exactly `length` bytes. A hole costs no memory.
  Task<Result<Buffer>> read(ChunkAddr at, uint32_t offset, uint32_t length);
  // At most kPieceSize, any bytes. `data` does not change until it completes.
  Task<Result<void>> write(ChunkAddr at, uint32_t offset, Buffer data);
  Task<Result<void>> zero(ChunkAddr at, uint32_t offset, uint32_t length);
  Task<Result<void>> allocate(ChunkAddr at, uint32_t offset, uint32_t length);
  Task<Result<ChunkExtents>> extents(ChunkAddr at, uint32_t offset);

  // Shared zeros, read-only, at most kPieceSize.
  [[nodiscard]] Buffer zeros(size_t length) const { return zeros_.slice(0, length); }

 private:
  // Writes the request's union; called once for each attempt.
  using Fill = std::function<void(schema::OsdRequest::Builder)>;
  // Judges an answer: kCorrupt means that it was damaged on the way.
  using Check = std::function<Result<void>(const InMessage&)>;
  Task<Result<void>> ask(ChunkAddr at, Fill fill, Buffer payload, Check take);
  Task<Result<InMessage>> attempt(const ClusterMap& map, ChunkAddr at, const Fill& fill,
                                  const Buffer& payload, Duration timeout);
  Env& env_;
  const Options& options_;
  MapCache& maps_;
  OsdLinks& links_;
  Event& stop_;
  Buffer zeros_;
};

}  // namespace cairn::client
