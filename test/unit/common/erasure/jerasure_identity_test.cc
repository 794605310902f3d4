// Cairn's shards are Jerasure's: what one wrote, the other reads.
#include <jerasure.h>
#include <jerasure/reed_sol.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include <doctest/doctest.h>

#include "common/crc/crc32c.h"
#include "common/erasure/coding_matrix.h"
#include "test/unit/common/erasure/stripe.h"

using namespace cairn;
using namespace cairn::test;

namespace {

// Jerasure's own coding of a copy of the stripe. It works on multiples of a long, aligned alike; a
// byte depends on those at the same place only, so zeros behind the end change nothing.
class JerasureStripe {
 public:
  JerasureStripe(unsigned k, unsigned m, const Stripe& stripe)
      : k_(static_cast<int>(k)),
        m_(static_cast<int>(m)),
        size_((stripe.length() + 15) / 16 * 16),
        matrix_(reed_sol_vandermonde_coding_matrix(k_, m_, 8), &std::free) {
    for (unsigned i = 0; i < k + m; ++i) {
      auto& shard = shards_.emplace_back(size_);  // the heap aligns to 16
      std::ranges::copy(stripe.shard(i), shard.begin());
    }
    for (auto& shard : shards_) pointers_.push_back(reinterpret_cast<char*>(shard.data()));
  }
  void encode() {
    for (int p = 0; p < m_; ++p) wipe(k_ + p);
    jerasure_matrix_encode(k_, m_, 8, matrix_.get(), pointers_.data(), pointers_.data() + k_,
                           static_cast<int>(size_));
  }
  bool decode(ShardSet lost) {
    std::vector<int> erasures;
    for (int i = 0; i < k_ + m_; ++i)
      if (lost >> i & 1) {
        wipe(i);
        erasures.push_back(i);
      }
    erasures.push_back(-1);
    return jerasure_matrix_decode(k_, m_, 8, matrix_.get(), 1, erasures.data(), pointers_.data(),
                                  pointers_.data() + k_, static_cast<int>(size_)) == 0;
  }
  [[nodiscard]] bool holds(const Stripe& stripe) const {
    for (size_t i = 0; i < shards_.size(); ++i)
      if (!sameBytes(stripe.shard(i), Bytes(shards_[i]).first(stripe.length()))) return false;
    return true;
  }

 private:
  void wipe(int shard) { std::ranges::fill(shards_[static_cast<size_t>(shard)], 0xee); }

  int k_, m_;
  size_t size_;
  std::unique_ptr<int, decltype(&std::free)> matrix_;
  std::vector<std::vector<uint8_t>> shards_;
  std::vector<char*> pointers_;
};

// GF(2^8) straight from its polynomial, x^8 + x^4 + x^3 + x^2 + 1.
uint8_t slowProduct(uint8_t a, uint8_t b) {
  unsigned product = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (b >> i & 1) product ^= unsigned{a} << i;
  for (unsigned i = 14; i >= 8; --i)
    if (product >> i & 1) product ^= 0x11du << (i - 8);
  return static_cast<uint8_t>(product);
}

ShardSet someShards(Sequence& sequence, unsigned of, unsigned count) {
  ShardSet set = 0;
  while (static_cast<unsigned>(std::popcount(set)) < count) set |= 1u << sequence.below(of);
  return set;
}

}  // namespace

TEST_CASE("the coding matrices are those that stored shards were made with") {
  using Matrix = std::vector<uint8_t>;
  CHECK(codingMatrix(4, 2) == Matrix{1, 1, 1, 1, 1, 70, 143, 200});
  CHECK(codingMatrix(8, 3) == Matrix{1,  1,   1,   1,   1, 1,   1,  1,   1,   55, 39,  73,
                                     84, 181, 225, 217, 1, 172, 70, 235, 143, 34, 200, 101});
  uint32_t crc = 0;
  forEachCode([&](unsigned k, unsigned m) { crc = crc32cExtend(crc, codingMatrix(k, m)); });
  CHECK(crc == 0xb2b48b79u);
}

TEST_CASE("parity is the matrix times the data in the field of polynomial 0x11d") {
  forEachCode([](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    const auto matrix = codingMatrix(k, m);
    Stripe stripe(code, 131, 0);
    for (unsigned p = 0; p < m; ++p)
      for (size_t i = 0; i < stripe.length(); ++i) {
        uint8_t sum = 0;
        for (unsigned d = 0; d < k; ++d) sum ^= slowProduct(matrix[p * k + d], stripe.shard(d)[i]);
        REQUIRE(stripe.parity()[p][i] == sum);
      }
  });
}

TEST_CASE("parity is Jerasure's for every code, at any length and alignment") {
  forEachCode([](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    for (size_t length :
         {0u,   1u,   7u,   15u,  16u,  17u,   31u,   32u,   33u,   63u,    64u,   65u,
          100u, 127u, 128u, 129u, 511u, 1000u, 4095u, 4096u, 4097u, 65536u, 65549u})
      for (size_t skew : {0u, 1u, 8u, 13u}) {
        CAPTURE(length);
        CAPTURE(skew);
        Stripe stripe(code, length, skew, length);
        JerasureStripe jerasure(k, m, stripe);
        jerasure.encode();
        REQUIRE(jerasure.holds(stripe));
      }
  });
}

TEST_CASE("Jerasure reads Cairn's shards") {
  Sequence sequence(7);
  forEachCode([&](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    Stripe stripe(code, 1000, 3);
    for (unsigned lost = 1; lost <= m; ++lost)
      for (int round = 0; round < 10; ++round) {
        const ShardSet pattern = someShards(sequence, k + m, lost);
        CAPTURE(pattern);
        JerasureStripe jerasure(k, m, stripe);
        REQUIRE(jerasure.decode(pattern));
        REQUIRE(jerasure.holds(stripe));
      }
  });
}
