#include "mds/state/keys.h"

#include <xxhash.h>

namespace cairn::mds {

uint64_t nameCookie(std::string_view name) {
  uint64_t cookie = XXH3_64bits(name.data(), name.size()) >> 1;
  return cookie > kCookieDotDot ? cookie : cookie + kCookieDotDot + 1;
}

namespace keys {
namespace {

class Key {
 public:
  explicit Key(char letter) { out_.push_back(letter); }
  Key& sub(char c) {
    out_.push_back(c);
    return *this;
  }
  Key& u64(uint64_t v) {
    for (int shift = 56; shift >= 0; shift -= 8) out_.push_back(static_cast<char>(v >> shift));
    return *this;
  }
  Key& u32(uint32_t v) {
    for (int shift = 24; shift >= 0; shift -= 8) out_.push_back(static_cast<char>(v >> shift));
    return *this;
  }
  Key& name(std::string_view v) {
    out_.append(v);
    return *this;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

}  // namespace

std::string inode(InodeId ino) {
  return Key(kInode).u64(ino.value).take();
}
std::string dentry(InodeId parent, uint64_t cookie, std::string_view name) {
  return Key(kDentry).u64(parent.value).u64(cookie).name(name).take();
}
std::string dentries(InodeId parent) {
  return Key(kDentry).u64(parent.value).take();
}
std::string dentriesFrom(InodeId parent, uint64_t cookie) {
  return Key(kDentry).u64(parent.value).u64(cookie).take();
}
std::string chunk(InodeId ino, uint32_t index) {
  return Key(kChunk).u64(ino.value).u32(index).take();
}
std::string chunks(InodeId ino) {
  return Key(kChunk).u64(ino.value).take();
}
std::string xattr(InodeId ino, std::string_view name) {
  return Key(kXattr).u64(ino.value).name(name).take();
}
std::string xattrs(InodeId ino) {
  return Key(kXattr).u64(ino.value).take();
}
std::string orphan(InodeId ino) {
  return Key(kOrphan).u64(ino.value).take();
}
std::string garbage(uint64_t seq) {
  return Key(kGarbage).u64(seq).take();
}
std::string session(SessionId id) {
  return Key(kSession).u64(id.value).take();
}
std::string reply(SessionId id, uint64_t seq) {
  return Key(kReply).u64(id.value).u64(seq).take();
}
std::string replies(SessionId id) {
  return Key(kReply).u64(id.value).take();
}
std::string poolUse(PoolId id) {
  return Key(kPoolUse).u32(id.value).take();
}
std::string counters() {
  return std::string(1, kCounters);
}
std::string mapHeader() {
  return Key(kMap).sub('h').take();
}
std::string mapFence() {
  return Key(kMap).sub('f').take();
}
std::string mapPause() {
  return Key(kMap).sub('r').take();
}
std::string mapAway(PoolId pool, PgIndex pg) {
  return Key(kMap).sub('a').u32(pool.value).u32(pg.value).take();
}
std::string mapOsd(OsdId id) {
  return Key(kMap).sub('o').u32(id.value).take();
}
std::string mapPool(PoolId id) {
  return Key(kMap).sub('p').u32(id.value).take();
}
std::string mapGroup(PoolId pool, PgIndex pg) {
  return Key(kMap).sub('g').u32(pool.value).u32(pg.value).take();
}
std::string mapGroups(PoolId pool) {
  return Key(kMap).sub('g').u32(pool.value).take();
}

uint64_t be64(std::string_view key, size_t offset) {
  if (key.size() < offset + 8) return 0;
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v = v << 8 | static_cast<uint8_t>(key[offset + i]);
  return v;
}
uint32_t be32(std::string_view key, size_t offset) {
  if (key.size() < offset + 4) return 0;
  uint32_t v = 0;
  for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<uint8_t>(key[offset + i]);
  return v;
}

std::string text(std::string_view key) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  if (!key.empty()) out.push_back(key[0]);
  for (char c : key.substr(key.empty() ? 0 : 1)) {
    out.push_back(kHex[static_cast<uint8_t>(c) >> 4]);
    out.push_back(kHex[static_cast<uint8_t>(c) & 15]);
  }
  return out;
}

}  // namespace keys
}  // namespace cairn::mds
