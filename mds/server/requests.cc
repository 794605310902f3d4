// Requests that are no changes: dispatch, sessions and their open files, map, status.
#include <algorithm>

#include "mds/server/admission.h"
#include "mds/server/server.h"
#include "mds/server/status.h"

namespace cairn::mds {
namespace {

constexpr size_t kMaxClientsBytes = 128u << 10;

using schema::MdsRequest;

OutMessage none() {
  OutMessage out;
  out.body<schema::MdsReply>().setNone();
  return out;
}

}  // namespace

Task<Result<OutMessage>> Server::dispatch(MdsRequest::Reader request, RpcPeer& peer) {
  CO_TRY(admit(request, peer.identity().role));
  const SessionId session{request.getSession()};
  if (session) CO_TRY(sessions_.touch(session, env_.reactor.now()));
  switch (request.which()) {
    case MdsRequest::MUTATE:
      co_return co_await mutate(request, peer);
    case MdsRequest::LOOKUP:
      co_return queries_.lookup(request.getLookup());
    case MdsRequest::GETATTR:
      co_return queries_.getattr(InodeId{request.getGetattr()});
    case MdsRequest::READDIR:
      co_return queries_.readdir(request.getReaddir());
    case MdsRequest::READLINK:
      co_return queries_.readlink(InodeId{request.getReadlink()});
    case MdsRequest::GETXATTR:
      co_return queries_.getxattr(request.getGetxattr());
    case MdsRequest::LISTXATTR:
      co_return queries_.listxattr(InodeId{request.getListxattr()});
    case MdsRequest::OPEN:
      co_return co_await open(session, InodeId{request.getOpen().getIno()});
    case MdsRequest::RELEASE:
      co_return release(session, request.getRelease());
    case MdsRequest::CHUNKS:
      co_return queries_.chunks(request.getChunks());
    case MdsRequest::STATFS:
      co_return statfs();
    case MdsRequest::MAP: {
      OutMessage out;
      writeMap(MapEpoch{request.getMap()}, out.body<schema::MdsReply>().initMap());
      co_return out;
    }
    case MdsRequest::KEEPALIVE: {
      sessions_.setLeases(session, request.getKeepalive().getLeases());
      OutMessage out;
      writeMap(MapEpoch{request.getKeepalive().getMapEpoch()},
               out.body<schema::MdsReply>().initKeepalive());
      co_return out;
    }
    case MdsRequest::HEARTBEAT: {
      CO_TRY(co_await osds_.heartbeat(request.getHeartbeat()));
      OutMessage out;
      writeMap(MapEpoch{request.getHeartbeat().getMapEpoch()},
               out.body<schema::MdsReply>().initHeartbeat());
      co_return out;
    }
    case MdsRequest::STATUS:
      co_return status();
    case MdsRequest::RESOLVE: {
      auto path = request.getResolve();
      co_return queries_.resolve({path.begin(), path.size()});
    }
    case MdsRequest::SESSION_CLOSE:
      CO_TRY(co_await endSession(session, false));
      co_return none();
    case MdsRequest::RECLAIM:
      co_return reclaim(session, request.getReclaim().getOpen());
    case MdsRequest::LEASE:
    case MdsRequest::LEASE_RETURN:
      break;
  }
  co_return fail(Errc::kNotSupported, "this metadata server does not know that request");
}

Task<Result<OutMessage>> Server::open(SessionId session, InodeId ino) {
  co_await removals_.passed(ino);
  if (!sessions_.alive(session)) co_return fail(Errc::kSessionExpired);
  auto inode = state_.inode(ino);
  CO_TRY(inode);
  // An unlinked inode lives for those that had it open, and for nobody else.
  if (inode->nlink == 0 && sessions_.surelyNotHolding(session, ino)) co_return fail(Errc::kStale);
  CO_TRY(sessions_.mayOpen(session));
  sessions_.noteOpen(session, ino);
  co_return queries_.entry(*inode);
}

Result<OutMessage> Server::release(SessionId session, capnp::List<uint64_t>::Reader inodes) {
  for (uint64_t id : inodes) {
    const InodeId ino{id};
    sessions_.release(session, ino);
    auto inode = state_.inode(ino);
    if (inode && inode->nlink == 0) orphans_.kick();
  }
  return none();
}

Result<OutMessage> Server::reclaim(SessionId session, capnp::List<uint64_t>::Reader inodes) {
  std::vector<InodeId> held;
  held.reserve(inodes.size());
  for (uint64_t id : inodes) held.emplace_back(id);
  sessions_.reclaim(session, held);
  orphans_.kick();
  return none();
}

void Server::writeMap(MapEpoch known, schema::MapReply::Builder reply) {
  const ClusterMap& map = state_.map();
  reply.setEpoch(map.epoch.value);
  reply.setLeaseMs(static_cast<uint32_t>(options_.osdLease / 1ms));
  if (known < map.epoch) osds_.currentMap().write(reply.initMap());
}

Result<OutMessage> Server::statfs() {
  auto root = state_.inode(kRootInode);
  TRY(root);
  const ClusterMap map = osds_.currentMap();
  Capacity space;
  if (const Pool* pool = map.pool(root->pool)) space = capacity(map, *pool);
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initStatfs();
  reply.setBytesTotal(space.bytesTotal);
  reply.setBytesFree(space.bytesFree);
  reply.setInodes(state_.counts().inodes);
  // Inodes are not preallocated: what bounds them is space, at a block each.
  reply.setInodesFree(space.bytesFree / kBlockSize);
  return out;
}

Result<OutMessage> Server::status() {
  const ClusterMap map = osds_.currentMap();
  const Counts counts = state_.counts();
  const Health health = judge(map, [this](OsdId id) { return osds_.downFor(id); }, counts.garbage);
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initStatus();
  map.write(reply.initMap());
  reply.setHealth(health.text);
  auto problems = reply.initProblems(static_cast<uint32_t>(health.problems.size()));
  for (uint32_t i = 0; i < problems.size(); ++i) problems.set(i, health.problems[i].c_str());
  auto self = reply.initMds(1)[0];
  self.setId(options_.id);
  self.setAddr(options_.advertise);
  self.setRole(log_->isLeader() ? "leader" : "follower");
  self.setPid(options_.pid);
  reply.setHost(options_.host);

  const auto chunks = state_.poolChunks();
  const auto bytes = poolBytes(map, chunks);
  auto pools = reply.initPools(static_cast<uint32_t>(map.pools.size()));
  uint32_t i = 0;
  for (const auto& [id, pool] : map.pools) {
    pools[i].setId(id.value);
    if (auto it = chunks.find(id); it != chunks.end()) pools[i].setChunks(it->second);
    pools[i].setBytes(bytes.at(id));
    ++i;
  }
  auto sessions = state_.sessions();
  // The answer is one message: of very many clients the last are left out.
  size_t clientBytes = 0, shown = 0;
  while (shown < sessions.size() && clientBytes < kMaxClientsBytes) {
    const SessionInfo& s = sessions[shown++];
    clientBytes += 64 + s.addr.size() + s.mount.size() + s.host.size();
  }
  sessions.resize(shown);
  auto clients = reply.initClients(static_cast<uint32_t>(sessions.size()));
  i = 0;
  for (const SessionInfo& s : sessions) {
    auto c = clients[i++];
    c.setId(s.id.value);
    c.setAddr(s.addr);
    c.setMount(s.mount);
    c.setHost(s.host);
    c.setPid(s.pid);
    if (const auto* live = sessions_.find(s.id)) c.setLeases(live->leases);
  }
  reply.setInodes(counts.inodes);
  reply.setGarbageChunks(counts.garbage);
  return out;
}

}  // namespace cairn::mds
