// Addresses as the kernel takes them, and how names become them.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/network.h"

namespace cairn {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
  // A numeric host and the port; an unknown family gives an empty host.
  [[nodiscard]] Endpoint endpoint() const;
};

// True and `out` filled if the host is an IPv4 or IPv6 literal. Never blocks.
bool literalAddress(const Endpoint& endpoint, SocketAddress& out);

// All addresses of a host that may be a name, in the order to try them. Asks the resolver, so it
// blocks: off the reactor's thread. kUnavailable when the name is unknown now.
Result<std::vector<SocketAddress>> resolve(const Endpoint& endpoint, bool passive);

}  // namespace cairn
