// Byte streams between processes: TCP (UringNetwork) or in-memory pipes (sim::SimNetwork). All
// calls on the reactor's thread. One reader and one writer at a time per stream.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/reactor/task.h"

namespace cairn {

struct Endpoint {
  std::string host;  // IPv4/IPv6 literal or a name
  uint16_t port = 0;
  [[nodiscard]] std::string text() const;  // HOST:PORT, IPv6 in brackets
  bool operator==(const Endpoint&) const = default;
};
// "HOST:PORT" or "[V6]:PORT". The error says what is wrong with the text and shows the right form.
Result<Endpoint> parseEndpoint(std::string_view text);
// Comma-separated list, at least one.
Result<std::vector<Endpoint>> parseEndpoints(std::string_view text);

class Stream {
 public:
  virtual ~Stream() = default;  // no operation may be in flight
  // Fills the parts in order with what has arrived, at least one byte; 0 at the peer's end of
  // stream. kUnavailable when the connection broke, kCanceled after shutdown().
  virtual Task<Result<size_t>> read(std::span<const iovec> parts) = 0;
  // Sends all parts, whole. The memory stays valid until it returns.
  virtual Task<Result<void>> write(std::span<const iovec> parts) = 0;
  // Ends both directions; pending and later operations fail soon. May be called at any time, any
  // number of times.
  virtual void shutdown() = 0;
  [[nodiscard]] virtual std::string peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // kCanceled after close().
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  virtual void close() = 0;
  [[nodiscard]] virtual uint16_t port() const = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  virtual Task<Result<std::unique_ptr<Stream>>> connect(Endpoint to, Duration timeout) = 0;
  // Port 0 picks a free one. A port in use gives kBusy with the port in the message.
  virtual Result<std::unique_ptr<Listener>> listen(Endpoint at) = 0;
};

}  // namespace cairn
