#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>
#include <memory>

#include "common/net/network.h"
#include "common/net/socket_address.h"

namespace cairn {

namespace {

constexpr const char* kRightForm =
    "; write HOST:PORT or [IPV6]:PORT, for example 192.0.2.7:7000, storage1:7000 or "
    "[2001:db8::7]:7000";

std::unexpected<Error> badEndpoint(std::string_view text, const char* why) {
  return fail(Errc::kInvalid,
              "\"" + std::string(text) + "\" is not an address: " + why + kRightForm);
}

bool goodName(std::string_view host) {
  if (host.size() > 253) return false;
  for (char c : host) {
    bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_';
    if (!ok) return false;
  }
  return true;
}

bool isIpv6(const std::string& host) {
  // The scope of a link-local address (fe80::1%eth0) is the resolver's business.
  in6_addr a;
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &a) == 1;
}

}  // namespace

std::string Endpoint::text() const {
  bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Endpoint> parseEndpoint(std::string_view text) {
  Endpoint e;
  std::string_view port;
  if (text.starts_with('[')) {
    size_t close = text.find(']');
    if (close == std::string_view::npos) return badEndpoint(text, "the \"]\" is missing");
    e.host = std::string(text.substr(1, close - 1));
    if (!isIpv6(e.host)) return badEndpoint(text, "there is no IPv6 address in the brackets");
    port = text.substr(close + 1);
    if (!port.starts_with(':')) return badEndpoint(text, "the port is missing");
    port.remove_prefix(1);
  } else {
    size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return badEndpoint(text, "the port is missing");
    e.host = std::string(text.substr(0, colon));
    port = text.substr(colon + 1);
    if (e.host.empty()) return badEndpoint(text, "the host is missing");
    if (e.host.find(':') != std::string::npos)
      return badEndpoint(text, "an IPv6 address needs brackets");
    if (!goodName(e.host))
      return badEndpoint(text, "a host name has letters, digits, \".\" and \"-\" only");
  }
  unsigned value = 0;
  auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), value);
  if (ec != std::errc() || end != port.data() + port.size() || value > 65535)
    return badEndpoint(text, "the port is a number from 0 to 65535");
  e.port = static_cast<uint16_t>(value);
  return e;
}

Result<std::vector<Endpoint>> parseEndpoints(std::string_view text) {
  std::vector<Endpoint> out;
  while (true) {
    size_t comma = text.find(',');
    auto e = parseEndpoint(text.substr(0, comma));
    TRY(e);
    out.push_back(std::move(*e));
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

Endpoint SocketAddress::endpoint() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    return {host, ntohs(in->sin_port)};
  }
  if (family() == AF_INET6) {
    auto* in = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
    return {host, ntohs(in->sin6_port)};
  }
  return {};
}

bool literalAddress(const Endpoint& endpoint, SocketAddress& out) {
  out = {};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  if (inet_pton(AF_INET, endpoint.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(endpoint.port);
    out.length = sizeof *v4;
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (inet_pton(AF_INET6, endpoint.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(endpoint.port);
    out.length = sizeof *v6;
    return true;
  }
  return false;
}

Result<std::vector<SocketAddress>> resolve(const Endpoint& endpoint, bool passive) {
  SocketAddress literal;
  if (literalAddress(endpoint, literal)) return std::vector{literal};

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* list = nullptr;
  int err =
      getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
  if (err != 0) {
    std::string reason = err == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(err);
    return fail(Errc::kUnavailable, "cannot find the address of host \"" + endpoint.host +
                                        "\": " + reason +
                                        ". Check the spelling, /etc/hosts and the name server");
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  std::vector<SocketAddress> out;
  for (addrinfo* a = list; a != nullptr; a = a->ai_next) {
    SocketAddress s;
    if (a->ai_addrlen > sizeof s.storage) continue;
    std::memcpy(&s.storage, a->ai_addr, a->ai_addrlen);
    s.length = a->ai_addrlen;
    out.push_back(s);
  }
  return out;
}

}  // namespace cairn
