// The offline checker: everything is read, nothing is changed. What is only in the log yet is
// applied in memory.
#include <algorithm>

#include "common/crc/crc32c.h"
#include "common/wal/ring_reader.h"
#include "osd/store/chunk_store.h"
#include "osd/store/history_check.h"

namespace cairn::osd {

namespace {

constexpr size_t kGroupsAtOnce = 16;  // so many groups are read at the same time
constexpr uint64_t kCacheBytes = 64 * kMiB;
constexpr uint64_t kProgressBlocks = 10 * kGiB / kBlockSize;
constexpr uint64_t kReportedBlocks = 1000;  // single lines; beyond, only the count

struct GroupToCheck {
  ChunkId chunk;
  uint32_t group;
  ExtentGroup map;
};

class Checker {
 public:
  using Report = std::function<void(const std::string&)>;
  Checker(Env& env, StoreFiles files, Report report)
      : env_(env),
        files_(std::move(files)),
        metadata_(std::move(files_.kv)),
        history_(metadata_),
        maps_(metadata_, history_, files_.superblock.dataBlocks, kCacheBytes),
        report_(std::move(report)) {}

  Task<Result<CheckResult>> run() {
    if (files_.damagedSuperblock) problem(files_.damagedSuperblock->message);
    if (auto loaded = history_.load(); !loaded) problem(loaded.error().message);
    CO_TRY(co_await replayLog());
    HistoryCheck history(metadata_, history_, [this](const std::string& what) { problem(what); });
    MapScanner scanner(
        metadata_, files_.superblock,
        [this](const std::string& what) {
          problem(what);
          return true;
        },
        [&history](ChunkId chunk, const ChunkHeader& header) { history.header(chunk, header); });
    for (bool more = true; more;) {
      std::vector<GroupToCheck> groups;
      auto next = scanner.next(kGroupsAtOnce,
                               [&groups](ChunkId chunk, uint32_t group, const ExtentGroup& map) {
                                 groups.push_back({chunk, group, map});
                               });
      if (!next) {  // LevelDB itself: what lies behind cannot be reached
        problem(next.error().message);
        break;
      }
      more = *next;
      std::vector<Task<void>> checks;
      for (const auto& group : groups) checks.push_back(checkGroup(group));
      co_await whenAll(env_.reactor, std::move(checks));
    }
    if (auto rest = history.rest(); !rest) problem(rest.error().message);
    result_.chunks = scanner.chunks();
    co_return result_;
  }

 private:
  void problem(const std::string& what) {
    ++result_.otherErrors;
    report_("error: " + what);
  }

  void badBlock(const GroupToCheck& group, uint32_t block, PhysBlock phys, const std::string& why) {
    if (++result_.badBlocks > kReportedBlocks) return;
    report_("bad block: chunk " + std::to_string(group.chunk.value) + " block " +
            std::to_string(group.group * kGroupBlocks + block) + " at offset " +
            std::to_string(files_.superblock.offsetOf(phys)) + " of " + files_.path + ": " + why);
  }

  Task<Result<void>> replayLog() {
    Replayer replayer(env_, files_.superblock, maps_, deferred_, files_.applied);
    uint64_t records = 0;
    auto ring = co_await wal::readRing(env_, files_.logFile(), files_.superblock.wal(),
                                       files_.superblock.store,
                                       [&replayer, &records](Lsn lsn, Bytes bytes) {
                                         ++records;
                                         return replayer.replay(lsn, bytes);
                                       });
    if (!ring) {
      if (ring.error().code == Errc::kCanceled) co_return fail(std::move(ring).error());
      problem(ring.error().message);
    } else {
      report_("log: " + std::to_string(records) + " records to replay");
      if (replayer.applied() != ring->lastLsn)
        problem("the metadata is at record " + std::to_string(replayer.applied()) +
                ", the log at " + std::to_string(ring->lastLsn));
    }
    co_return {};
  }

  Task<void> checkGroup(const GroupToCheck& group) {
    for (const auto& run : group.map.runs()) {
      if (!run.written) continue;
      Buffer data = env_.buffers.get(run.count * kBlockSize);
      const uint64_t offset = files_.superblock.offsetOf(run.phys);
      const bool whole = (co_await files_.file->read(data, offset)).has_value();
      for (uint32_t i = 0; i < run.count; ++i) {
        const uint32_t at = run.first + i;
        Buffer block = data.slice(i * kBlockSize, kBlockSize);
        // One unreadable sector must not hide its neighbours.
        Result<void> read;
        if (auto it = deferred_.find(run.phys + i);
            it != deferred_.end() && crc32c(it->second.data.bytes()) == group.map.crc(at))
          block = it->second.data;
        else if (!whole)
          read = co_await files_.file->read(block, offset + i * kBlockSize);
        if (!read)
          badBlock(group, at, run.phys + i, read.error().message);
        else if (crc32c(block.bytes()) != group.map.crc(at))
          badBlock(group, at, run.phys + i, "does not match its checksum");
        if (++result_.blocks % kProgressBlocks == 0)
          report_("checked " + std::to_string(result_.blocks * kBlockSize / kGiB) + " GiB");
      }
    }
  }

  Env& env_;
  StoreFiles files_;
  Metadata metadata_;
  History history_;
  ChunkMaps maps_;
  DeferredWrites::Map deferred_;
  Report report_;
  CheckResult result_;
};

}  // namespace

Task<Result<CheckResult>> checkStore(Env& env, StoreOptions options,
                                     std::function<void(const std::string&)> report) {
  auto files = co_await openStoreFiles(env, std::move(options), false);
  CO_TRY(files);
  Checker checker(env, std::move(*files), std::move(report));
  co_return co_await checker.run();
}

}  // namespace cairn::osd
