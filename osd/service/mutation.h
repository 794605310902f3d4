// One change of a placement group, as it travels from the primary to the other members.
#pragma once

#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/osd.capnp.h"
// clang-format on

namespace cairn::osd {

// A change of whole blocks of one chunk, or the removal of chunks. kLose: of these blocks nobody
// has anything good; a member that has none stores some that cannot be read, so that it is equal to
// the others, and what is lost stays lost aloud.
struct Mutation {
  enum class Kind : uint8_t { kWrite, kZero, kAllocate, kClone, kRemove, kLose };
  Kind kind = Kind::kWrite;
  ChunkId chunk;                    // kRemove: none
  uint32_t offset = 0, length = 0;  // multiples of kBlockSize
  Buffer data;                      // kWrite: `length` bytes, at most kMaxIoBytes
  std::vector<uint32_t> crcs;       // kWrite: one per block
  ChunkId source = {};              // kClone: each member's own copy of it is cloned
  uint32_t sourceOffset = 0;
  std::vector<ChunkId> removed = {};  // kRemove: ascending

  // How many of the group's numbers it takes.
  [[nodiscard]] uint64_t numbers() const { return kind == Kind::kRemove ? removed.size() : 1; }
  // kAllocate changes no byte that can be read; kZero and kRemove need no room.
  [[nodiscard]] bool takesRoom() const {
    return kind == Kind::kWrite || kind == Kind::kAllocate || kind == Kind::kClone ||
           kind == Kind::kLose;
  }
};

void describe(schema::Replicate::Builder out, const Mutation& m);
// Without its payload. kNotSupported: a kind that this release does not know. The ranges are
// checked (kInvalid).
Result<Mutation> parseMutation(schema::Replicate::Reader in);
Mutation cloneOf(schema::Clone::Reader clone);  // checked by checkClone()
Result<std::vector<ChunkId>> chunksOf(schema::RemoveChunks::Reader remove);  // ascending, each once

}  // namespace cairn::osd
