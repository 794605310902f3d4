// Writes of any bytes become writes of whole blocks: the first and the last block, where covered
// only in part, are read (and so verified), merged and given a new checksum; the blocks between
// keep the payload's bytes and the checksums that the client computed, so that one checksum spans
// the way from the client's memory to the disk.
//
// The caller holds the exclusive lock of all blocks touched.
#pragma once

#include <functional>
#include <vector>

#include "common/base/env.h"
#include "osd/store.h"

namespace cairn::osd {

struct WholeBlocks {
  uint32_t offset = 0;  // a multiple of kBlockSize, as is data.size()
  Buffer data;
  std::vector<uint32_t> crcs;  // one per block
};

// Reads one block of the chunk, at an offset.
using BlockReader = std::function<Task<Result<ReadData>>(uint32_t offset)>;

// `wireCrcs` are the verified block checksums of `payload` at `offset` (osd.capnp), which is not
// empty. An aligned payload is taken as it is, without a copy. Errors: those of `read`.
Task<Result<WholeBlocks>> completeBlocks(Env& env, const BlockReader& read, uint32_t offset,
                                         Buffer payload, Bytes wireCrcs);

// What zeroing the bytes [offset, offset + length) writes in the blocks that it covers in part:
// none to two pieces of one block each. A block that is a hole already needs none.
Task<Result<std::vector<WholeBlocks>>> zeroEdges(Env& env, const BlockReader& read, uint32_t offset,
                                                 uint32_t length);

}  // namespace cairn::osd
