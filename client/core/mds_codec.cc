#include "client/core/mds_codec.h"

#include <algorithm>

#include "client/core/decode.h"

namespace cairn::client {

namespace {

std::unexpected<Error> otherKind() {
  return fail(Errc::kBadMessage, "the MDS answered another question");
}

// stat(2) counts what is stored, in 512-byte units; holes inside a chunk are not known here.
uint64_t blocksOf(const ServerAttr& a) {
  if (S_ISDIR(a.mode)) return kBlockSize / 512;
  if (!S_ISREG(a.mode)) return 0;
  return std::min(roundUp(a.size, kBlockSize), uint64_t{a.chunkCount} * kChunkSize) / 512;
}

ChunkList readChunks(capnp::List<schema::ChunkRef>::Reader refs) {
  ChunkList list;
  list.chunks.reserve(refs.size());
  for (auto r : refs)
    list.chunks.emplace_back(r.getIndex(), ChunkAddr{ChunkId{r.getChunk()}, PoolId{r.getPool()}});
  std::ranges::sort(list.chunks, {}, [](const auto& c) { return c.first; });
  return list;
}

}  // namespace

ServerAttr readAttr(schema::Attr::Reader a) {
  ServerAttr out;
  out.ino = InodeId{a.getIno()};
  out.generation = a.getGeneration();
  out.mode = a.getMode();
  out.nlink = a.getNlink();
  out.uid = a.getUid();
  out.gid = a.getGid();
  out.rdev = a.getRdev();
  out.size = a.getSize();
  out.atimeNs = a.getAtimeNs();
  out.mtimeNs = a.getMtimeNs();
  out.ctimeNs = a.getCtimeNs();
  out.btimeNs = a.getBtimeNs();
  out.pool = PoolId{a.getPool()};
  out.parent = InodeId{a.getParent()};
  out.dataVersion = a.getDataVersion();
  out.chunkCount = a.getChunkCount();
  out.tailUnclean = a.getTailUnclean();
  out.changeVersion = a.getChangeVersion();
  out.lease = static_cast<LeaseMode>(std::min<uint16_t>(static_cast<uint16_t>(a.getLease()), 2));
  out.bare = a.getBare();
  out.blocks512 = blocksOf(out);
  return out;
}

Attr readTimes(InodeId ino, uint32_t type, schema::Times::Reader times) {
  Attr out;
  out.ino = ino;
  out.mode = type;
  out.atimeNs = times.getAtimeNs();
  out.mtimeNs = times.getMtimeNs();
  out.ctimeNs = times.getCtimeNs();
  return out;
}

Result<ServerAttr> readAttrReply(const InMessage& m) {
  auto body = m.body<schema::MdsReply>();
  if (!body.isAttr()) return otherKind();
  ServerAttr attr = readAttr(body.getAttr());
  attr.leaseSerial = body.getLeaseSerial();
  return attr;
}

Result<ServerEntry> readEntryReply(const InMessage& m) {
  auto body = m.body<schema::MdsReply>();
  if (!body.isEntry()) return otherKind();
  auto entry = body.getEntry();
  ServerEntry out{readAttr(entry.getAttr()), readChunks(entry.getChunks())};
  out.attr.leaseSerial = body.getLeaseSerial();
  return out;
}

Result<std::string> readDataReply(const InMessage& m) {
  auto body = m.body<schema::MdsReply>();
  if (!body.isData()) return otherKind();
  return text(body.getData());
}

Result<ChunkList> readChunksReply(const InMessage& m) {
  auto body = m.body<schema::MdsReply>();
  if (!body.isChunks()) return otherKind();
  return readChunks(body.getChunks().getChunks());
}

void writeLock(const HeldLock& lock, schema::FileLock::Builder out) {
  out.setIno(lock.ino.value);
  out.setOwner(lock.owner);
  out.setSpace(static_cast<schema::LockSpace>(lock.space));
  out.setType(static_cast<schema::LockType>(lock.piece.type));
  out.setStart(lock.piece.start);
  out.setEnd(lock.piece.end);
  out.setPid(lock.piece.pid);
}

}  // namespace cairn::client
