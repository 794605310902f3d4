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
  struct Victim {
    InodeId parent;
    std::string_view name;
  };
  std::optional<Victim> victim;
};

constexpr uint32_t kRenameExchange = 2;

Names namesOf(Mutation::Reader m) {
  Names n;
  auto add = [&n](uint64_t parent, capnp::Data::Reader name) {
    n.keys.push_back(NameLocks::key(InodeId{parent}, view(name)));
  };
  auto setVictim = [&n](uint64_t parent, capnp::Data::Reader name) {
    n.victim = Names::Victim{InodeId{parent}, view(name)};
  };
  switch (m.which()) {
    case Mutation::MAKE:
      add(m.getMake().getParent(), m.getMake().getName());
      break;
    case Mutation::LINK:
      add(m.getLink().getParent(), m.getLink().getName());
      break;
    case Mutation::REMOVE:
      add(m.getRemove().getParent(), m.getRemove().getName());
      setVictim(m.getRemove().getParent(), m.getRemove().getName());
      break;
    case Mutation::RENAME: {
      auto r = m.getRename();
      add(r.getParent(), r.getName());
      add(r.getNewParent(), r.getNewName());
      if ((r.getFlags() & kRenameExchange) == 0) setVictim(r.getNewParent(), r.getNewName());
      break;
    }
    default:
      break;
  }
  std::sort(n.keys.begin(), n.keys.end());
  n.keys.erase(std::unique(n.keys.begin(), n.keys.end()), n.keys.end());
  return n;
}

// Changes that no session makes; a session that such a request names plays no part.
bool isOutsideSessions(Mutation::Which which) {
  return which == Mutation::SESSION_OPEN || which == Mutation::OSD_REGISTER ||
         which == Mutation::OSD_STATE || which == Mutation::POOL_CREATE;
}

// What the map takes in a message, about. It travels whole, so it has to fit one.
constexpr size_t kMaxMapBytes = 768u << 10;

size_t groupsBytes(uint64_t groups, size_t width) {
  constexpr size_t kPgBytes = 24;
  return groups * (kPgBytes + roundUp(width * sizeof(uint32_t), 8));
}

size_t mapBytes(const ClusterMap& map) {
  constexpr size_t kOsdBytes = 136, kPoolBytes = 64;
  size_t bytes = 0;
  for (const auto& [id, osd] : map.osds)
    bytes += kOsdBytes + osd.addr.size() + osd.host.size() + osd.rack.size();
  for (const auto& [id, pool] : map.pools)
    bytes += kPoolBytes + pool.name.size() + groupsBytes(pool.pgs.size(), pool.width());
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
    more =
        groupsBytes(p.getPgCount() != 0 ? p.getPgCount() : choosePgCount(map, pool), pool.width());
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
  CO_TRY(checkPlaced(m));
  CO_TRY(checkMapFits(state_.map(), m));
  if (m.isSessionOpen() && sessions_.size() >= Sessions::kMaxSessions)
    co_return fail(Errc::kBusyTryLater, "there are too many clients: end some");
  if (m.isMake() && m.getMake().getOpen())
    CO_TRY(sessions_.mayOpen(SessionId{request.getSession()}));
  Names names = namesOf(m);
  std::vector<NameLocks::Guard> locks;
  for (std::string& key : names.keys) locks.push_back(co_await names_.lock(std::move(key)));
  RemovalGate::Guard removal;
  std::vector<SessionId> openBy;
  if (names.victim) {
    // No such name: the state machine says so, or gives the answer of the first time.
    if (auto victim = state_.lookup(names.victim->parent, names.victim->name)) {
      removal = removals_.enter(victim->ino);
      openBy = sessions_.mayHold(victim->ino);
    }
  }

  constexpr size_t kAddressWords = 64;
  Draft draft(m.totalSize().wordCount + openBy.size() + kAddressWords);
  auto command = draft.command();
  if (!isOutsideSessions(m.which())) {
    command.setSession(request.getSession());
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
    if (auto it = peerAt_.find(&peer); it != peerAt_.end())
      it->second->session = SessionId{idOf(*reply)};
  }
  if (m.isOsdRegister()) osds_.registered(OsdId{static_cast<uint32_t>(idOf(*reply))});
  co_return answerOf(*reply);
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
