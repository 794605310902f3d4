#include "mds/state/records.h"

#include <sys/stat.h>

#include "mds/state/codec.h"
#include "mds/state/keys.h"

namespace cairn::mds {
namespace {

constexpr uint8_t kRecordVersion = 1;
// Of the whole database, in the counters record. A reader refuses incompat bits it does not know
// and ignores compat bits.
constexpr uint8_t kFormatVersion = 3;
enum Incompat : uint64_t {
  // The map's fence and the writers of inodes: a program that does not know them would let expired
  // sessions write again.
  kFences = 1,
  kKnownIncompat = 1,
};

enum InodeFlag : uint64_t {
  kTailUnclean = 1,
  kHasXattrs = 2,
  kHasCondemned = 4,
  kHasWriter = 8,
  kLinkable = 16,
  kKnownInodeFlags = 31,
};

Decoder open(std::string_view value, uint8_t& version) {
  Decoder in(value);
  version = in.u8();
  return in;
}

Error damaged(std::string_view key, uint8_t version) {
  if (version > kRecordVersion)
    return Error(Errc::kVersion, "record " + keys::text(key) + " has version " +
                                     std::to_string(version) +
                                     ", newer than this program knows; use a newer cairn-mds");
  return Error(Errc::kCorrupt, "record " + keys::text(key) + " is damaged");
}

bool hasDevice(uint32_t mode) {
  return S_ISCHR(mode) || S_ISBLK(mode);
}

template <class Id>
std::string encodeIds(const std::vector<Id>& ids) {
  Encoder out;
  out.u8(kRecordVersion).varint(ids.size());
  for (Id id : ids) out.varint(id.value);
  return out.take();
}

template <class Id>
Result<std::vector<Id>> decodeIds(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  std::vector<Id> ids;
  for (uint64_t n = in.varint(); n > 0 && !in.failed(); --n) {
    if constexpr (sizeof(Id::value) == sizeof(uint32_t))
      ids.emplace_back(in.varint32());
    else
      ids.emplace_back(in.varint());
  }
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return ids;
}

}  // namespace

std::string encodeInode(const Inode& i) {
  uint64_t flags = (i.tailUnclean ? kTailUnclean : 0u) | (i.xattrCount != 0 ? kHasXattrs : 0u) |
                   (i.condemned.empty() ? 0u : kHasCondemned) | (i.writer ? kHasWriter : 0u) |
                   (i.linkable ? kLinkable : 0u);
  Encoder out;
  out.u8(kRecordVersion).varint(flags).varint(i.mode).varint(i.nlink).varint(i.uid).varint(i.gid);
  out.varint(i.size).varint(i.generation).varint(i.pool.value).varint(i.chunkCount);
  out.varint(i.changeVersion).varint(i.dataVersion);
  // Most files have four times close to each other.
  out.fixed64(static_cast<uint64_t>(i.btimeNs));
  out.delta(i.ctimeNs, i.btimeNs).delta(i.mtimeNs, i.btimeNs).delta(i.atimeNs, i.btimeNs);
  if (hasDevice(i.mode)) out.varint(i.rdev);
  if (i.isDirectory()) out.varint(i.parent.value);
  if (i.isSymlink()) out.bytes(i.target);
  if (i.xattrCount != 0) out.varint(i.xattrCount).varint(i.xattrListBytes);
  if (!i.condemned.empty()) {
    out.varint(i.condemned.size());
    for (const auto& c : i.condemned) out.varint(c.from).varint(c.below);
  }
  if (i.writer) out.varint(i.writer.value);
  return out.take();
}

Result<Inode> decodeInode(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  if (version != kRecordVersion) return fail(damaged(key, version));
  Inode i;
  i.ino = InodeId(keys::be64(key, 1));
  uint64_t flags = in.varint();
  if ((flags & ~uint64_t{kKnownInodeFlags}) != 0) in.fail();
  i.mode = in.varint32();
  i.nlink = in.varint32();
  i.uid = in.varint32();
  i.gid = in.varint32();
  i.size = in.varint();
  i.generation = in.varint32();
  i.pool = PoolId(in.varint32());
  i.chunkCount = in.varint32();
  i.changeVersion = in.varint();
  i.dataVersion = in.varint();
  i.btimeNs = static_cast<int64_t>(in.fixed64());
  i.ctimeNs = in.delta(i.btimeNs);
  i.mtimeNs = in.delta(i.btimeNs);
  i.atimeNs = in.delta(i.btimeNs);
  if (hasDevice(i.mode)) i.rdev = in.varint();
  if (i.isDirectory()) i.parent = InodeId(in.varint());
  if (i.isSymlink()) i.target = in.bytes();
  i.tailUnclean = (flags & kTailUnclean) != 0;
  i.linkable = (flags & kLinkable) != 0;
  if ((flags & kHasXattrs) != 0) {
    i.xattrCount = in.varint32();
    i.xattrListBytes = in.varint32();
  }
  if ((flags & kHasCondemned) != 0) {
    uint64_t n = in.varint();
    for (; n > 0 && !in.failed(); --n) {
      uint32_t from = in.varint32();
      i.condemned.push_back({from, in.varint()});
    }
  }
  if ((flags & kHasWriter) != 0) i.writer = SessionId(in.varint());
  if (!in.done()) return fail(damaged(key, version));
  return i;
}

std::string encodeDentry(const DentryRecord& d) {
  return Encoder().u8(kRecordVersion).u8(d.type).varint(d.ino.value).take();
}

Result<DentryRecord> decodeDentry(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  DentryRecord d;
  d.type = in.u8();
  d.ino = InodeId(in.varint());
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return d;
}

std::string encodeChunk(const ChunkRecord& c) {
  return Encoder().u8(kRecordVersion).varint(c.id.value).varint(c.pool.value).take();
}

Result<ChunkRecord> decodeChunk(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  ChunkRecord c;
  c.id = ChunkId(in.varint());
  c.pool = PoolId(in.varint32());
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return c;
}

std::string encodeXattr(std::string_view value) {
  std::string out(1, static_cast<char>(kRecordVersion));
  out.append(value);
  return out;
}

Result<std::string> decodeXattr(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  if (version != kRecordVersion) return fail(damaged(key, version));
  return std::string(in.rest());
}

std::string encodeOrphan(const std::vector<SessionId>& holders) {
  return encodeIds(holders);
}

Result<std::vector<SessionId>> decodeOrphan(std::string_view key, std::string_view value) {
  return decodeIds<SessionId>(key, value);
}

std::string encodeSession(const SessionInfo& s) {
  return Encoder()
      .u8(kRecordVersion)
      .bytes(s.addr)
      .bytes(s.mount)
      .bytes(s.host)
      .varint(s.pid)
      .take();
}

Result<SessionInfo> decodeSession(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  SessionInfo s;
  s.id = SessionId(keys::be64(key, 1));
  s.addr = in.bytes();
  s.mount = in.bytes();
  s.host = in.bytes();
  s.pid = in.varint32();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return s;
}

std::string encodeReply(const ReplyRecord& r) {
  return Encoder()
      .u8(kRecordVersion)
      .varint(r.ackedBelow)
      .varint(static_cast<uint64_t>(r.applied.code))
      .bytes(r.applied.detail)
      .bytes(r.applied.reply)
      .take();
}

Result<ReplyRecord> decodeReply(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  ReplyRecord r;
  r.ackedBelow = in.varint();
  r.applied.code = static_cast<Errc>(in.varint32());
  r.applied.detail = in.bytes();
  r.applied.reply = in.bytes();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return r;
}

std::string encodeCounters(const Counters& c) {
  Encoder out;
  out.u8(kFormatVersion).varint(kFences).varint(0);  // incompat, compat
  out.varint(c.applied.value).varint(c.nextInode).varint(c.nextChunk).varint(c.nextSession);
  out.varint(c.nextGarbage).varint(c.nextOsd).varint(c.nextPool);
  out.varint(c.counts.inodes).varint(c.counts.chunks).varint(c.counts.garbage);
  return out.take();
}

Result<Counters> decodeCounters(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  if (version > kFormatVersion)
    return fail(Errc::kVersion, "the database has format " + std::to_string(version) +
                                    ", newer than this program knows; use a newer cairn-mds");
  if (!in.failed() && version < kFormatVersion)
    return fail(Errc::kVersion,
                "the database has format " + std::to_string(version) +
                    ", which no release ever wrote, and this program reads format " +
                    std::to_string(kFormatVersion) + "; make the cluster anew");
  uint64_t incompat = in.varint();
  if (!in.failed() && (incompat & ~uint64_t{kKnownIncompat}) != 0)
    return fail(Errc::kVersion,
                "the database uses features that this program does not know; use a "
                "newer cairn-mds");
  in.varint();  // compat
  Counters c;
  c.applied = LogIndex(in.varint());
  c.nextInode = in.varint();
  c.nextChunk = in.varint();
  c.nextSession = in.varint();
  c.nextGarbage = in.varint();
  c.nextOsd = in.varint32();
  c.nextPool = in.varint32();
  c.counts.inodes = in.varint();
  c.counts.chunks = in.varint();
  c.counts.garbage = in.varint();
  if (!in.done()) return fail(damaged(key, kRecordVersion));
  return c;
}

std::string encodePoolUse(const PoolUse& use) {
  return Encoder()
      .u8(kRecordVersion)
      .varint(use.chunks)
      .varint(use.inodes)
      .varint(use.garbage)
      .take();
}

Result<PoolUse> decodePoolUse(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  PoolUse use;
  use.chunks = in.varint();
  use.inodes = in.varint();
  use.garbage = in.varint();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return use;
}

std::string encodeMapHeader(const MapHeader& h) {
  return Encoder()
      .u8(kRecordVersion)
      .varint(h.epoch.value)
      .fixed64(h.cluster.hi)
      .fixed64(h.cluster.lo)
      .take();
}

Result<MapHeader> decodeMapHeader(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  MapHeader h;
  h.epoch = MapEpoch(in.varint());
  h.cluster.hi = in.fixed64();
  h.cluster.lo = in.fixed64();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return h;
}

std::string encodeFence(const FenceRecord& r) {
  Encoder out;
  out.u8(kRecordVersion).varint(r.epoch.value).varint(r.fence.below.value);
  out.varint(r.fence.alive.size());
  for (auto id : r.fence.alive) out.varint(id.value);
  return out.take();
}

Result<FenceRecord> decodeFence(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  FenceRecord r;
  r.epoch = MapEpoch(in.varint());
  r.fence.below = SessionId(in.varint());
  uint64_t n = in.varint();
  for (; n > 0 && !in.failed(); --n) r.fence.alive.emplace_hint(r.fence.alive.end(), in.varint());
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return r;
}

std::string encodePause() {
  return Encoder().u8(kRecordVersion).take();
}

Result<void> decodePause(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return {};
}

std::string encodeAway(const std::vector<OsdId>& away) {
  return encodeIds(away);
}

Result<std::vector<OsdId>> decodeAway(std::string_view key, std::string_view value) {
  return decodeIds<OsdId>(key, value);
}

std::string encodeOsd(const OsdEntry& o) {
  Encoder out;
  out.u8(kRecordVersion).fixed64(o.uuid.hi).fixed64(o.uuid.lo);
  out.bytes(o.addr).bytes(o.host).bytes(o.rack);
  out.u8(static_cast<uint8_t>(o.deviceClass)).varint(o.weight);
  out.u8(static_cast<uint8_t>((o.up ? 1 : 0) | (o.in ? 2 : 0) | (o.autoOut ? 4 : 0) |
                              (o.fixedWeight ? 8 : 0)));
  out.varint(o.bytesUsed).varint(o.bytesTotal).varint(o.pid).varint(o.incarnation);
  return out.take();
}

Result<OsdEntry> decodeOsd(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  OsdEntry o;
  o.id = OsdId(keys::be32(key, 2));
  o.uuid.hi = in.fixed64();
  o.uuid.lo = in.fixed64();
  o.addr = in.bytes();
  o.host = in.bytes();
  o.rack = in.bytes();
  o.deviceClass = static_cast<schema::DeviceClass>(in.u8());
  o.weight = in.varint32();
  uint8_t state = in.u8();
  o.up = (state & 1) != 0;
  o.in = (state & 2) != 0;
  o.autoOut = (state & 4) != 0;
  o.fixedWeight = (state & 8) != 0;
  o.bytesUsed = in.varint();
  o.bytesTotal = in.varint();
  o.pid = in.varint32();
  o.incarnation = in.varint();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return o;
}

std::string encodePool(const PoolRecord& r) {
  const Pool& p = r.pool;
  Encoder out;
  out.u8(kRecordVersion).bytes(p.name).varint(p.replicas).varint(p.ecData).varint(p.ecParity);
  out.u8(static_cast<uint8_t>(p.deviceClass)).u8(static_cast<uint8_t>(p.failureDomain));
  out.u8(static_cast<uint8_t>((p.anyClass ? 1 : 0) | (r.autoDomain ? 2 : 0)));
  out.varint(p.stripeUnit).varint(p.minSize).varint(r.pgCount);
  return out.take();
}

Result<PoolRecord> decodePool(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  PoolRecord r;
  Pool& p = r.pool;
  p.id = PoolId(keys::be32(key, 2));
  p.name = in.bytes();
  p.replicas = static_cast<uint16_t>(in.varint32());
  p.ecData = static_cast<uint16_t>(in.varint32());
  p.ecParity = static_cast<uint16_t>(in.varint32());
  p.deviceClass = static_cast<schema::DeviceClass>(in.u8());
  p.failureDomain = static_cast<schema::FailureDomain>(in.u8());
  uint8_t flags = in.u8();
  p.anyClass = (flags & 1) != 0;
  r.autoDomain = (flags & 2) != 0;
  p.stripeUnit = in.varint32();
  p.minSize = static_cast<uint16_t>(in.varint32());
  r.pgCount = in.varint32();
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return r;
}

std::string encodeGroup(const PlacementGroup& g) {
  Encoder out;
  out.u8(kRecordVersion).varint(g.epoch.value);
  for (const auto* list : {&g.osds, &g.joining, &g.complete}) {
    out.varint(list->size());
    for (auto id : *list) out.varint(id.value);
  }
  out.varint(g.shards.size());
  for (auto [id, shard] : g.shards) out.varint(id.value).u8(shard);
  return out.take();
}

Result<PlacementGroup> decodeGroup(std::string_view key, std::string_view value) {
  uint8_t version;
  Decoder in = open(value, version);
  PlacementGroup g;
  g.epoch = MapEpoch(in.varint());
  for (auto* list : {&g.osds, &g.joining, &g.complete}) {
    uint64_t n = in.varint();
    for (; n > 0 && !in.failed(); --n) list->emplace_back(in.varint32());
  }
  for (uint64_t n = in.varint(); n > 0 && !in.failed(); --n) {
    const OsdId id(in.varint32());
    g.shards[id] = in.u8();
  }
  if (version != kRecordVersion || !in.done()) return fail(damaged(key, version));
  return g;
}

}  // namespace cairn::mds
