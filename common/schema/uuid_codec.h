// Uuid to and from its schema form.
#pragma once

#include "common/base/uuid.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/types.capnp.h"
// clang-format on

namespace cairn {

inline Uuid readUuid(schema::Uuid::Reader reader) {
  return {reader.getHi(), reader.getLo()};
}
inline void writeUuid(schema::Uuid::Builder builder, Uuid uuid) {
  builder.setHi(uuid.hi);
  builder.setLo(uuid.lo);
}

}  // namespace cairn
