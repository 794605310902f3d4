// The coefficients of Cairn's erasure codes: the m x k bytes of Jerasure's
// `reed_sol_vandermonde_coding_matrix(k, m, 8)`. They are part of the format of a shard: README.md.
#pragma once

#include <cstdint>
#include <vector>

namespace cairn {

// Row by row: [p * k + d] is what parity shard p takes data shard d times. k + m <= 256. Any
// thread.
std::vector<uint8_t> codingMatrix(unsigned k, unsigned m);

}  // namespace cairn
