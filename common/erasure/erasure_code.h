// A Reed-Solomon code k+m over GF(2^8): m parity shards made from k data shards, any k of the k+m
// give all of them back. The concepts, the matrix and the costs are in README.md.
//
// Shards are numbered: data 0 to k-1, parity k to k+m-1. All shards of a call have the same length,
// any from 0 to INT_MAX bytes, at any alignment; byte i of a shard depends on bytes i of the others
// only, so a call may work on any range of a stripe. Buffers of one call must not overlap.
//
// Thread: any, several at once on one object. Nothing here waits or knows whether bytes are right:
// the caller has checked the checksums of what it hands in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/erasure/dot_product.h"

namespace cairn {

using ShardSet = uint32_t;  // bit i: shard i

class ErasureCode {
 public:
  static constexpr unsigned kMinData = 2, kMaxData = DotProduct::kMaxSources;
  static constexpr unsigned kMinParity = 1, kMaxParity = DotProduct::kMaxRows;
  static constexpr size_t kMaxDecoders = 64;  // kept for reuse, about 2 KiB each

  static constexpr bool supports(unsigned k, unsigned m) {
    return k >= kMinData && k <= kMaxData && m >= kMinParity && m <= kMaxParity;
  }
  // `supports(k, m)`. To be made once and kept with the pool, for the decoders that it keeps.
  ErasureCode(unsigned k, unsigned m);
  ErasureCode(const ErasureCode&) = delete;
  ErasureCode& operator=(const ErasureCode&) = delete;

  [[nodiscard]] unsigned dataShards() const { return k_; }
  [[nodiscard]] unsigned parityShards() const { return m_; }
  [[nodiscard]] unsigned shards() const { return k_ + m_; }

  // Overwrites all m parity shards.
  void encode(std::span<const uint8_t* const> data, std::span<uint8_t* const> parity,
              size_t length) const;

  // Overwrites into[i] for every shard i in `wanted`, data or parity, with what it was, from the
  // shards in `present`. Both spans are indexed by shard number and may be the same; pointers of
  // shards in neither set are not looked at. `wanted` and `present` are disjoint. With more than k
  // present, the k lowest numbers are read. Does not allocate for a pattern seen lately.
  // kUnavailable, and nothing written: fewer than k shards are present.
  Result<> reconstruct(std::span<const uint8_t* const> from, ShardSet present,
                       std::span<uint8_t* const> into, ShardSet wanted, size_t length) const;

  // Brings all m parity shards up to date after a change of data shard `shard`: `delta` is the XOR
  // of its old and new bytes. XORs into `parity`, so doing it twice undoes it.
  void parityDelta(unsigned shard, const uint8_t* delta, std::span<uint8_t* const> parity,
                   size_t length) const;

  [[nodiscard]] size_t cachedDecoders() const;

 private:
  struct Pattern {
    ShardSet sources;  // k of them
    ShardSet wanted;
    auto operator<=>(const Pattern&) const = default;
  };
  struct Cached {
    std::shared_ptr<const DotProduct> decoder;
    uint64_t lastUse;
  };
  std::shared_ptr<const DotProduct> decoderFor(Pattern pattern) const;
  [[nodiscard]] DotProduct makeDecoder(Pattern pattern) const;

  const unsigned k_, m_;
  const std::vector<uint8_t> generator_;  // (k+m) rows of k: shard = row x data
  const DotProduct encoder_;

  mutable std::mutex mutex_;  // guards what follows
  mutable std::map<Pattern, Cached> decoders_;
  mutable uint64_t uses_ = 0;
};

}  // namespace cairn
