#include "osd/service/whole_blocks.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/crc/crc32c.h"

namespace cairn::osd {

namespace {

// Puts the stored bytes of the block at `blockOffset` into `into` (one block).
Task<Result<void>> fetchBlock(const BlockReader& read, uint32_t blockOffset, MutBytes into) {
  auto stored = co_await read(blockOffset);
  CO_TRY(stored);
  if (stored->hole)
    std::memset(into.data(), 0, into.size());
  else
    std::memcpy(into.data(), stored->data.data(), into.size());
  co_return Result<void>{};
}

// `kept` are the stored bytes of a block; those in [from, to) become zero.
Task<Result<void>> addZeroedBlock(Env& env, const BlockReader& read, uint32_t blockOffset,
                                  uint32_t from, uint32_t to, std::vector<WholeBlocks>& out) {
  auto stored = co_await read(blockOffset);
  CO_TRY(stored);
  if (stored->hole) co_return Result<void>{};
  Buffer data = env.buffers.copyOf(stored->data.bytes());
  std::memset(data.data() + from, 0, to - from);
  std::vector<uint32_t> crcs{crc32c(data.bytes())};
  out.push_back({blockOffset, std::move(data), std::move(crcs)});
  co_return Result<void>{};
}

}  // namespace

Task<Result<WholeBlocks>> completeBlocks(Env& env, const BlockReader& read, uint32_t offset,
                                         Buffer payload, Bytes wireCrcs) {
  const uint64_t end = offset + payload.size();
  const auto first = static_cast<uint32_t>(roundDown(offset, kBlockSize));
  const uint64_t last = roundUp(end, kBlockSize);
  const uint32_t headBytes = offset - first;
  const size_t blocks = (last - first) / kBlockSize;
  CAIRN_ASSERT(!payload.empty() && wireCrcs.size() == blocks * sizeof(uint32_t),
               "one checksum for each block that a payload touches");

  WholeBlocks out{first, {}, std::vector<uint32_t>(blocks)};
  std::memcpy(out.crcs.data(), wireCrcs.data(), wireCrcs.size());
  const bool tailPartial = end != last;
  if (headBytes == 0 && !tailPartial) {
    out.data = std::move(payload);
    co_return out;
  }

  out.data = env.buffers.get(last - first);
  MutBytes bytes = out.data.bytes();
  if (headBytes != 0) CO_TRY(co_await fetchBlock(read, first, bytes.first(kBlockSize)));
  if (tailPartial && !(headBytes != 0 && blocks == 1))
    CO_TRY(co_await fetchBlock(read, static_cast<uint32_t>(last - kBlockSize),
                               bytes.last(kBlockSize)));
  std::memcpy(bytes.data() + headBytes, payload.data(), payload.size());
  if (headBytes != 0) out.crcs.front() = crc32c(bytes.first(kBlockSize));
  if (tailPartial) out.crcs.back() = crc32c(bytes.last(kBlockSize));
  co_return out;
}

Task<Result<std::vector<WholeBlocks>>> zeroEdges(Env& env, const BlockReader& read, uint32_t offset,
                                                 uint32_t length) {
  std::vector<WholeBlocks> out;
  const uint64_t end = uint64_t{offset} + length;
  const auto first = static_cast<uint32_t>(roundDown(offset, kBlockSize));
  const auto last = static_cast<uint32_t>(roundDown(end, kBlockSize));
  if (offset != first) {
    auto to = static_cast<uint32_t>(std::min<uint64_t>(end - first, kBlockSize));
    CO_TRY(co_await addZeroedBlock(env, read, first, offset - first, to, out));
  }
  if (end != last && !(offset != first && last == first))
    CO_TRY(co_await addZeroedBlock(env, read, last, 0, static_cast<uint32_t>(end - last), out));
  co_return out;
}

}  // namespace cairn::osd
