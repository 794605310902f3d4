// Values of the MDS database: mds/FORMAT.md. Every record opens with a version byte. Decoding gives
// kVersion for a version that is newer than ours and kCorrupt, naming the key, for bytes that make
// no sense: a reader stops there, it never guesses. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mds/state/state_machine.h"

namespace cairn::mds {

// The one record of counters: what is written with every group of commands.
struct Counters {
  LogIndex applied;
  uint64_t nextInode = 2;  // 1 is the root
  uint64_t nextChunk = 1, nextSession = 1, nextGarbage = 1;
  uint32_t nextOsd = 1, nextPool = 1;
  Counts counts;
  bool operator==(const Counters&) const = default;
};

struct DentryRecord {
  InodeId ino;
  uint8_t type = 0;  // DT_*
};

struct ChunkRecord {
  ChunkId id;
  PoolId pool;
};

// A remembered answer. The highest ackedBelow of a session's replies is the session's own.
struct ReplyRecord {
  uint64_t ackedBelow = 0;
  Applied applied;
};

// What refers to a pool.
struct PoolUse {
  uint64_t chunks = 0;   // in chunk maps
  uint64_t inodes = 0;   // whose new chunks, or new files, go there
  uint64_t garbage = 0;  // chunks whose space was not given back yet
  bool operator==(const PoolUse&) const = default;
};

struct MapHeader {
  MapEpoch epoch;
  Uuid cluster;
};

struct FenceRecord {
  MapEpoch epoch;  // in which it changed last
  Fence fence;
};

// A pool without its groups, which have records of their own.
struct PoolRecord {
  Pool pool;
  bool autoDomain = false;  // the failure domain is chosen when the first group is placed
  uint32_t pgCount = 0;
};

std::string encodeInode(const Inode& inode);
std::string encodeDentry(const DentryRecord& dentry);
std::string encodeChunk(const ChunkRecord& chunk);  // also of garbage
std::string encodeXattr(std::string_view value);
std::string encodeOrphan(const std::vector<SessionId>& holders);
std::string encodeSession(const SessionInfo& session);
std::string encodeReply(const ReplyRecord& reply);
std::string encodeCounters(const Counters& counters);
std::string encodePoolUse(const PoolUse& use);
std::string encodeMapHeader(const MapHeader& header);
std::string encodeFence(const FenceRecord& fence);
std::string encodePause();  // there only while rebalancing is paused
std::string encodeAway(const std::vector<OsdId>& away);
std::string encodeOsd(const OsdEntry& osd);
std::string encodePool(const PoolRecord& pool);
std::string encodeGroup(const PlacementGroup& group);

Result<Inode> decodeInode(std::string_view key, std::string_view value);
Result<DentryRecord> decodeDentry(std::string_view key, std::string_view value);
Result<ChunkRecord> decodeChunk(std::string_view key, std::string_view value);
Result<std::string> decodeXattr(std::string_view key, std::string_view value);
Result<std::vector<SessionId>> decodeOrphan(std::string_view key, std::string_view value);
Result<SessionInfo> decodeSession(std::string_view key, std::string_view value);
Result<ReplyRecord> decodeReply(std::string_view key, std::string_view value);
Result<Counters> decodeCounters(std::string_view key, std::string_view value);
Result<PoolUse> decodePoolUse(std::string_view key, std::string_view value);
Result<MapHeader> decodeMapHeader(std::string_view key, std::string_view value);
Result<FenceRecord> decodeFence(std::string_view key, std::string_view value);
Result<void> decodePause(std::string_view key, std::string_view value);
Result<std::vector<OsdId>> decodeAway(std::string_view key, std::string_view value);
Result<OsdEntry> decodeOsd(std::string_view key, std::string_view value);
Result<PoolRecord> decodePool(std::string_view key, std::string_view value);
Result<PlacementGroup> decodeGroup(std::string_view key, std::string_view value);

}  // namespace cairn::mds
