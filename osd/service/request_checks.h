// What every request is checked for before anything is done for it: the peer may send anything.
#pragma once

#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/osd.capnp.h"
// clang-format on

namespace cairn::osd {

// kInvalid unless the bytes [offset, offset + length) are some and lie within a chunk, and, with
// `wholeBlocks`, both are multiples of kBlockSize.
Result<void> checkRange(uint64_t offset, uint64_t length, bool wholeBlocks);

// kInvalid unless the payload has the length that the request names, at most kMaxIoBytes; kCorrupt
// unless `crcs` are its block checksums.
Result<void> checkPayload(uint32_t offset, uint32_t length, const Buffer& payload, Bytes crcs);

// kInvalid unless source and target are whole blocks within their chunks, and apart if they are in
// one.
Result<void> checkClone(schema::Clone::Reader clone);

// `wire` is what checkPayload() has checked.
std::vector<uint32_t> toCrcs(Bytes wire);

inline Bytes asBytes(capnp::Data::Reader data) {
  return {data.begin(), data.size()};
}

}  // namespace cairn::osd
