#include "tools/cairn/osd_calls.h"

namespace cairn::tools {

Task<Result<InMessage>> OsdCalls::ask(const OsdEntry& to, OutMessage request, Duration timeout) {
  auto& client = clients_[to.addr];
  if (!client) {
    auto endpoint = parseEndpoint(to.addr);
    CO_TRY(endpoint);
    RpcClient::Options options;
    options.to = *endpoint;
    client = std::make_unique<RpcClient>(env_, std::move(options));
  }
  co_return co_await client->call(std::move(request), timeout);
}

Task<void> OsdCalls::close() {
  for (auto& [addr, client] : clients_)
    if (client) co_await client->close();
}

}  // namespace cairn::tools
