// The Store on a File and a LevelDB: the object behind osd/store.h. Its parts:
//   - ChunkMaps: which block lies where, with its checksum; History: which change of each placement
//     group's chunks was the last; Metadata keeps both in LevelDB;
//   - Allocator and BlockGuard: which blocks are free, and when a freed one may be used again;
//     SharedPlaces: which have more names than one, so that a block which loses one is not free;
//   - RingLog: makes changes durable; DeferredWrites: data that is durable only there so far.
//
// A mutation plans (places, space), makes large data durable in fresh places, appends one record,
// and when that is durable applies it to the maps, in one step, in the order of the log. Nothing is
// visible before. A checkpoint brings places and LevelDB up to the log and trims it; it runs beside
// everything else.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/wal/ring_log.h"
#include "osd/store.h"
#include "osd/store/allocator.h"
#include "osd/store/block_guard.h"
#include "osd/store/chunk_maps.h"
#include "osd/store/deferred.h"
#include "osd/store/group_sync.h"
#include "osd/store/history.h"
#include "osd/store/metadata.h"
#include "osd/store/record.h"
#include "osd/store/shared_places.h"
#include "osd/store/superblock.h"

namespace cairn::osd {

// The opened files of a store; see store_files.cc.
struct StoreFiles {
  std::unique_ptr<File> record;  // `block`, when it only names a device; held for its lock
  std::unique_ptr<File> file;    // superblocks and data; on a device the log too
  std::unique_ptr<File> log;     // the log, when it is a file of its own
  std::string path;              // of `file`
  Superblock superblock;
  std::unique_ptr<Kv> kv;
  OsdId osdId;
  Lsn applied = 0;
  std::optional<Error> damagedSuperblock;  // one copy is bad, the other good

  [[nodiscard]] File& logFile() const { return log ? *log : *file; }
};
Task<Result<StoreFiles>> openStoreFiles(Env& env, StoreOptions options, bool writable);
inline std::string blockPath(const StoreOptions& o) {
  return o.directory + "/block";
}
inline std::string logPath(const StoreOptions& o) {
  return o.directory + "/log";
}
inline std::string metaPath(const StoreOptions& o) {
  return o.directory + "/meta";
}
inline std::string ballastPath(const StoreOptions& o) {
  return o.directory + "/ballast";
}

class ChunkStore final : public Store {
 public:
  ChunkStore(Env& env, StoreOptions options, StoreFiles files);

  // Replays the log and rebuilds the free space; see recovery.cc. On failure the object may only be
  // destroyed.
  Task<Result<void>> recover();

  Task<void> close() override;
  Uuid uuid() const override { return files_.superblock.store; }
  Uuid cluster() const override { return files_.superblock.cluster; }
  OsdId osdId() const override { return files_.osdId; }
  Task<Result<void>> recordOsdId(OsdId id) override;

  Task<Result<void>> write(ChunkId chunk, uint32_t offset, Buffer data, std::vector<uint32_t> crcs,
                           Stamp stamp, InParts inParts) override;
  Task<Result<void>> zero(ChunkId chunk, uint32_t offset, uint32_t length, Stamp stamp) override;
  Task<Result<void>> allocate(ChunkId chunk, uint32_t offset, uint32_t length,
                              Stamp stamp) override;
  Task<Result<void>> remove(std::vector<ChunkId> chunks, Stamp stamp) override;
  Task<Result<void>> clone(ChunkId source, uint32_t sourceOffset, ChunkId target,
                           uint32_t targetOffset, uint32_t length, Stamp stamp) override;

  Task<Result<ReadData>> read(ChunkId chunk, uint32_t offset, uint32_t length) override;
  Result<std::vector<std::pair<uint32_t, uint32_t>>> extents(ChunkId chunk, uint32_t offset,
                                                             size_t limit) override;
  Result<bool> isHole(ChunkId chunk, uint32_t offset, uint32_t length) override;
  Result<std::optional<ChunkInfo>> stat(ChunkId chunk) override;
  Result<std::vector<ListedChunk>> list(ChunkId after, size_t limit) override;
  Result<GroupState> groupState(GroupId group) override { return history_.state(group); }
  Result<std::vector<Changed>> changes(GroupId group, Changed after, size_t limit) override;
  Result<std::optional<Changed>> lastChange(ChunkId chunk) override;
  Result<std::vector<GroupId>> groups() override { return history_.groups(); }
  Result<void> trimRemovals(GroupId group, ChunkVersion upTo) override;
  Task<Result<void>> dropGroup(GroupId group) override;
  Space space() const override;
  Result<void> putNote(std::string_view name, std::string value) override;
  Result<std::string> note(std::string_view name) override;

 private:
  // What a write to [first, first+count) finds there.
  struct Occupancy {
    uint64_t holes = 0;
    uint64_t reserved = 0;
    uint64_t written = 0;
  };
  static Occupancy occupancy(const ChunkMap& chunk, uint32_t first, uint32_t count);
  // Which of the blocks have a place that others name too; empty: none. While the caller holds the
  // range only fewer can become shared.
  [[nodiscard]] std::vector<bool> sharedBlocks(const ChunkMap& chunk, uint32_t first,
                                               uint32_t count) const;

