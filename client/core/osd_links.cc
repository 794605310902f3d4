#include "client/core/osd_links.h"

namespace cairn::client {

namespace {
// An OSD answers pings while it works, so that this is the time it takes to notice a dead host.
constexpr Duration kSilence = 3s;
}  // namespace

void OsdLinks::identify(Uuid cluster, uint64_t session) {
  self_.cluster = cluster;
  self_.peer = session;
  for (auto& [id, link] : links_) {
    if (!link.client) continue;  // its address could not be read
    link.client->setIdentity(self_);
    link.client->disconnect();
  }
}

Task<void> OsdLinks::retire(std::shared_ptr<RpcClient> client) {
  co_await client->close();
}

Result<std::shared_ptr<RpcClient>> OsdLinks::to(const OsdEntry& osd) {
  if (closed_) return fail(Errc::kCanceled, "unmounting");
  Link& link = links_[osd.id];
  if (link.client && link.addr == osd.addr) return link.client;
  auto where = parseEndpoint(osd.addr);
  if (!where)
    return fail(Errc::kUnavailable,
                "osd " + std::to_string(osd.id.value) + ": " + where.error().message);
  if (link.client) scope_.spawn(retire(std::move(link.client)));
  RpcClient::Options options;
  options.to = *where;
  options.self = self_;
  options.silenceTimeout = kSilence;
  link = {osd.addr, std::make_shared<RpcClient>(env_, std::move(options))};
  return link.client;
}

void OsdLinks::follow(const ClusterMap& map) {
  for (auto& [id, link] : links_) {
    const OsdEntry* osd = map.osd(id);
    if (link.client && (osd == nullptr || !osd->up)) link.client->disconnect();
  }
}

Task<void> OsdLinks::close() {
  closed_ = true;
  for (auto& [id, link] : links_)
    if (link.client) co_await link.client->close();
}

}  // namespace cairn::client
