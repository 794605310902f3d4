#include "osd/store/record.h"

namespace cairn::osd {

namespace {
bool hasCrcs(RecordKind kind) {
  return kind == RecordKind::kDirect || kind == RecordKind::kInline || kind == RecordKind::kClone;
}

// Of whole chunks, or of none.
bool listsChunks(RecordKind kind) {
  return kind == RecordKind::kRemove || kind == RecordKind::kDrop || kind == RecordKind::kForget;
}

// Two ranges within their chunks, apart if it is one chunk, and all pieces inside the target.
bool sane(const CloneRange& c, const Record& r) {
  auto inChunk = [&c](uint32_t first) {
    return first < kChunkBlocks && c.count <= kChunkBlocks - first;
  };
  if (c.count == 0 || !inChunk(c.first) || !inChunk(c.sourceFirst)) return false;
  if (c.source == r.chunk && c.first < c.sourceFirst + c.count && c.sourceFirst < c.first + c.count)
    return false;
  return r.pieces.empty() || (r.pieces.front().first >= c.first &&
                              r.pieces.back().first + r.pieces.back().count <= c.first + c.count);
}
}  // namespace

void appendPiece(std::vector<Piece>& pieces, Piece piece) {
  if (!pieces.empty()) {
    Piece& last = pieces.back();
    if (last.first + last.count == piece.first && last.phys + last.count == piece.phys) {
      last.count += piece.count;
      return;
    }
  }
  pieces.push_back(piece);
}

uint32_t Record::blocks() const {
  uint32_t n = 0;
  for (const Piece& piece : pieces) n += piece.count;
  return n;
}

std::string Record::encode() const {
  CAIRN_ASSERT(crcs.size() == (hasCrcs(kind) ? blocks() : 0), "one checksum for each block");
  Encoder e;
  e.out().reserve(64 + 16 * pieces.size() + 4 * crcs.size() + 8 * chunks.size());
  e.put(static_cast<uint8_t>(kind));
  e.put(stamp.group.pool.value);
  e.put(stamp.group.pg.value);
  e.put(stamp.version.value);
  e.put(stamp.committed.value);
  if (listsChunks(kind)) {
    e.put(static_cast<uint32_t>(chunks.size()));
    for (ChunkId id : chunks) e.put(id.value);
    return std::move(e.out());
  }
  e.put(chunk.value);
  e.put(static_cast<uint32_t>(pieces.size()));
  for (const Piece& piece : pieces) {
    e.put(piece.first);
    e.put(piece.count);
    e.put(piece.phys);
  }
  e.putBytes(crcs.data(), crcs.size() * sizeof(uint32_t));
  if (kind == RecordKind::kClone) {
    e.put(clone.source.value);
    e.put(clone.sourceFirst);
    e.put(clone.first);
    e.put(clone.count);
  }
  return std::move(e.out());
}

std::optional<Record> Record::decode(Bytes bytes, uint64_t dataBlocks, Bytes& data) {
  Decoder d(bytes);
  Record r;
  data = {};
  uint8_t kind = d.get<uint8_t>();
  if (kind < 1 || kind > static_cast<uint8_t>(RecordKind::kForget)) return std::nullopt;
  r.kind = static_cast<RecordKind>(kind);
  r.stamp.group = {PoolId(d.get<uint32_t>()), PgIndex(d.get<uint32_t>())};
  r.stamp.version = ChunkVersion(d.get<uint64_t>());
  r.stamp.committed = ChunkVersion(d.get<uint64_t>());
  if (listsChunks(r.kind)) {
    uint32_t count = d.get<uint32_t>();
    if (!d.ok() || d.left() != count * sizeof(uint64_t)) return std::nullopt;
    if ((r.kind == RecordKind::kForget) != (count == 0)) return std::nullopt;
    for (uint32_t i = 0; i < count; ++i) r.chunks.emplace_back(d.get<uint64_t>());
    return r;
  }
  r.chunk = ChunkId(d.get<uint64_t>());
  uint32_t count = d.get<uint32_t>();
  uint32_t next = 0;
  for (uint32_t i = 0; i < count && d.ok(); ++i) {
    Piece piece{d.get<uint32_t>(), d.get<uint32_t>(), d.get<uint64_t>()};
    if (piece.count == 0 || piece.first < next || piece.first >= kChunkBlocks ||
        piece.count > kChunkBlocks - piece.first || piece.phys >= kMaxPhysBlocks)
      return std::nullopt;
    if (r.kind == RecordKind::kZero ? piece.phys != 0 : piece.phys + piece.count > dataBlocks)
      return std::nullopt;
    next = piece.first + piece.count;
    r.pieces.push_back(piece);
  }
  if (hasCrcs(r.kind)) {
    r.crcs.resize(r.blocks());
    Bytes crcs = d.take(r.crcs.size() * sizeof(uint32_t));
    if (!crcs.empty()) std::memcpy(r.crcs.data(), crcs.data(), crcs.size());
  }
  if (r.kind == RecordKind::kClone) {
    r.clone = {ChunkId(d.get<uint64_t>()), d.get<uint32_t>(), d.get<uint32_t>(), d.get<uint32_t>()};
    if (!sane(r.clone, r)) return std::nullopt;
  }
  if (r.kind == RecordKind::kInline) data = d.take(r.blocks() * kBlockSize);
  if (!d.finished()) return std::nullopt;
  return r;
}

}  // namespace cairn::osd
