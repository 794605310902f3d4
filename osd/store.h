// The chunk store of one OSD: one raw block device or one large preallocated file, with its
// metadata in LevelDB beside it. Format and recovery: osd/FORMAT.md. One reactor thread.
//
// Contract
//   - A mutation that completed is durable: it survives a kill and power loss. One that did not is
//     there whole or not at all, block by block of 4 KiB, and is not visible before.
//   - Every 4 KiB block carries a CRC32C kept with its extent; read() verifies it and gives
//     kCorrupt rather than wrong bytes.
//   - kNoSpace comes before anything was changed. Overwrites, remove(), zero() and clone() work on
//   a
//     full store; but an overwrite of blocks that a clone shares needs space, as growth does.
//   - Mutations of overlapping ranges of one chunk must not run at once, nor a read with an
//     overlapping mutation: the caller locks (see osd/service). Everything else may.
//   - kIo and kCorrupt from the store's own metadata or log stop the store: every later mutation
//     fails with kIo. Reads go on.
//   - The Env outlives the store.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/base/uuid.h"
#include "common/disk/disk.h"
#include "common/reactor/task.h"

namespace cairn::osd {

struct StoreOptions {
  std::string directory;              // holds `block`, `log`, `meta/`, `ballast` (osd/FORMAT.md)
  std::optional<std::string> device;  // raw block device for log and data instead of `block` and
                                      // `log`; open() finds it by itself when it has not moved
  uint64_t sizeBytes = 0;             // of `block` and `log` together when they are created
  uint64_t walBytes = 256 * kMiB;     // when it is created; at least 4 MiB
  uint64_t cacheBytes = 256 * kMiB;   // of chunk maps kept in memory
  // Free space that growth may not use, at most an eighth of the store.
  uint64_t reserveBytes = 64 * kMiB;
};

struct Space {
  uint64_t totalBytes = 0;  // for data
  uint64_t usedBytes = 0;   // what is shared counts once
  uint64_t chunks = 0;
  // Little is left, of which all who write should know: a fiftieth of it, or 1 GiB if that is more
  // (of a small store, a quarter).
  bool nearlyFull = false;
};

// The placement group that a chunk belongs to, for ever.
struct GroupId {
  PoolId pool;
  PgIndex pg;
  constexpr auto operator<=>(const GroupId&) const = default;
};

// Where a mutation stands in the history of its group. Its number becomes the chunk's version, or
// the chunk keeps the one that it has, if that is greater.
struct Stamp {
  GroupId group;
  ChunkVersion version;
  // Every mutation of the group up to this number is durable on every OSD in sync. Recorded,
  // durable with the mutation, as the maximum of what was said; 0 says nothing.
  ChunkVersion committed;
};

// What the store knows of a group.
struct GroupState {
  ChunkVersion committed;
  ChunkVersion last;     // the greatest number of any mutation here
  ChunkVersion trimmed;  // removals up to this number may have been forgotten; at most `last`
};

// The last change of a chunk. A chunk that was removed keeps one, without a place or a block, until
// trimRemovals().
struct Changed {
  ChunkVersion version;
  ChunkId chunk;
  bool removed = false;
  constexpr auto operator<=>(const Changed&) const = default;
};

struct ChunkInfo {
  GroupId group;
  ChunkVersion version;
  uint32_t blocks = 0;  // that have a place: written or reserved
};

struct ReadData {
  ChunkVersion version;
  bool hole = false;           // nothing stored in the whole range: `data` and `crcs` are empty
  Buffer data;                 // the range, holes as zeros
  std::vector<uint32_t> crcs;  // one per block
};

struct ListedChunk {
  ChunkId id;
  ChunkInfo info;
};

class Store {
 public:
  virtual ~Store() = default;  // close() was called

  // Makes a new store for `cluster`, and its directory; on failure nothing is left behind. kExists
  // if the directory or the device holds one.
  static Task<Result<void>> create(Env& env, StoreOptions options, Uuid cluster);
  // Recovers and opens. kNotFound: no store here; kVersion: newer or older format; kBusy: in use by
  // a live daemon; kCorrupt.
  static Task<Result<std::unique_ptr<Store>>> open(Env& env, StoreOptions options);
  // Checkpoints and closes; nothing else runs on the store.
  virtual Task<void> close() = 0;

  [[nodiscard]] virtual Uuid uuid() const = 0;
  [[nodiscard]] virtual Uuid cluster() const = 0;
  // The id that the MDS gave; 0 until recorded. Durable when it completes.
  [[nodiscard]] virtual OsdId osdId() const = 0;
  virtual Task<Result<void>> recordOsdId(OsdId id) = 0;

