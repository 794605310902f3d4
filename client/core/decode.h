// Reading what a peer sent. Cap'n Proto's accessors throw on a message that is not what its type
// says; here that becomes kBadMessage, like any other answer that no correct peer gives.
#pragma once

#include <string>

#include "common/wire/message.h"

namespace cairn::client {

// `read` returns a Result.
template <class F>
auto decode(const InMessage& message, F read) -> decltype(read(message)) {
  try {
    return read(message);
  } catch (const kj::Exception& e) {
    return fail(Errc::kBadMessage, std::string("unreadable answer: ") + e.getDescription().cStr());
  }
}

inline std::string text(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

inline capnp::Data::Reader bytes(const std::string& s) {
  return {reinterpret_cast<const kj::byte*>(s.data()), s.size()};
}

}  // namespace cairn::client
