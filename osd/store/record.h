// The records of the store's write-ahead log: physical changes, so that replaying one twice changes
// nothing. See osd/FORMAT.md.
#pragma once

#include <optional>
#include <vector>

#include "osd/store.h"
#include "osd/store/layout.h"

namespace cairn::osd {

// Blocks [first, first+count) of a chunk and where they lie.
struct Piece {
  uint32_t first = 0;
  uint32_t count = 0;
  PhysBlock phys = 0;
  bool operator==(const Piece&) const = default;
};

enum class RecordKind : uint8_t {
  kDirect = 1,   // the data was durable in its place before the record was written
  kInline = 2,   // the data follows; it goes to its place later
  kReserve = 3,  // the pieces are reserved, without data
  kZero = 4,     // the blocks of the one piece become holes (`phys` is zero)
  kRemove = 5,
  kClone = 6,   // the pieces name places of another range, which goes on naming them
  kDrop = 7,    // the chunks are gone, and the group's history knows nothing of them
  kForget = 8,  // of a group without chunks, all that was known
};

// Whose places a clone names: block `first` + n of the record's chunk those of block
// `sourceFirst` + n of `source`, for n below `count`.
struct CloneRange {
  ChunkId source;
  uint32_t sourceFirst = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  bool operator==(const CloneRange&) const = default;
};

struct Record {
  RecordKind kind = RecordKind::kZero;
  Stamp stamp;    // kRemove: of the first chunk, the others follow; kDrop, kForget: only the group
  ChunkId chunk;  // but of those with `chunks`, and kForget
  std::vector<Piece> pieces;    // ascending
  std::vector<uint32_t> crcs;   // kDirect, kInline, kClone: one per block, in order of the pieces
  std::vector<ChunkId> chunks;  // kRemove, kDrop
  CloneRange clone = {};        // kClone: of its range, what no piece covers becomes a hole

  [[nodiscard]] uint32_t blocks() const;
  // Everything but the data of kInline, which the caller appends.
  [[nodiscard]] std::string encode() const;
  // Nothing if malformed, or impossible in a store of `dataBlocks`. `data`: what follows, of the
  // right size for kInline, else empty.
  static std::optional<Record> decode(Bytes bytes, uint64_t dataBlocks, Bytes& data);
};

// Appends a piece, merging it with the last if both places continue.
void appendPiece(std::vector<Piece>& pieces, Piece piece);

}  // namespace cairn::osd