  // Whether a nearly full store may write over what is stored of more than 512 KiB in parts, of
  // which a stop leaves the first ones; or says kNoSpace, also where the space that growth may not
  // use would have to be taken for what clones share.
  enum class InParts : uint8_t { kIfNeeded, kNever };
  // Stores whole blocks: `offset` and `data.size()` are multiples of 4 KiB, one CRC per block (the
  // caller has verified them). Makes the chunk if it does not exist, also if it was removed.
  // Mutations of one chunk name one group always: kInvalid otherwise.
  virtual Task<Result<void>> write(ChunkId chunk, uint32_t offset, Buffer data,
                                   std::vector<uint32_t> crcs, Stamp stamp,
                                   InParts inParts = InParts::kIfNeeded) = 0;
  // Whole blocks; they read as zeros afterwards and their space is free. If the chunk does not
  // exist, nothing happens, and nothing is recorded.
  virtual Task<Result<void>> zero(ChunkId chunk, uint32_t offset, uint32_t length, Stamp stamp) = 0;
  // Whole blocks; reserves space for the holes of the range, which read as zeros until written.
  virtual Task<Result<void>> allocate(ChunkId chunk, uint32_t offset, uint32_t length,
                                      Stamp stamp) = 0;
  // Chunk i of the list has number stamp.version + i. Recorded also of chunks that do not exist.
  virtual Task<Result<void>> remove(std::vector<ChunkId> chunks, Stamp stamp) = 0;
  // Whole blocks; makes the target range read as the source range does, without moving or storing
  // data: both name the same places from then on, until one of them is changed. Makes the target.
  // Reserved space of the source is none of the target's. kNotFound if the source chunk does not
  // exist. The two may be ranges of one chunk that do not overlap; kInvalid if they do. To the
  // caller's locks this is a read of the source and a mutation of the target.
  virtual Task<Result<void>> clone(ChunkId source, uint32_t sourceOffset, ChunkId target,
                                   uint32_t targetOffset, uint32_t length, Stamp stamp) = 0;

  // Whole blocks. A chunk that does not exist is all hole.
  virtual Task<Result<ReadData>> read(ChunkId chunk, uint32_t offset, uint32_t length) = 0;
  // Where data is, from `offset` on: merged (offset, length) pairs, at most `limit`; reserved but
  // unwritten blocks count as holes.
  virtual Result<std::vector<std::pair<uint32_t, uint32_t>>> extents(ChunkId chunk, uint32_t offset,
                                                                     size_t limit) = 0;
  // Whole blocks. True when no data is stored in the range, reserved or not. Costs what the range
  // holds, not what the chunk does.
  virtual Result<bool> isHole(ChunkId chunk, uint32_t offset, uint32_t length) = 0;
  virtual Result<std::optional<ChunkInfo>> stat(ChunkId chunk) = 0;
  virtual Result<std::vector<ListedChunk>> list(ChunkId after, size_t limit) = 0;

  // ---- The history of a placement group: one entry for each of its chunks, its last change ----

  // All zero when nothing is known of it.
  virtual Result<GroupState> groupState(GroupId group) = 0;
  // Ascending by (version, chunk): those behind `after`, at most `limit`. Costs what it returns,
  // not what the group holds.
  virtual Result<std::vector<Changed>> changes(GroupId group, Changed after, size_t limit) = 0;
  // The entry of a chunk; nothing if it never was, or was removed and that is forgotten.
  virtual Result<std::optional<Changed>> lastChange(ChunkId chunk) = 0;
  // Groups of which anything is known, ascending.
  virtual Result<std::vector<GroupId>> groups() = 0;
  // Forgets the removals up to `upTo`, also those that come with such a number later. When there is
  // much to go through it stops on the way, and GroupState.trimmed says where: call again. Need not
  // be durable when it completes; doing it twice is harmless.
  virtual Result<void> trimRemovals(GroupId group, ChunkVersion upTo) = 0;
  // Removes all chunks of the group and forgets everything about it. Durable when it completes; if
  // it fails or the process ends on the way, part of the chunks are gone, the rest stay as they
  // are, and the group's `committed` is 0. Nothing else runs on the group.
  virtual Task<Result<void>> dropGroup(GroupId group) = 0;

  [[nodiscard]] virtual Space space() const = 0;

  // Short texts that others keep here, by name. Written with the next checkpoint: what was put last
  // may be lost with the process. Empty when there is none.
  virtual Result<void> putNote(std::string_view name, std::string value) = 0;
  virtual Result<std::string> note(std::string_view name) = 0;
};

// The offline checker: reads the whole store of a stopped OSD and verifies superblock, log,
// metadata, every block's checksum, that no block is used twice (but where it is shared) or leaked,
// and that each group's history agrees with its chunks. Changes nothing.
// Progress and findings go to `report`, one line each.
struct CheckResult {
  uint64_t chunks = 0, blocks = 0, badBlocks = 0, otherErrors = 0;
  [[nodiscard]] bool clean() const { return badBlocks == 0 && otherErrors == 0; }
};
Task<Result<CheckResult>> checkStore(Env& env, StoreOptions options,
                                     std::function<void(const std::string&)> report);

}  // namespace cairn::osd
