#include "test/unit/mds/server/lease_client.h"

#include <algorithm>

namespace cairn::mds::test {

LeaseClient::LeaseClient(sim::SimWorld& w, const std::string& host)
    : Client(w, host), stop_(std::make_shared<Event>(node.reactor())) {}

LeaseClient::~LeaseClient() {
  stop_->set();
  rpc->disconnect();
  world.await(node, rpc->close());
  world.drain(node);
}

Got LeaseClient::openSession() {
  auto got = call([](auto r) {
    auto open = r.initMutate().initSessionOpen();
    open.setMount("/mnt");
    open.setLeases(true);
  });
  if (got.result) {
    session = got.reply().getId();
    rpc->setIdentity({schema::Hello::Role::CLIENT, kCluster, session});
    rpc->disconnect();
    node.spawn(keepAlive(stop_));
    REQUIRE(ask([](auto r) { r.initKeepalive(); }).code() == Errc::kOk);
  }
  return got;
}

void LeaseClient::die() {
  dead_ = true;
  answers = false;
  stop_->set();
  rpc->disconnect();
}

Task<void> LeaseClient::keepAlive(std::shared_ptr<Event> stop) {
  while (!co_await stop->waitFor(500ms)) {
    OutMessage m;
    auto r = m.body<schema::MdsRequest>();
    r.setSession(session);
    r.initKeepalive();
    (void)co_await rpc->call(std::move(m), 1s);
  }
}

Task<Result<void>> LeaseClient::onConnect(RpcClient& client) {
  if (dead_) co_return fail(Errc::kUnavailable, "dead");
  if (session == 0) co_return Result<void>{};
  OutMessage m;
  auto r = m.body<schema::MdsRequest>();
  r.setSession(session);
  auto reclaim = r.initReclaim();
  reclaim.setLeases(true);
  reclaim.setLast(true);
  std::vector<InodeId> read, write;
  for (auto& [ino, h] : held) (h.mode == LeaseMode::kWrite ? write : read).push_back(ino);
  auto fill = [](auto list, const auto& from) {
    uint32_t i = 0;
    for (InodeId ino : from) list.set(i++, ino.value);
  };
  fill(reclaim.initRead(static_cast<uint32_t>(read.size())), read);
  fill(reclaim.initWrite(static_cast<uint32_t>(write.size())), write);
  fill(reclaim.initOpen(static_cast<uint32_t>(opens.size())), opens);
  addToReclaim(reclaim);
  auto got = co_await client.callNow(std::move(m), 1s);
  CO_TRY(got);
  const uint64_t serial = got->body<schema::MdsReply>().getLeaseSerial();
  for (InodeId ino : read)
    if (held.contains(ino)) held[ino].serial = serial;
  for (InodeId ino : write)
    if (held.contains(ino)) held[ino].serial = serial;
  ++reclaims;
  co_return Result<void>{};
}

void LeaseClient::granted(InodeId ino, LeaseMode mode, uint64_t serial) {
  if (mode == LeaseMode::kNone) return;  // nothing is granted, and nothing taken
  Held& h = held[ino];
  h.mode = std::max(h.mode, mode);
  h.serial = std::max(h.serial, serial);
}

void LeaseClient::noteAttr(schema::Attr::Reader attr, uint64_t serial) {
  if (attr.getIno() == 0) return;
  const InodeId ino{attr.getIno()};
  granted(ino, static_cast<LeaseMode>(attr.getLease()), serial);
  if (attr.getLease() != schema::Lease::NONE) held[ino].version = attr.getChangeVersion();
}

void LeaseClient::onAnswer(schema::MdsRequest::Reader request, const Got& got) {
  if (!got.result) return;
  auto body = got.result->body<schema::MdsReply>();
  barrier = std::max(barrier, body.getBarrier());
  const uint64_t serial = body.getLeaseSerial();
  if (body.isEntry()) noteAttr(body.getEntry().getAttr(), serial);
  if (body.isAttr()) noteAttr(body.getAttr(), serial);
  if (body.isReaddir())
    for (auto e : body.getReaddir().getEntries()) noteAttr(e.getAttr(), serial);
  if (!body.getDirLease()) return;
  if (request.isReaddir())
    granted(InodeId{request.getReaddir().getIno()}, LeaseMode::kRead, serial);
  if (request.isLookup()) {
    const InodeId dir{request.getLookup().getParent()};
    granted(dir, LeaseMode::kRead, serial);
    auto name = request.getLookup().getName().asChars();
    held[dir].names[std::string(name.begin(), name.size())] =
        body.isNone() ? InodeId{} : InodeId{body.getEntry().getAttr().getIno()};
  }
}

// A push is told before the replies that came with it are: it waits its turn.
void LeaseClient::onRecall(schema::Recall::Reader recall) {
  node.spawn(answer({InodeId{recall.getIno()}, recall.getSerial(), recall.getToRead()}));
}

Task<void> LeaseClient::answer(Recalled recall) {
  recalls.push_back(recall);
  while (uses_[recall.ino] > 0) co_await sleepFor(env.reactor, 100us);
  uint64_t serial = recall.serial;
  if (auto it = held.find(recall.ino); it != held.end()) {
    serial = it->second.serial = std::max(it->second.serial, recall.serial);
    if (!answers) co_return;
    if (recall.toRead)
      it->second.mode = LeaseMode::kRead;
    else
      held.erase(it);
  }
  if (!answers) co_return;
  OutMessage m;
  auto r = m.body<schema::MdsRequest>();
  r.setSession(session);
  auto back = r.initLeaseReturn(1)[0];
  back.setIno(recall.ino.value);
  back.setSerial(serial);
  back.setKeepRead(recall.toRead);
  (void)co_await rpc->call(std::move(m), 5s);
}

Got LeaseClient::lease(InodeId ino, bool write) {
  return ask([&](auto r) {
    auto lease = r.initLease();
    lease.setIno(ino.value);
    lease.setWrite(write);
  });
}
Client::Slot LeaseClient::startLease(InodeId ino, bool write) {
  return startAsk([&](auto r) {
    auto lease = r.initLease();
    lease.setIno(ino.value);
    lease.setWrite(write);
  });
}
Got LeaseClient::openFor(InodeId ino, bool write) {
  return ask([&](auto r) {
    auto open = r.initOpen();
    open.setIno(ino.value);
    open.setWrite(write);
  });
}
Got LeaseClient::readdirPlus(InodeId dir) {
  return ask([&](auto r) {
    auto d = r.initReaddir();
    d.setIno(dir.value);
    d.setLimit(1000);
    d.setPlus(true);
  });
}
Got LeaseClient::giveBack(InodeId ino, bool keepRead) {
  const uint64_t serial = held[ino].serial;
  if (keepRead)
    held[ino].mode = LeaseMode::kRead;
  else
    held.erase(ino);
  return giveBackAs(ino, serial, keepRead);
}
Got LeaseClient::giveBackAs(InodeId ino, uint64_t serial, bool keepRead) {
  return ask([&](auto r) {
    auto back = r.initLeaseReturn(1)[0];
    back.setIno(ino.value);
    back.setSerial(serial);
    back.setKeepRead(keepRead);
  });
}

}  // namespace cairn::mds::test
