// Changes: from a request to a command in the log, and back to an answer.
#include <algorithm>
#include <optional>

#include "mds/cluster/placement.h"
#include "mds/server/server.h"
#include "mds/server/status.h"

namespace cairn::mds {
namespace {

using schema::Mutation;

std::string_view view(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

// The names that a mutation binds or unbinds, and the one whose inode may lose its last name.
struct Names {
  std::vector<std::string> keys;  // of NameLocks, sorted, each once
  struct Name {
    InodeId parent;
    std::string_view name;
  };
  std::optional<Name> victim;
  std::optional<Name> moved;  // rename: what gets another name
  std::optional<Name> exchanged;
};

constexpr uint32_t kRenameExchange = 2;

Names namesOf(Mutation::Reader m) {
  Names n;
  auto add = [&n](uint64_t parent, capnp::Data::Reader name) {
    n.keys.push_back(NameLocks::key(InodeId{parent}, view(name)));
  };
  auto nameOf = [](uint64_t parent, capnp::Data::Reader name) {
    return Names::Name{InodeId{parent}, view(name)};
  };
  switch (m.which()) {
    case Mutation::MAKE:
      if (!m.getMake().getUnnamed()) add(m.getMake().getParent(), m.getMake().getName());
      break;
    case Mutation::LINK:
      add(m.getLink().getParent(), m.getLink().getName());
      break;
    case Mutation::REMOVE:
      add(m.getRemove().getParent(), m.getRemove().getName());
      n.victim = nameOf(m.getRemove().getParent(), m.getRemove().getName());
      break;
    case Mutation::RENAME: {
      auto r = m.getRename();
      add(r.getParent(), r.getName());
      add(r.getNewParent(), r.getNewName());
      n.moved = nameOf(r.getParent(), r.getName());
      auto& target = (r.getFlags() & kRenameExchange) == 0 ? n.victim : n.exchanged;
      target = nameOf(r.getNewParent(), r.getNewName());
      break;
    }
    default:
      break;
  }
  std::sort(n.keys.begin(), n.keys.end());
  n.keys.erase(std::unique(n.keys.begin(), n.keys.end()), n.keys.end());
  return n;
}

// The inodes whose attributes or names a mutation changes, as far as the request names them.
// `directory` binds or unbinds names.
struct Changed {
  InodeId directory, otherDirectory, inode;
};

Changed changedBy(Mutation::Reader m) {
  switch (m.which()) {
    case Mutation::MAKE:
      if (m.getMake().getUnnamed()) return {};
      return {InodeId{m.getMake().getParent()}, {}, {}};
    case Mutation::LINK:
      return {InodeId{m.getLink().getParent()}, {}, InodeId{m.getLink().getIno()}};
    case Mutation::REMOVE:
      return {InodeId{m.getRemove().getParent()}, {}, {}};
    case Mutation::RENAME:
      return {InodeId{m.getRename().getParent()}, InodeId{m.getRename().getNewParent()}, {}};
    case Mutation::SETATTR:
      return {{}, {}, InodeId{m.getSetattr().getIno()}};
    case Mutation::SETXATTR:
      return {{}, {}, InodeId{m.getSetxattr().getIno()}};
    case Mutation::REMOVEXATTR:
      return {{}, {}, InodeId{m.getRemovexattr().getIno()}};
    case Mutation::SET_LAYOUT:
      return {{}, {}, InodeId{m.getSetLayout().getIno()}};
    case Mutation::ALLOC_CHUNKS:
      return {{}, {}, InodeId{m.getAllocChunks().getIno()}};
    case Mutation::REMOVE_CHUNKS:
      return {{}, {}, InodeId{m.getRemoveChunks().getIno()}};
    case Mutation::COMMIT_WRITE:
      return {{}, {}, InodeId{m.getCommitWrite().getIno()}};
    case Mutation::TAIL_CLEANED:
      return {{}, {}, InodeId{m.getTailCleaned().getIno()}};
    default:
      return {};
  }
}

// What only the holder of a write lease may send. It waits for nobody: a holder that is recalled
// has to finish.
bool isHolders(Mutation::Reader m) {
  switch (m.which()) {
    case Mutation::SETATTR:
      return m.getSetattr().getSetSize();
    case Mutation::ALLOC_CHUNKS:
    case Mutation::REMOVE_CHUNKS:
    case Mutation::COMMIT_WRITE:
    case Mutation::TAIL_CLEANED:
      return true;
    default:
      return false;
  }
}

// Changes that no session makes; a session that such a request names plays no part.
bool isOutsideSessions(Mutation::Which which) {
  return which == Mutation::SESSION_OPEN || which == Mutation::OSD_REGISTER ||
         which == Mutation::POOL_CREATE || which == Mutation::OSD_SET ||
         which == Mutation::OSD_REMOVE || which == Mutation::POOL_SET ||
         which == Mutation::POOL_REMOVE || which == Mutation::REBALANCE_PAUSE;
}

// What the map takes in a message, about. It travels whole, so it has to fit one.
constexpr size_t kMaxMapBytes = 768u << 10;

size_t mapBytes(const ClusterMap& map) {
  constexpr size_t kOsdBytes = 136, kPoolBytes = 64;
  size_t bytes = 0;
  for (const auto& [id, osd] : map.osds)
    bytes += kOsdBytes + osd.addr.size() + osd.host.size() + osd.rack.size();
  for (const auto& [id, pool] : map.pools)
    bytes += kPoolBytes + pool.name.size() + pool.pgs.size() * groupBytes(pool);
  return bytes;
}

Result<void> checkMapFits(const ClusterMap& map, Mutation::Reader m) {
  size_t more = 0;
  if (m.isPoolCreate()) {
    auto p = m.getPoolCreate();
    Pool pool;
    pool.replicas = p.getReplicas();
    pool.ecData = p.getEcData();
    pool.ecParity = p.getEcParity();
    pool.deviceClass = p.getDeviceClass();
    pool.anyClass = p.getAnyClass();
    more = (p.getPgCount() != 0 ? p.getPgCount() : choosePgCount(map, pool)) * groupBytes(pool);
  } else if (m.isPoolSet()) {
    auto set = m.getPoolSet();
    const Pool* pool = map.poolByName(std::string_view(set.getName().cStr(), set.getName().size()));
    if (pool != nullptr && set.getSetReplicas() && set.getReplicas() > pool->replicas) {
      Pool wider;
      wider.replicas = set.getReplicas();
      if (!pool->erasureCoded()) more = pool->pgs.size() * (groupBytes(wider) - groupBytes(*pool));
    }
  } else if (m.isOsdRegister()) {
    more = 256;
  }
  if (more == 0 || mapBytes(map) + more <= kMaxMapBytes) return {};
  return fail(Errc::kNoSpace,
              "the cluster map has no room for that: it grows with OSDs, pools and their placement "
              "groups; make pools with fewer groups");
}

uint64_t idOf(const std::string& reply) {
  FlatReader reader({reinterpret_cast<const uint8_t*>(reply.data()), reply.size()});
  auto r = reader.root<schema::MdsReply>();
  return r.isId() ? r.getId() : 0;
}

}  // namespace

// Data can be stored only once the pool's groups have OSDs.
Result<void> Server::checkPlaced(Mutation::Reader m) {
  InodeId ino;
  if (m.isAllocChunks()) ino = InodeId{m.getAllocChunks().getIno()};
  if (m.isMake() && m.getMake().getOpen()) ino = InodeId{m.getMake().getParent()};
  if (!ino) return {};
  auto inode = state_.inode(ino);
  if (!inode || placed_.contains(inode->pool)) return {};
  return fail(Errc::kUnavailable, whyNotPlaced(state_.map(), state_.map().pool(inode->pool)));
}

Task<Result<OutMessage>> Server::mutate(schema::MdsRequest::Reader request, RpcPeer& peer) {
  auto m = request.getMutate();
  if (m.isAccessed()) co_return co_await accessed(request);
  if (m.isGroupReport()) co_return co_await groupReport(m, peer);
  CO_TRY(checkPlaced(m));
  CO_TRY(checkMapFits(state_.map(), m));
  if (m.isSessionOpen() && sessions_.size() >= Sessions::kMaxSessions)
    co_return fail(Errc::kBusyTryLater, "there are too many clients: end some");
  if (m.isMake() && m.getMake().getOpen())
    CO_TRY(sessions_.mayOpen(SessionId{request.getSession()}));
  const SessionId session{isOutsideSessions(m.which()) ? 0 : request.getSession()};
  const bool takesLeases = sessions_.takesLeases(session);
  // One that was done before is not done again: it changes nothing, and needs no lease any more.
  const bool repeated = request.getSeq() != 0 && state_.remembers(session, request.getSeq());
  if (!repeated) CO_TRY(space_.admits(m));
  if (takesLeases) CO_TRY(checkWriteLease(request, repeated));
  Names names = namesOf(m);
  std::vector<NameLocks::Guard> locks;
  for (std::string& key : names.keys) {
    auto lock = co_await names_.lock(std::move(key), callerOf(peer));
    CO_TRY(lock);
    locks.push_back(std::move(*lock));
  }
  // No such name: the state machine says so, or gives the answer of the first time.
  auto inodeOf = [this](const std::optional<Names::Name>& name) {
    if (!name) return InodeId{};
    auto found = state_.lookup(name->parent, name->name);
    return found ? found->ino : InodeId{};
  };
  const InodeId victim = inodeOf(names.victim);
  const Changed changed = changedBy(m);
  MaybeClaim claim;
  // (Sessions without leases need none to be a holder; what they do is a change like others.)
  if (!repeated && (changed.directory || changed.inode) && !(takesLeases && isHolders(m))) {
    const InodeId second = names.exchanged ? inodeOf(names.exchanged) : victim;
    claim.emplace(leases_, callerOf(peer), session, ClaimKind::kChange,
                  std::initializer_list<InodeId>{
                      changed.directory, changed.otherDirectory,
                      changed.inode ? changed.inode : inodeOf(names.moved), second});
    if (!claim->ready()) CO_TRY(co_await claim->wait());
  }
  // Nothing but the log is waited for from here on.
  RemovalGate::Guard removal;
  std::vector<SessionId> openBy;
  if (victim) {
    removal = removals_.enter(victim);
    openBy = sessions_.mayHold(victim);
  }

  constexpr size_t kAddressWords = 64;
  Draft draft(m.totalSize().wordCount + openBy.size() + kAddressWords);
  auto command = draft.command();
  if (!isOutsideSessions(m.which())) {
    command.setSession(session.value);
    command.setSeq(request.getSeq());
    command.setAckedBelow(request.getAckedBelow());
  }
  command.setMutation(m);
  if (m.isSessionOpen() && m.getSessionOpen().getAddr().size() == 0)
    command.getMutation().getSessionOpen().setAddr(peer.address().substr(0, 128));
  if (!openBy.empty()) {
    auto list = command.initOpenBy(static_cast<uint32_t>(openBy.size()));
    for (uint32_t i = 0; i < openBy.size(); ++i) list.set(i, openBy[i].value);
  }
  auto reply = co_await proposer_.propose(std::move(draft));
  CO_TRY(reply);
  if (m.isSessionOpen()) {
    const SessionId opened{idOf(*reply)};
    peerAt_.at(&peer)->session = opened;
    peerOf_[opened] = &peer;
  }
  if (m.isOsdRegister()) peerAt_.at(&peer)->osd = OsdId{static_cast<uint32_t>(idOf(*reply))};
  if (victim) forgetIfGone(victim);
  if (!takesLeases) co_return answerOf(*reply);
  const bool forWriting = m.isMake() && m.getMake().getOpen();
  co_return answerWithLeases(*reply, session, repeated,
                             forWriting ? LeaseMode::kWrite : LeaseMode::kRead);
}

// An OSD speaks for itself: as the one that the connection registered or greeted as.
Task<Result<OutMessage>> Server::groupReport(Mutation::Reader m, RpcPeer& peer) {
  const OsdId reporter = peerAt_.at(&peer)->osd;
  if (!reporter) co_return fail(Errc::kPermission, "only registered OSDs report of groups");
  CO_TRY(co_await reports_.report(reporter, m.getGroupReport()));
  co_return answerOf({});
}

// kLeaseLost: the change is a write lease's holder's, and the session is none.
Result<void> Server::checkWriteLease(schema::MdsRequest::Reader request, bool repeated) {
  auto m = request.getMutate();
  if (repeated || !isHolders(m)) return {};
  const InodeId ino = changedBy(m).inode;
  if (leases_.held(SessionId{request.getSession()}, ino) == LeaseMode::kWrite) return {};
  if (!state_.inode(ino)) return {};  // the state machine says what is wrong
  return fail(Errc::kLeaseLost,
              "inode " + std::to_string(ino.value) + " is not leased to this session for writing");
}

// The answer of the state machine was made when the change was applied, perhaps long ago. What it
// says of an inode is made true of now, and what this session is granted goes along.
Result<OutMessage> Server::answerWithLeases(const std::string& reply, SessionId session,
                                            bool repeated, LeaseMode wanted) {
  OutMessage out = answerOf(reply);
  auto body = out.header().getBody().getAs<schema::MdsReply>();
  if (!body.isEntry() && !body.isAttr()) return out;
  auto attr = body.isEntry() ? body.getEntry().getAttr() : body.getAttr();
  auto inode = state_.inode(InodeId{attr.getIno()});
  if (!inode) return out;  // removed since: as it was, and no lease
  Leases::Grants grants(leases_, session);
  if (body.isEntry() && repeated)
    TRY(queries_.writeEntry(body.initEntry(), *inode, grants, wanted));
  else
    grants.attr(*inode, attr, wanted);
  if (grants.serial() != 0) body.setLeaseSerial(grants.serial());
  return out;
}

void Server::forgetIfGone(InodeId ino) {
  const bool leased = leases_.table().anybodyHolds(ino), locked = locks_.table().anyOn(ino);
  if ((!leased && !locked) || state_.inode(ino)) return;
  if (leased) leases_.dropInode(ino);
  if (locked) locks_.dropInode(ino);
}

Task<Result<void>> Server::endSession(SessionId session, bool expired) {
  Draft draft;
  auto end = draft.mutation().initSessionEnd();
  end.setSession(session.value);
  end.setExpired(expired);
  auto done = co_await proposer_.propose(std::move(draft));
  CO_TRY(done);
  co_return Result<void>{};
}

}  // namespace cairn::mds
