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

// An answer with what it grants: nothing is waited for between here and the connection.
Result<OutMessage> sealed(Result<OutMessage> answer, const Leases::Grants& grants) {
  if (answer && grants.serial() != 0)
    answer->body<schema::MdsReply>().setLeaseSerial(grants.serial());
  return answer;
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
      co_return co_await lookup(request, peer);
    case MdsRequest::GETATTR:
      co_return co_await queryInode(request, InodeId{request.getGetattr()}, peer);
    case MdsRequest::READLINK:
      co_return co_await queryInode(request, InodeId{request.getReadlink()}, peer);
    case MdsRequest::GETXATTR:
      co_return co_await queryInode(request, InodeId{request.getGetxattr().getIno()}, peer);
    case MdsRequest::LISTXATTR:
      co_return co_await queryInode(request, InodeId{request.getListxattr()}, peer);
    case MdsRequest::READDIR: {
      Leases::Grants grants(leases_, session);
      auto out =
          queries_.readdir(request.getReaddir(), session, sessions_.takesLeases(session), grants);
      addTimes(out, InodeId{request.getReaddir().getIno()});
      co_return sealed(std::move(out), grants);
    }
    case MdsRequest::OPEN:
      co_return co_await open(request, peer);
    case MdsRequest::LEASE:
      co_return co_await lease(request, peer);
    case MdsRequest::LEASE_RETURN:
      co_return leaseReturn(session, request.getLeaseReturn());
    case MdsRequest::LOCK:
      co_return co_await lock(request, peer);
    case MdsRequest::LOCK_TEST:
      co_return co_await lockTest(request, peer);
    case MdsRequest::LOCK_CANCEL:
      locks_.cancel(session, request.getLockCancel());
      co_return none();
    case MdsRequest::LOCK_PROBED: {
      auto probed = request.getLockProbed();
      locks_.probed({session, InodeId{probed.getIno()}, probed.getSerial()});
      co_return none();
    }
    case MdsRequest::RELEASE:
      co_return release(session, request.getRelease());
    case MdsRequest::CHUNKS:
      co_return queries_.chunks(request.getChunks());
    case MdsRequest::CHUNK_LIST:
      co_return queries_.chunkList(request.getChunkList());
    case MdsRequest::REMOVE_LEAKED:
      co_return co_await removeLeaked(request.getRemoveLeaked(), peer);
    case MdsRequest::STATFS:
      co_return statfs();
    case MdsRequest::MAP: {
      OutMessage out;
      auto reply = out.body<schema::MdsReply>().initMap();
      writeMap(MapEpoch{request.getMap()}, options_.clientLease, reply);
      writeNearlyFull(reply);
      co_return out;
    }
    case MdsRequest::KEEPALIVE: {
      OutMessage out;
      auto reply = out.body<schema::MdsReply>().initKeepalive();
      writeMap(MapEpoch{request.getKeepalive().getMapEpoch()}, options_.clientLease, reply);
      writeNearlyFull(reply);
      co_return out;
    }
    case MdsRequest::HEARTBEAT: {
      CO_TRY(co_await osds_.heartbeat(request.getHeartbeat()));
      OutMessage out;
      auto reply = out.body<schema::MdsReply>().initHeartbeat();
      writeMap(MapEpoch{request.getHeartbeat().getMapEpoch()}, options_.osdLease, reply);
      reply.setAdopted(osds_.adopted().value);
      co_return out;
    }
    case MdsRequest::STATUS:
      co_return status();
    case MdsRequest::RESOLVE:
      co_return co_await resolve(request, peer);
    case MdsRequest::SESSION_CLOSE:
      CO_TRY(co_await endSession(session, false));
      co_return none();
    case MdsRequest::RECLAIM:
      co_return reclaim(session, request.getReclaim(), peer);
  }
  co_return fail(Errc::kNotSupported, "this metadata server does not know that request");
}

// ---- queries ----

// Waits until no other session writes the file: until what is known of it here is true.
Task<Result<void>> Server::settle(SessionId session, InodeId ino, RpcPeer& peer,
                                  MaybeClaim& claim) {
  claim.emplace(leases_, callerOf(peer), session, ClaimKind::kAcquireRead,
                std::initializer_list<InodeId>{ino});
  co_return co_await claim->wait();
}

Task<Result<OutMessage>> Server::lookup(MdsRequest::Reader request, RpcPeer& peer) {
  const SessionId session{request.getSession()};
  const InodeId parent{request.getLookup().getParent()};
  auto data = request.getLookup().getName();
  const std::string_view name(reinterpret_cast<const char*>(data.begin()), data.size());
  MaybeClaim claim;
  auto found = state_.lookup(parent, name);
  while (found && leases_.behind(session, *found)) {
    CO_TRY(co_await settle(session, found->ino, peer, claim));
    found = state_.lookup(parent, name);  // another one, perhaps
  }
  Leases::Grants grants(leases_, session);
  auto out = queries_.lookup(parent, found, sessions_.takesLeases(session), grants);
  co_return sealed(std::move(out), grants);
}

