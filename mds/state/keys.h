// Keys of the MDS database (mds/FORMAT.md): one letter, then big-endian integers, then a name, so
// that LevelDB's byte order is the order of the things. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace cairn::mds {

// A name's position in its directory, 3 .. 2^63-1: the top 63 bits of its XXH3-64 (the readdir
// offset of FUSE is a signed 64-bit number; 0, 1 and 2 are the start, "." and "..").
uint64_t nameCookie(std::string_view name);
inline constexpr uint64_t kCookieDot = 1, kCookieDotDot = 2, kLastCookie = (1ull << 63) - 1;

namespace keys {

inline constexpr char kInode = 'I', kDentry = 'D', kChunk = 'C', kXattr = 'X', kOrphan = 'O',
                      kGarbage = 'G', kSession = 'S', kReply = 'R', kMap = 'M', kPoolUse = 'U',
                      kCounters = 'N';

std::string inode(InodeId ino);
std::string dentry(InodeId parent, uint64_t cookie, std::string_view name);
std::string dentries(InodeId parent);                       // prefix
std::string dentriesFrom(InodeId parent, uint64_t cookie);  // the first at or after
std::string chunk(InodeId ino, uint32_t index);
std::string chunks(InodeId ino);  // prefix
std::string xattr(InodeId ino, std::string_view name);
std::string xattrs(InodeId ino);  // prefix
std::string orphan(InodeId ino);
std::string garbage(uint64_t seq);
std::string session(SessionId id);
std::string reply(SessionId id, uint64_t seq);
std::string replies(SessionId id);  // prefix
std::string poolUse(PoolId id);
std::string counters();
std::string mapHeader();
std::string mapFence();
std::string mapPause();
std::string mapAway(PoolId pool, PgIndex pg);
std::string mapOsd(OsdId id);
std::string mapPool(PoolId id);
std::string mapGroup(PoolId pool, PgIndex pg);
std::string mapGroups(PoolId pool);  // prefix

// Fields of a key at a byte offset; 0 if the key is too short (verify() names such keys).
uint64_t be64(std::string_view key, size_t offset);
uint32_t be32(std::string_view key, size_t offset);

// For people: the letter and the rest in hexadecimal.
std::string text(std::string_view key);

}  // namespace keys
}  // namespace cairn::mds
