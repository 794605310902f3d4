// Identifiers, each a type of its own so that the compiler catches a swap. Zero is "none" for every
// id but PgIndex, whose numbering starts at zero inside its pool.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace cairn {

template <class Tag, class Rep>
struct Id {
  Rep value{};

  constexpr Id() = default;
  constexpr explicit Id(Rep v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
  constexpr explicit operator bool() const { return value != Rep{}; }
};

using InodeId = Id<struct InodeIdTag, uint64_t>;  // never reused
using ChunkId = Id<struct ChunkIdTag, uint64_t>;  // never reused, unique in the cluster
using SessionId =
    Id<struct SessionIdTag, uint64_t>;              // one mount, from its first hello to its expiry
using OsdId = Id<struct OsdIdTag, uint32_t>;        // from 1
using PoolId = Id<struct PoolIdTag, uint32_t>;      // from 1
using PgIndex = Id<struct PgIndexTag, uint32_t>;    // 0 .. pool.pgCount-1
using MapEpoch = Id<struct MapEpochTag, uint64_t>;  // grows with every change of the cluster map
using LogIndex = Id<struct LogIndexTag, uint64_t>;  // position in a command log, from 1
using ChunkVersion = Id<struct ChunkVersionTag, uint64_t>;

inline constexpr InodeId kRootInode{1};

}  // namespace cairn

template <class Tag, class Rep>
struct std::hash<cairn::Id<Tag, Rep>> {
  size_t operator()(const cairn::Id<Tag, Rep>& id) const noexcept {
    // Ids are dense counters; spread them (splitmix64's finaliser) so that table growth stays even.
    uint64_t x = static_cast<uint64_t>(id.value) + 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return static_cast<size_t>(x ^ (x >> 31));
  }
};