Task<Result<OutMessage>> Server::queryInode(MdsRequest::Reader request, InodeId ino,
                                            RpcPeer& peer) {
  const SessionId session{request.getSession()};
  MaybeClaim claim;
  auto inode = state_.inode(ino);
  if (inode && leases_.behind(session, *inode)) {
    CO_TRY(co_await settle(session, ino, peer, claim));
    inode = state_.inode(ino);
  }
  CO_TRY(inode);
  switch (request.which()) {
    case MdsRequest::READLINK: {
      auto out = queries_.readlink(*inode);
      addTimes(out, ino);
      co_return out;
    }
    case MdsRequest::GETXATTR:
      co_return queries_.getxattr(request.getGetxattr());
    case MdsRequest::LISTXATTR:
      co_return queries_.listxattr(ino);
    default: {
      Leases::Grants grants(leases_, session);
      auto out = queries_.attr(*inode, grants);
      co_return sealed(std::move(out), grants);
    }
  }
}

Task<Result<OutMessage>> Server::resolve(MdsRequest::Reader request, RpcPeer& peer) {
  const SessionId session{request.getSession()};
  const std::string_view path(request.getResolve().begin(), request.getResolve().size());
  MaybeClaim claim;
  auto inode = queries_.resolve(path);
  while (inode && leases_.behind(session, *inode)) {
    CO_TRY(co_await settle(session, inode->ino, peer, claim));
    inode = queries_.resolve(path);
  }
  CO_TRY(inode);
  Leases::Grants grants(leases_, session);
  auto out = queries_.entry(*inode, grants);
  co_return sealed(std::move(out), grants);
}

// ---- open files and leases ----

Task<Result<OutMessage>> Server::open(MdsRequest::Reader request, RpcPeer& peer) {
  const SessionId session{request.getSession()};
  const InodeId ino{request.getOpen().getIno()};
  co_await removals_.passed(ino);
  MaybeClaim claim;
  auto inode = state_.inode(ino);
  if (inode && leases_.behind(session, *inode)) {
    CO_TRY(co_await settle(session, ino, peer, claim));
    co_await removals_.passed(ino);
    inode = state_.inode(ino);
  }
  if (!sessions_.alive(session)) co_return fail(Errc::kSessionExpired);
  CO_TRY(inode);
  // An unlinked inode lives for those that had it open, and for nobody else.
  if (inode->nlink == 0 && sessions_.surelyNotHolding(session, ino)) co_return fail(Errc::kStale);
  CO_TRY(sessions_.mayOpen(session));
  sessions_.noteOpen(session, ino);
  Leases::Grants grants(leases_, session);
  auto out = queries_.entry(*inode, grants,
                            request.getOpen().getWrite() ? LeaseMode::kWrite : LeaseMode::kRead);
  co_return sealed(std::move(out), grants);
}

Task<Result<OutMessage>> Server::lease(MdsRequest::Reader request, RpcPeer& peer) {
  const SessionId session{request.getSession()};
  const InodeId ino{request.getLease().getIno()};
  const LeaseMode wanted = request.getLease().getWrite() ? LeaseMode::kWrite : LeaseMode::kRead;
  if (!sessions_.takesLeases(session))
    co_return fail(Errc::kInvalid, "this session did not say that it answers recalls");
  auto inode = state_.inode(ino);
  CO_TRY(inode);
  if (wanted == LeaseMode::kWrite && !inode->isRegular())
    co_return fail(Errc::kInvalid, "only files are leased for writing");
  Leases::Claim claim(
      leases_, callerOf(peer), session,
      wanted == LeaseMode::kWrite ? ClaimKind::kAcquireWrite : ClaimKind::kAcquireRead, {ino});
  if (!claim.ready()) {
    CO_TRY(co_await claim.wait());
    inode = state_.inode(ino);
    CO_TRY(inode);
    if (!sessions_.alive(session)) co_return fail(Errc::kSessionExpired);
  }
  if (inode->nlink == 0 && sessions_.surelyNotHolding(session, ino)) co_return fail(Errc::kStale);
  if (sessions_.isUnreclaimed(session))
    co_return fail(Errc::kInvalid, "a session reclaims what it holds before it asks for more");
  Leases::Grants grants(leases_, session);
  auto out = queries_.entry(*inode, grants, wanted, &claim);
  co_return sealed(std::move(out), grants);
}

