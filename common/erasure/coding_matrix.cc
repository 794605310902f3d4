#include "common/erasure/coding_matrix.h"

#include <jerasure/reed_sol.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "common/base/assert.h"

namespace cairn {

std::vector<uint8_t> codingMatrix(unsigned k, unsigned m) {
  // Jerasure builds the tables of its field, a global, at the first use, without a lock.
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  std::unique_ptr<int, decltype(&std::free)> matrix(
      reed_sol_vandermonde_coding_matrix(static_cast<int>(k), static_cast<int>(m), 8), &std::free);
  CAIRN_ASSERT(matrix != nullptr, "Jerasure has a matrix for every code up to 256 shards");
  return {matrix.get(), matrix.get() + size_t{k} * m};
}

}  // namespace cairn
