#include "common/erasure/dot_product.h"

#include <isa-l/erasure_code.h>

#include <climits>

#include "common/base/assert.h"

namespace cairn {

namespace {

int lengthOf(size_t length) {
  CAIRN_ASSERT(length <= INT_MAX, "ISA-L's lengths are ints");
  return static_cast<int>(length);
}

}  // namespace

// ISA-L's prototypes lack const where it only reads.

DotProduct::DotProduct(unsigned sources, unsigned rows, std::span<const uint8_t> coefficients)
    : sources_(sources), rows_(rows) {
  CAIRN_ASSERT(sources >= 1 && sources <= kMaxSources && rows >= 1 && rows <= kMaxRows,
               "the tables have room");
  CAIRN_ASSERT(coefficients.size() == size_t{sources} * rows, "one coefficient a source and row");
  ec_init_tables(static_cast<int>(sources), static_cast<int>(rows),
                 const_cast<uint8_t*>(coefficients.data()), tables_.data());
}

void DotProduct::compute(const uint8_t* const* from, uint8_t* const* into, size_t length) const {
  ec_encode_data(lengthOf(length), static_cast<int>(sources_), static_cast<int>(rows_),
                 const_cast<uint8_t*>(tables_.data()), const_cast<uint8_t**>(from),
                 const_cast<uint8_t**>(into));
}

void DotProduct::addTerm(unsigned source, const uint8_t* from, uint8_t* const* into,
                         size_t length) const {
  CAIRN_ASSERT(source < sources_, "a source of this product");
  ec_encode_data_update(lengthOf(length), static_cast<int>(sources_), static_cast<int>(rows_),
                        static_cast<int>(source), const_cast<uint8_t*>(tables_.data()),
                        const_cast<uint8_t*>(from), const_cast<uint8_t**>(into));
}

}  // namespace cairn