Result<OutMessage> Server::leaseReturn(SessionId session,
                                       capnp::List<schema::LeaseReturn>::Reader leases) {
  const TimePoint now = env_.reactor.now();
  for (auto back : leases) leases_.giveBack(session, back, now);
  return none();
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

Result<OutMessage> Server::reclaim(SessionId session, schema::Reclaim::Reader reclaim,
                                   RpcPeer& peer) {
  std::vector<InodeId> open;
  open.reserve(reclaim.getOpen().size());
  for (uint64_t id : reclaim.getOpen()) open.emplace_back(id);
  TRY(reclaimLocks(*peerAt_.at(&peer), session, reclaim));
  const bool leases =
      reclaim.getLeases() || reclaim.getRead().size() != 0 || reclaim.getWrite().size() != 0;
  uint64_t& serial = peerAt_.at(&peer)->reclaimSerial;
  sessions_.reclaim(session, open, leases, false);
  serial = leases_.reclaim(session, reclaim, serial);
  OutMessage out = none();
  out.body<schema::MdsReply>().setLeaseSerial(serial);
  if (reclaim.getLast()) {
    sessions_.reclaim(session, {}, leases, true);
    scope_.spawn(resend(session, leases_.reclaimed(session, std::exchange(serial, 0))));
  }
  orphans_.kick();
  return out;
}

// Runs from the loop: behind the answer to the reclaim.
Task<void> Server::resend(SessionId session, std::vector<Recall> recalls) {
  for (const Recall& recall : recalls) pushRecall(recall);
  locks_.resendProbes(session);
  co_return;
}

void Server::writeMap(MapEpoch known, Duration lease, schema::MapReply::Builder reply) {
  const ClusterMap& map = state_.map();
  reply.setEpoch(map.epoch.value);
  reply.setLeaseMs(static_cast<uint32_t>(lease / 1ms));
  if (known < map.epoch) osds_.currentMap().write(reply.initMap());
}

void Server::writeNearlyFull(schema::MapReply::Builder reply) {
  const auto full = osds_.nearlyFull();
  auto pools = reply.initNearlyFull(static_cast<uint32_t>(full.size()));
  for (uint32_t i = 0; i < pools.size(); ++i) pools.set(i, full[i].value);
}

Task<Result<OutMessage>> Server::removeLeaked(capnp::List<schema::StoredChunk>::Reader suspects,
                                              RpcPeer& peer) {
  std::vector<Suspect> list;
  for (auto s : suspects) list.push_back({ChunkId{s.getChunk()}, PoolId{s.getPool()}});
  auto removed = co_await leaks_.remove(std::move(list), callerOf(peer));
  CO_TRY(removed);
  OutMessage out;
  auto ids = out.body<schema::MdsReply>().initLeaked(static_cast<uint32_t>(removed->size()));
  for (uint32_t i = 0; i < ids.size(); ++i) ids.set(i, (*removed)[i].value);
  co_return out;
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
  Health health = judge(map, [this](OsdId id) { return osds_.downFor(id); }, counts.garbage);
  if (!space_.problem().empty()) health.problems.push_back(space_.problem());
  const ScrubProgress scrub = osds_.scrub();
  if (scrub.unrepairable != 0) {
    health.problems.push_back(std::to_string(scrub.unrepairable) +
                              " chunks have blocks that are damaged in every copy: reading them "
                              "gives EIO");
    if (health.text == "ok") health.text = "degraded";
  }
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
    c.setLeases(static_cast<uint32_t>(leases_.table().heldBy(s.id)));
  }
  std::vector<OsdId> down;
  for (const auto& [id, osd] : map.osds)
    if (!osd.up) down.push_back(id);
  auto downs = reply.initDown(static_cast<uint32_t>(down.size()));
  for (i = 0; i < down.size(); ++i) {
    downs[i].setOsd(down[i].value);
    downs[i].setForMs(static_cast<uint64_t>(osds_.downFor(down[i]) / 1ms));
  }
  const RecoveryProgress recovery = osds_.recovery();
  reply.initRecovery().setChunksLeft(recovery.chunksLeft);
  reply.getRecovery().setBytesLeft(recovery.bytesLeft);
  reply.getRecovery().setBytesPerSec(recovery.bytesPerSec);
  reply.initScrub().setGroupsLeft(scrub.groupsLeft);
  reply.getScrub().setErrorsFound(scrub.errorsFound);
  reply.getScrub().setErrorsRepaired(scrub.errorsRepaired);
  reply.getScrub().setUnrepairable(scrub.unrepairable);
  reply.getScrub().setOldestNs(scrub.oldestNs);
  reply.setInodes(counts.inodes);
  reply.setGarbageChunks(counts.garbage);
  return out;
}

}  // namespace cairn::mds
