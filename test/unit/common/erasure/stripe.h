// The shards of one stripe for tests of erasure codes: data from a fixed sequence, parity made by
// the code under test, each shard at an alignment of its own.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/erasure/erasure_code.h"

namespace cairn::test {

// Steele and Vigna's mixing of a counter (SplitMix64): any seed gives good bits.
class Sequence {
 public:
  explicit Sequence(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return next() % n; }
  void fill(MutBytes bytes) {
    for (auto& b : bytes) b = static_cast<uint8_t>(next());
  }

 private:
  uint64_t state_;
};

class Stripe {
 public:
  // Shard i begins `skew` x i bytes behind an alignment of 64.
  Stripe(const ErasureCode& code, size_t length, size_t skew, uint64_t seed = 1) : length_(length) {
    const size_t stride = (length + 63) / 64 * 64 + 64;
    memory_.resize(stride * code.shards() + 64);
    auto* at = memory_.data() + 64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64;
    for (size_t i = 0; i < code.shards(); ++i) shards_.push_back(at + i * stride + skew * i % 64);
    data_.assign(shards_.begin(), shards_.begin() + code.dataShards());
    parity_.assign(shards_.begin() + code.dataShards(), shards_.end());
    Sequence sequence(seed);
    for (size_t i = 0; i < data_.size(); ++i) sequence.fill({shards_[i], length});
    code.encode(data_, parity_, length);
  }
  Stripe(const Stripe&) = delete;
  Stripe& operator=(const Stripe&) = delete;

  [[nodiscard]] size_t length() const { return length_; }
  [[nodiscard]] const std::vector<const uint8_t*>& data() const { return data_; }
  [[nodiscard]] const std::vector<uint8_t*>& parity() const { return parity_; }
  [[nodiscard]] MutBytes shard(size_t i) const { return {shards_[i], length_}; }

 private:
  size_t length_;
  std::vector<uint8_t> memory_;
  std::vector<uint8_t*> shards_;
  std::vector<const uint8_t*> data_;
  std::vector<uint8_t*> parity_;
};

inline bool sameBytes(Bytes a, Bytes b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Whether `code` rebuilds `wanted` from `present`. Whoever looks at another shard meets a null.
inline bool rebuilds(const ErasureCode& code, const Stripe& stripe, ShardSet present,
                     ShardSet wanted) {
  std::vector<const uint8_t*> from(code.shards());
  std::vector<uint8_t*> into(code.shards());
  std::vector<uint8_t> memory(stripe.length() * std::popcount(wanted) + 1, 0xa5);
  uint8_t* next = memory.data();
  for (unsigned i = 0; i < code.shards(); ++i) {
    if (present >> i & 1) from[i] = stripe.shard(i).data();
    if (wanted >> i & 1) {
      into[i] = next;
      next += stripe.length();
    }
  }
  if (!code.reconstruct(from, present, into, wanted, stripe.length())) return false;
  for (unsigned i = 0; i < code.shards(); ++i)
    if (into[i] != nullptr && !sameBytes({into[i], stripe.length()}, stripe.shard(i))) return false;
  return true;
}

// Calls fn(k, m) for every code there is.
template <class Fn>
void forEachCode(Fn fn) {
  for (unsigned k = ErasureCode::kMinData; k <= ErasureCode::kMaxData; ++k)
    for (unsigned m = ErasureCode::kMinParity; m <= ErasureCode::kMaxParity; ++m) fn(k, m);
}

inline std::string nameOf(unsigned k, unsigned m) {
  return std::to_string(k) + "+" + std::to_string(m);
}

}  // namespace cairn::test
