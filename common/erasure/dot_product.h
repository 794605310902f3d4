// Sums of products in GF(2^8) over whole buffers, by ISA-L: what encoding, rebuilding and updating
// are made of. into[r][i] = sum over s of coefficients[r][s] * from[s][i].
//
// Thread: any; const after construction. Buffers: any alignment, distinct, at most INT_MAX bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace cairn {

class DotProduct {
 public:
  static constexpr unsigned kMaxSources = 16, kMaxRows = 4;

  // `coefficients` row by row, `sources` a row.
  DotProduct(unsigned sources, unsigned rows, std::span<const uint8_t> coefficients);

  // Overwrites into[0, rows) with the rows' sums over from[0, sources).
  void compute(const uint8_t* const* from, uint8_t* const* into, size_t length) const;
  // Adds the term of one source to every row's sum in `into`.
  void addTerm(unsigned source, const uint8_t* from, uint8_t* const* into, size_t length) const;

 private:
  unsigned sources_;
  unsigned rows_;
  // How ISA-L lays them out differs between its versions and processors: only ever handed back
  // whole.
  alignas(64) std::array<uint8_t, size_t{32} * kMaxSources * kMaxRows> tables_{};
};

}  // namespace cairn