  // ---- Mutations (chunk_store_write.cc) ----
  [[nodiscard]] Result<void> alive() const;
  // The chunk with the groups of [first, first+count) loaded, for a mutation of `group`. kInvalid.
  Result<ChunkRef> openToChange(ChunkId chunk, uint32_t first, uint32_t count, GroupId group);
  // The store takes no more mutations, because of `error`, which this returns as the callers' own.
  std::unexpected<Error> stop(const Error& error, const std::string& what);
  Task<Result<void>> writeDirect(Record record, Buffer data, std::vector<PhysRun> fresh);
  Task<Result<void>> writeInline(Record record, Buffer data);
  // `blocks` free ones, near the end of what lies before `first`; of them `overwriting` will
  // replace written ones and may come out of the reserve. kNoSpace.
  Task<Result<std::vector<PhysRun>>> takeBlocks(const ChunkMap& chunk, uint32_t first,
                                                uint64_t blocks, uint64_t overwriting);
  Task<Result<void>> writeData(const std::vector<Piece>& pieces, Buffer data);
  Task<Result<void>> writePiece(Buffer data, uint64_t offset);
  // Appends and, when durable, applies.
  Task<Result<void>> commit(Record record, Buffer data);
  void forgetNames(const std::vector<PhysRun>& lost);
  void applyData(const Record& record, Lsn lsn, Buffer data);

  // ---- Reading (chunk_store_read.cc) ----
  struct DiskRun {
    uint32_t at;  // block of the answer
    uint32_t count;
    PhysBlock phys;
  };
  Task<Result<void>> readRun(const ReadData& out, DiskRun run, ChunkId chunk, uint32_t first);

  // ---- Recovery (recovery.cc) ----
  Task<Result<void>> finishRecovery();
  Result<void> scanMaps();

  // ---- Background ----
  void startFlush();
  Task<void> flush();
  void startCheckpoint();
  Task<void> runCheckpoints();
  Task<Result<void>> checkpoint();

  Env& env_;
  const StoreOptions options_;
  StoreFiles files_;  // but its kv, which metadata_ owns
  Metadata metadata_;
  History history_;
  ChunkMaps maps_;
  Allocator allocator_;
  BlockGuard guard_;
  SharedPlaces shared_;
  DeferredWrites deferred_;
  GroupSync dataSync_;
  Semaphore dataWrites_;
  std::unique_ptr<RingLog> log_;
  Lsn applied_ = 0;
  uint64_t reserveBlocks_ = 0;
  std::optional<Error> stopped_;
  bool flushing_ = false;
  bool checkpointing_ = false;
  bool closing_ = false;
  TaskScope background_;
};

// ---- Shared with the offline checker ----

// Applies the log's records to maps, history and deferred data as they were applied when they were
// written. Of records that the metadata already has (up to `applied`), only the data counts.
class Replayer {
 public:
  Replayer(Env& env, const Superblock& superblock, ChunkMaps& maps, DeferredWrites::Map& deferred,
           Lsn applied)
      : env_(env), superblock_(superblock), maps_(maps), deferred_(deferred), applied_(applied) {}
  Result<void> replay(Lsn lsn, Bytes bytes);
  // The newest record that maps have now.
  [[nodiscard]] Lsn applied() const { return applied_; }

 private:
  void drop(PhysRun run);
  Env& env_;
  const Superblock& superblock_;
  ChunkMaps& maps_;
  DeferredWrites::Map& deferred_;
  Lsn applied_;
};

// Goes through every entry of the chunks: headers against maps, and that no block is used twice
// but where all who name it say that it is shared.
class MapScanner {
 public:
  // Told of each problem; false ends the scan with kCorrupt.
  using Problem = std::function<bool(const std::string&)>;
  using Visit = std::function<void(ChunkId, uint32_t group, const ExtentGroup&)>;
  using VisitHeader = std::function<void(ChunkId, const ChunkHeader&)>;
  MapScanner(Metadata& metadata, const Superblock& superblock, Problem problem,
             VisitHeader visitHeader = {});

  // Goes on for about so many groups; false at the end. `visit` may be empty.
  Result<bool> next(size_t groups, const Visit& visit);
  [[nodiscard]] uint64_t chunks() const { return chunks_; }
  [[nodiscard]] uint64_t usedBlocks() const { return usedBlocks_; }
  // Gives what no map names.
  void addFree(Allocator& allocator) const;
  // What more than one block names. At the end.
  SharedPlaces takeShared();

 private:
  bool entry(std::string_view key, std::string_view value, const Visit& visit);
  void finishChunk();
  void report(const std::string& what);

  Metadata& metadata_;
  const Superblock& superblock_;
  Problem problem_;
  VisitHeader visitHeader_;
  std::string from_;
  std::optional<ChunkId> chunk_;  // the one whose groups are being counted
  uint32_t expected_ = 0, counted_ = 0;
  uint64_t chunks_ = 0;
  uint64_t usedBlocks_ = 0;
  std::vector<uint64_t> used_;  // one bit per data block
  SharedPlaces shared_;         // those that are flagged as shared, with all their names
  std::optional<std::string> fatal_;
};

}  // namespace cairn::osd
