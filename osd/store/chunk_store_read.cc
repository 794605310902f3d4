// Reading with verification.
#include <algorithm>

#include "common/crc/crc32c.h"
#include "osd/store/chunk_store.h"

namespace cairn::osd {

Task<Result<void>> ChunkStore::readRun(const ReadData& out, DiskRun run, ChunkId chunk,
                                       uint32_t first) {
  Buffer into = out.data.slice(run.at * kBlockSize, run.count * kBlockSize);
  const uint64_t offset = files_.superblock.offsetOf(run.phys);
  if (auto done = co_await files_.file->read(into, offset); !done) {
    // A sector that cannot be read is damage of what lies in it. What is written there anew the
    // disk puts somewhere else.
    if (done.error().code != Errc::kIo) co_return fail(done.error());
    co_return fail(Errc::kCorrupt, "blocks " + std::to_string(first + run.at) + " to " +
                                       std::to_string(first + run.at + run.count - 1) +
                                       " of chunk " + std::to_string(chunk.value) +
                                       " cannot be read: " + done.error().message);
  }
  for (uint32_t i = 0; i < run.count; ++i) {
    if (crc32c(into.bytes().subspan(i * kBlockSize, kBlockSize)) == out.crcs[run.at + i]) continue;
    co_return fail(Errc::kCorrupt, "block " + std::to_string(first + run.at + i) + " of chunk " +
                                       std::to_string(chunk.value) + ", at offset " +
                                       std::to_string(offset + i * kBlockSize) + " of " +
                                       files_.path + ", does not match its checksum");
  }
  co_return {};
}

Task<Result<ReadData>> ChunkStore::read(ChunkId chunk, uint32_t offset, uint32_t length) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0 || offset > kChunkSize ||
      length > kChunkSize - offset)
    co_return fail(Errc::kInvalid, "a range of " + std::to_string(length) + " bytes at " +
                                       std::to_string(offset) + " is not whole blocks of a chunk");
  const auto first = static_cast<uint32_t>(offset / kBlockSize);
  const auto count = static_cast<uint32_t>(length / kBlockSize);
  ReadData out;
  std::vector<DiskRun> runs;
  {
    auto opened = maps_.open(chunk, first, count);
    CO_TRY(opened);
    const ChunkMap& map = **opened;
    if (map.exists()) out.version = map.header().version;
    out.hole = occupancy(map, first, count).written == 0;
    if (out.hole) co_return out;
    out.data = env_.buffers.get(length);
    out.crcs.assign(count, crc32cZeroBlock());
    uint32_t next = 0;  // blocks before it are filled, or will be
    auto zeroTo = [&](uint32_t to) {
      if (to > next) std::memset(out.data.data() + next * kBlockSize, 0, (to - next) * kBlockSize);
    };
    map.forRuns(first, count,
                [&](const ExtentGroup::Run& run, uint32_t block, const ExtentGroup& group) {
                  if (!run.written) return;
                  uint32_t at = block - first;
                  zeroTo(at);
                  next = at + run.count;
                  for (uint32_t i = 0; i < run.count; ++i)
                    out.crcs[at + i] = group.crc(run.first + i);
                  // From memory what is not in its place yet, the rest from the disk.
                  auto deferred = deferred_.entries().lower_bound(run.phys);
                  for (uint32_t i = 0; i < run.count; ++i) {
                    PhysBlock phys = run.phys + i;
                    if (deferred != deferred_.entries().end() && deferred->first == phys) {
                      std::memcpy(out.data.data() + (at + i) * kBlockSize,
                                  deferred->second.data.data(), kBlockSize);
                      ++deferred;
                    } else if (!runs.empty() && runs.back().at + runs.back().count == at + i &&
                               runs.back().phys + runs.back().count == phys) {
                      ++runs.back().count;
                    } else {
                      runs.push_back({at + i, 1, phys});
                    }
                  }
                });
    zeroTo(count);
  }
  if (runs.empty()) co_return out;
  auto ticket = guard_.enter();
  if (runs.size() == 1) {
    CO_TRY(co_await readRun(out, runs[0], chunk, first));
    co_return out;
  }
  std::vector<Task<Result<void>>> reads;
  for (const DiskRun& run : runs) reads.push_back(readRun(out, run, chunk, first));
  for (auto& r : co_await whenAll(env_.reactor, std::move(reads))) CO_TRY(r);
  co_return out;
}

}  // namespace cairn::osd
