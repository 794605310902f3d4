#include "osd/service/mutation.h"

#include <algorithm>

#include "common/crc/crc32c.h"
#include "osd/service/request_checks.h"

namespace cairn::osd {

namespace {
constexpr size_t kMaxRemoved = 4096;

Result<Mutation> rangeOf(schema::Zero::Reader z, Mutation::Kind kind) {
  TRY(checkRange(z.getOffset(), z.getLength(), true));
  Mutation m;
  m.kind = kind;
  m.chunk = ChunkId{z.getChunk()};
  m.offset = z.getOffset();
  m.length = z.getLength();
  return m;
}
}  // namespace

void describe(schema::Replicate::Builder out, const Mutation& m) {
  auto range = [&](schema::Zero::Builder z) {
    z.setChunk(m.chunk.value);
    z.setOffset(m.offset);
    z.setLength(m.length);
  };
  switch (m.kind) {
    case Mutation::Kind::kWrite: {
      auto w = out.initWrite();
      w.setChunk(m.chunk.value);
      w.setOffset(m.offset);
      w.setLength(m.length);
      Bytes crcs = crcBytes(m.crcs);
      w.setCrcs(capnp::Data::Reader(crcs.data(), crcs.size()));
      break;
    }
    case Mutation::Kind::kZero:
      range(out.initZero());
      break;
    case Mutation::Kind::kAllocate:
      range(out.initAllocate());
      break;
    case Mutation::Kind::kLose:
      range(out.initLose());
      break;
    case Mutation::Kind::kClone: {
      auto c = out.initClone();
      c.setSource(m.source.value);
      c.setSourceOffset(m.sourceOffset);
      c.setTarget(m.chunk.value);
      c.setTargetOffset(m.offset);
      c.setLength(m.length);
      break;
    }
    case Mutation::Kind::kRemove: {
      auto list = out.initRemove().initChunks(static_cast<uint32_t>(m.removed.size()));
      for (uint32_t i = 0; i < m.removed.size(); ++i) list.set(i, m.removed[i].value);
      break;
    }
  }
}

Result<Mutation> parseMutation(schema::Replicate::Reader in) {
  switch (in.which()) {
    case schema::Replicate::WRITE: {
      auto w = in.getWrite();
      TRY(checkRange(w.getOffset(), w.getLength(), true));
      Mutation m;
      m.chunk = ChunkId{w.getChunk()};
      m.offset = w.getOffset();
      m.length = w.getLength();
      return m;
    }
    case schema::Replicate::ZERO:
      return rangeOf(in.getZero(), Mutation::Kind::kZero);
    case schema::Replicate::ALLOCATE:
      return rangeOf(in.getAllocate(), Mutation::Kind::kAllocate);
    case schema::Replicate::LOSE:
      return rangeOf(in.getLose(), Mutation::Kind::kLose);
    case schema::Replicate::CLONE:
      TRY(checkClone(in.getClone()));
      return cloneOf(in.getClone());
    case schema::Replicate::REMOVE: {
      Mutation m;
      m.kind = Mutation::Kind::kRemove;
      auto chunks = chunksOf(in.getRemove());
      TRY(chunks);
      m.removed = std::move(*chunks);
      return m;
    }
  }
  return fail(Errc::kNotSupported, "a mutation that this release does not know");
}

Mutation cloneOf(schema::Clone::Reader c) {
  Mutation m;
  m.kind = Mutation::Kind::kClone;
  m.chunk = ChunkId{c.getTarget()};
  m.offset = c.getTargetOffset();
  m.length = c.getLength();
  m.source = ChunkId{c.getSource()};
  m.sourceOffset = c.getSourceOffset();
  return m;
}

Result<std::vector<ChunkId>> chunksOf(schema::RemoveChunks::Reader remove) {
  auto list = remove.getChunks();
  if (list.size() > kMaxRemoved)
    return fail(Errc::kInvalid, "more than " + std::to_string(kMaxRemoved) + " chunks");
  std::vector<ChunkId> chunks;
  chunks.reserve(list.size());
  for (uint64_t id : list)
    if (id != 0) chunks.emplace_back(id);
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  return chunks;
}

}  // namespace cairn::osd
