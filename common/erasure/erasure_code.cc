#include "common/erasure/erasure_code.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "common/base/assert.h"
#include "common/erasure/coding_matrix.h"

namespace cairn {

namespace {

// Systematic: the first k rows are the identity, so that data shards hold the data as it is.
std::vector<uint8_t> generatorMatrix(unsigned k, unsigned m) {
  CAIRN_ASSERT(ErasureCode::supports(k, m), "the pool's code was checked when it was made");
  std::vector<uint8_t> rows(size_t{k} * k);
  for (size_t i = 0; i < k; ++i) rows[i * k + i] = 1;
  auto coding = codingMatrix(k, m);
  rows.insert(rows.end(), coding.begin(), coding.end());
  return rows;
}

// Calls fn(shard) in ascending order.
template <class Fn>
void forEachShard(ShardSet set, Fn fn) {
  for (; set != 0; set &= set - 1) fn(static_cast<unsigned>(std::countr_zero(set)));
}

ShardSet lowest(ShardSet set, unsigned count) {
  ShardSet rest = set;
  while (count-- > 0) rest &= rest - 1;
  return set & ~rest;
}

}  // namespace

ErasureCode::ErasureCode(unsigned k, unsigned m)
    : k_(k),
      m_(m),
      generator_(generatorMatrix(k, m)),
      encoder_(k, m, std::span(generator_).subspan(size_t{k} * k)) {}

void ErasureCode::encode(std::span<const uint8_t* const> data, std::span<uint8_t* const> parity,
                         size_t length) const {
  CAIRN_ASSERT(data.size() == k_ && parity.size() == m_, "one buffer for each shard");
  encoder_.compute(data.data(), parity.data(), length);
}

Result<> ErasureCode::reconstruct(std::span<const uint8_t* const> from, ShardSet present,
                                  std::span<uint8_t* const> into, ShardSet wanted,
                                  size_t length) const {
  CAIRN_ASSERT(from.size() == shards() && into.size() == shards(), "indexed by shard number");
  CAIRN_ASSERT((present | wanted) >> shards() == 0, "no shards but those of the code");
  CAIRN_ASSERT((present & wanted) == 0, "a shard is read or rebuilt, not both");
  if (const auto count = static_cast<unsigned>(std::popcount(present)); count < k_)
    return fail(Errc::kUnavailable, "a stripe of " + std::to_string(k_) + "+" + std::to_string(m_) +
                                        " needs " + std::to_string(k_) + " shards and has " +
                                        std::to_string(count));
  if (wanted == 0) return {};

  const Pattern pattern{lowest(present, k_), wanted};
  std::array<const uint8_t*, kMaxData> sources;
  std::array<uint8_t*, kMaxParity> rebuilt;
  size_t n = 0;
  forEachShard(pattern.sources, [&](unsigned shard) { sources[n++] = from[shard]; });
  n = 0;
  forEachShard(wanted, [&](unsigned shard) { rebuilt[n++] = into[shard]; });
  decoderFor(pattern)->compute(sources.data(), rebuilt.data(), length);
  return {};
}

void ErasureCode::parityDelta(unsigned shard, const uint8_t* delta,
                              std::span<uint8_t* const> parity, size_t length) const {
  CAIRN_ASSERT(shard < k_, "a data shard changes the parity");
  CAIRN_ASSERT(parity.size() == m_, "one buffer for each parity shard");
  encoder_.addTerm(shard, delta, parity.data(), length);
}

size_t ErasureCode::cachedDecoders() const {
  std::lock_guard lock(mutex_);
  return decoders_.size();
}

std::shared_ptr<const DotProduct> ErasureCode::decoderFor(Pattern pattern) const {
  std::lock_guard lock(mutex_);
  const uint64_t now = ++uses_;
  if (auto it = decoders_.find(pattern); it != decoders_.end()) {
    it->second.lastUse = now;
    return it->second.decoder;
  }
  if (decoders_.size() == kMaxDecoders)
    decoders_.erase(std::ranges::min_element(
        decoders_, {}, [](const auto& entry) { return entry.second.lastUse; }));
  auto decoder = std::make_shared<const DotProduct>(makeDecoder(pattern));
  decoders_.emplace(pattern, Cached{decoder, now});
  return decoder;
}

// The sources are S x data, S being their rows of the generator. So data = S^-1 x sources, and a
// shard with row g is (g x S^-1) x sources.
DotProduct ErasureCode::makeDecoder(Pattern pattern) const {
  std::array<uint8_t, size_t{kMaxData} * kMaxData> rows, inverse;
  size_t n = 0;
  forEachShard(pattern.sources, [&](unsigned shard) {
    std::copy_n(&generator_[size_t{shard} * k_], k_, &rows[k_ * n++]);
  });
  const int singular = gf_invert_matrix(rows.data(), inverse.data(), static_cast<int>(k_));
  CAIRN_ASSERT(singular == 0, "any k rows of the generator are independent");

  std::array<uint8_t, size_t{kMaxParity} * kMaxData> coefficients{};
  n = 0;
  forEachShard(pattern.wanted, [&](unsigned shard) {
    const uint8_t* row = &generator_[size_t{shard} * k_];
    for (size_t s = 0; s < k_; ++s, ++n)
      for (size_t d = 0; d < k_; ++d) coefficients[n] ^= gf_mul(row[d], inverse[d * k_ + s]);
  });
  return {k_, static_cast<unsigned>(std::popcount(pattern.wanted)),
          std::span(coefficients).first(n)};
}

}  // namespace cairn
