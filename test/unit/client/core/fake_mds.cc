#include "test/unit/client/core/fake_mds.h"

#include <sys/stat.h>

#include <algorithm>

namespace cairn::client::test {

namespace {
// The inode of which the mutation needs the write lease, or 0.
uint64_t writerOnly(schema::Mutation::Reader m) {
  switch (m.which()) {
    case schema::Mutation::SETATTR:
      return m.getSetattr().getSetSize() ? m.getSetattr().getIno() : 0;
    case schema::Mutation::ALLOC_CHUNKS:
      return m.getAllocChunks().getIno();
    case schema::Mutation::REMOVE_CHUNKS:
      return m.getRemoveChunks().getIno();
    case schema::Mutation::COMMIT_WRITE:
      return m.getCommitWrite().getIno();
    case schema::Mutation::TAIL_CLEANED:
      return m.getTailCleaned().getIno();
    default:
      return 0;
  }
}

std::string text(capnp::Data::Reader d) {
  return {reinterpret_cast<const char*>(d.begin()), d.size()};
}

FakeMds::AskedLock read(schema::FileLock::Reader l, uint64_t id) {
  return {l.getIno(), l.getOwner(), l.getSpace(), l.getType(), l.getStart(), l.getEnd(), id};
}
}  // namespace

Task<Result<void>> FakeMds::onHello(const Identity& peer) {
  if (peer.peer != 0 && !sessions_.contains(peer.peer)) co_return fail(Errc::kSessionExpired);
  co_return Result<void>{};
}

void FakeMds::pushMap() {
  for (RpcPeer* p : peers_) {
    OutMessage push;
    push.body<schema::MdsPush>().setMapChanged(map.epoch.value);
    p->push(std::move(push));
  }
}

Task<Result<OutMessage>> FakeMds::handle(const InMessage& message, RpcPeer& peer) {
  auto request = message.body<schema::MdsRequest>();
  if (delay != Duration::zero()) co_await sleepFor(reactor_, delay);
  Fault f = fault ? fault(request) : Fault::kNone;
  if (f == Fault::kDropBefore) peer.disconnect();
  if (f == Fault::kRefuse || f == Fault::kDropBefore) co_return fail(Errc::kUnavailable, "fault");
  Answer a = answer(request);
  if (f == Fault::kDropAfter) peer.disconnect();
  if (a.code != Errc::kOk) co_return fail(a.code, "fake");
  OutMessage out;
  auto reply = out.body<schema::MdsReply>();
  if (a.fill)
    a.fill(reply);
  else
    reply.setNone();
  reply.setLeaseSerial(++leaseSerial_);
  auto tell = [this](schema::Attr::Builder a) {
    auto it = leases.find(a.getIno());
    a.setLease(it == leases.end() ? schema::Lease::NONE : it->second);
  };
  if (reply.isAttr()) tell(reply.getAttr());
  if (reply.isEntry()) tell(reply.getEntry().getAttr());
  co_return out;
}

void FakeMds::grant(uint64_t ino, schema::Lease lease) {
  auto& held = leases[ino];
  held = std::max(held, lease);
}

void FakeMds::recall(const std::string& name, bool toRead) {
  for (RpcPeer* p : peers_) {
    OutMessage push;
    auto r = push.body<schema::MdsPush>().initRecall();
    r.setIno(names.at(name));
    r.setSerial(leaseSerial_);
    r.setToRead(toRead);
    p->push(std::move(push));
  }
}

void FakeMds::readByOther(const std::string& name, int64_t atNs) {
  file(name).atimeNs = atNs;
  for (RpcPeer* p : peers_) {
    OutMessage push;
    push.body<schema::MdsPush>().initAccessed(1).set(0, names.at(name));
    p->push(std::move(push));
  }
}

void FakeMds::probeLocks(const std::string& name, uint64_t serial) {
  for (RpcPeer* p : peers_) {
    OutMessage push;
    auto probe = push.body<schema::MdsPush>().initLockProbe();
    probe.setIno(names.at(name));
    probe.setSerial(serial);
    p->push(std::move(push));
  }
}

void FakeMds::grantLock(uint64_t id) {
  for (RpcPeer* p : peers_) {
    OutMessage push;
    auto g = push.body<schema::MdsPush>().initLockGranted();
    g.setId(id);
    g.setSerial(++lockSerial_);
    p->push(std::move(push));
  }
}

FakeMds::Answer FakeMds::answer(schema::MdsRequest::Reader r) {
  auto mapReply = [this](uint64_t known, schema::MapReply::Builder out) {
    out.setEpoch(map.epoch.value);
    out.setLeaseMs(2000);
    if (nearlyFull) out.initNearlyFull(1).set(0, nearlyFull->value);
    if (known < map.epoch.value) map.write(out.initMap());
  };
  if (r.isMutate() && r.getMutate().isSessionOpen()) {
    uint64_t id = lastSession = nextSession_++;
    sessions_[id];
    return {Errc::kOk, [id](auto reply) { reply.setId(id); }};
  }
  auto session = sessions_.find(r.getSession());
  if (session == sessions_.end()) return {Errc::kSessionExpired, {}};
  switch (r.which()) {
    case schema::MdsRequest::MUTATE: {
      auto& answered = session->second;
      ackedBelow = r.getAckedBelow();
      answered.erase(answered.begin(), answered.lower_bound(r.getAckedBelow()));
      if (auto it = answered.find(r.getSeq()); it != answered.end()) {
        ++received["repeated"];
        return it->second;
      }
      return answered[r.getSeq()] = mutate(r.getMutate());
    }
    case schema::MdsRequest::LOOKUP: {
      auto it = names.find(text(r.getLookup().getName()));
      if (it == names.end()) return {};
      grant(it->second, schema::Lease::READ);
      return entry(it->second);
    }
    case schema::MdsRequest::GETATTR:
      grant(r.getGetattr(), schema::Lease::READ);
      return attr(r.getGetattr());
    case schema::MdsRequest::LEASE: {
      const uint64_t ino = r.getLease().getIno();
      if (!files.contains(ino)) return {Errc::kStale, {}};
      ++leaseRequests;
      grant(ino, r.getLease().getWrite() ? schema::Lease::WRITE : schema::Lease::READ);
      return entry(ino);
    }
    case schema::MdsRequest::LEASE_RETURN:
      events_.push_back("mds leases back");
      for (auto back : r.getLeaseReturn()) {
        ++leaseReturns;
        leases.erase(back.getIno());
        if (back.getKeepRead()) leases[back.getIno()] = schema::Lease::READ;
      }
      return {};
    case schema::MdsRequest::OPEN: {
      uint64_t ino = r.getOpen().getIno();
      if (!files.contains(ino)) return {Errc::kStale, {}};
      open.insert(ino);
      grant(ino,
            r.getOpen().getWrite() && openBringsWrite ? schema::Lease::WRITE : schema::Lease::READ);
      events_.push_back("mds open");
      return entry(ino);
    }
    case schema::MdsRequest::RELEASE:
      for (uint64_t ino : r.getRelease()) open.erase(ino);
      events_.push_back("mds release " + std::to_string(r.getRelease().size()));
      return {};
    case schema::MdsRequest::CHUNKS:
      return chunksIn(r.getChunks().getIno(), r.getChunks().getFirst(), r.getChunks().getCount());
    case schema::MdsRequest::MAP: {
      uint64_t known = r.getMap();
      return {Errc::kOk, [=](auto reply) { mapReply(known, reply.initMap()); }};
    }
    case schema::MdsRequest::KEEPALIVE: {
      uint64_t known = r.getKeepalive().getMapEpoch();
      return {Errc::kOk, [=](auto reply) { mapReply(known, reply.initKeepalive()); }};
    }
    case schema::MdsRequest::RECLAIM: {
      std::set<uint64_t> inodes;
      for (uint64_t ino : r.getReclaim().getOpen()) inodes.insert(ino);
      reclaimedRead.clear();
      reclaimedWrite.clear();
      for (uint64_t ino : r.getReclaim().getRead()) reclaimedRead.insert(ino);
      for (uint64_t ino : r.getReclaim().getWrite()) reclaimedWrite.insert(ino);
      reclaimedLocks.clear();
      for (auto l : r.getReclaim().getLocks()) reclaimedLocks.push_back(read(l, 0));
      events_.push_back("mds reclaim " + std::to_string(inodes.size()));
      reclaims.push_back(std::move(inodes));
      return {};
    }
    case schema::MdsRequest::LOCK: {
      auto wanted = r.getLock();
      asked.push_back(read(wanted.getLock(), wanted.getWait() ? wanted.getId() : 0));
      asked.back().gone = wanted.getGone();
      auto outcome = schema::LockReply::Outcome::GRANTED;
      if (onLock) outcome = onLock(AskedLock(asked.back()));
      return {Errc::kOk, [outcome, serial = ++lockSerial_](auto reply) {
                reply.initLock().setOutcome(outcome);
                reply.getLock().setSerial(serial);
              }};
    }
    case schema::MdsRequest::LOCK_CANCEL:
      canceled.push_back(r.getLockCancel());
      if (onCancel) onCancel(r.getLockCancel());
      return {};
    case schema::MdsRequest::LOCK_PROBED:
      probed.push_back(r.getLockProbed().getSerial());
      askedWhenProbed = asked.size();
      return {};
    case schema::MdsRequest::READLINK: {
      const FakeFile& link = files.at(r.getReadlink());
      return {Errc::kOk, [link](auto reply) {
                const auto& to = link.target;
                reply.setData({reinterpret_cast<const kj::byte*>(to.data()), to.size()});
                reply.initTimes().setAtimeNs(link.atimeNs);
                reply.getTimes().setMtimeNs(link.mtimeNs);
                reply.getTimes().setCtimeNs(link.ctimeNs);
              }};
    }
    case schema::MdsRequest::GETXATTR: {
      const auto& xattrs = files.at(r.getGetxattr().getIno()).xattrs;
      auto it = xattrs.find(text(r.getGetxattr().getName()));
      if (it == xattrs.end()) return {Errc::kNoAttribute, {}};
      return {Errc::kOk, [value = it->second](auto reply) {
                reply.setData({reinterpret_cast<const kj::byte*>(value.data()), value.size()});
              }};
    }
    case schema::MdsRequest::SESSION_CLOSE:
      events_.push_back("mds session closed");
      sessions_.erase(session);
      return {};
    default:
      return {Errc::kNotSupported, {}};
  }
}

FakeMds::Answer FakeMds::mutate(schema::Mutation::Reader m) {
  if (refuse)
    if (Errc code = refuse(m); code != Errc::kOk) return {code, {}};
  if (const uint64_t ino = writerOnly(m); ino != 0) {
    auto held = leases.find(ino);
    if (files.contains(ino) && (held == leases.end() || held->second != schema::Lease::WRITE))
      return {Errc::kLeaseLost, {}};
  }
  switch (m.which()) {
    case schema::Mutation::MAKE:
      ++executed["make"];
      return make(m.getMake());
    case schema::Mutation::REMOVE: {
      ++executed["remove"];
      auto it = names.find(text(m.getRemove().getName()));
      if (it == names.end()) return {Errc::kNotFound, {}};
      files[it->second].nlink = 0;
      names.erase(it);
      return {};
    }
    case schema::Mutation::SETXATTR:
      ++executed["setxattr"];
      files.at(m.getSetxattr().getIno()).xattrs[text(m.getSetxattr().getName())] =
          text(m.getSetxattr().getValue());
      return {};
    case schema::Mutation::SETATTR:
      ++executed["setattr"];
      return setattr(m.getSetattr());
    case schema::Mutation::ALLOC_CHUNKS: {
      ++executed["alloc"];
      auto c = m.getAllocChunks();
      auto f = files.find(c.getIno());
      if (f == files.end()) return {Errc::kStale, {}};
      const Pool& pool = map.pools.at(kPool);
      for (uint32_t i = c.getFirst(); i < c.getFirst() + c.getCount(); ++i) {
        const uint32_t n = i - c.getFirst();
        const ChunkId near{n < c.getNear().size() ? c.getNear()[n] : 0};
        auto there = f->second.chunks.find(i);
        if (there != f->second.chunks.end()) {
          if (!near || i * kChunkSize < f->second.size ||
              pool.pgOf(ChunkId{there->second}) == pool.pgOf(near))
            continue;
          ++executed["replaced"];
          dropChunks(f->second, i, uint64_t{i} + 1);
        }
        while (near && pool.pgOf(ChunkId{nextChunk_}) != pool.pgOf(near)) ++nextChunk_;
        f->second.chunks[i] = nextChunk_++;
      }
      ++f->second.changeVersion;
      return chunksIn(c.getIno(), c.getFirst(), c.getCount());
    }
    case schema::Mutation::REMOVE_CHUNKS: {
      ++executed["removeChunks"];
      auto c = m.getRemoveChunks();
      auto f = files.find(c.getIno());
      if (f == files.end()) return {Errc::kStale, {}};
      dropChunks(f->second, c.getFirst(), uint64_t{c.getFirst()} + c.getCount());
      ++f->second.dataVersion;
      ++f->second.changeVersion;
      f->second.mtimeNs = f->second.ctimeNs = tick();
      return attr(c.getIno());
    }
    case schema::Mutation::COMMIT_WRITE: {
      ++executed["commit"];
      auto c = m.getCommitWrite();
      auto f = files.find(c.getIno());
      if (f == files.end()) return {Errc::kStale, {}};
      f->second.size = std::max(f->second.size, c.getSize());
      if (c.getSetMtime()) f->second.mtimeNs = c.getMtimeNs();
      ++f->second.dataVersion;
      ++f->second.changeVersion;
      f->second.ctimeNs = tick();
      events_.push_back("mds commit " + std::to_string(c.getSize()));
      return attr(c.getIno());
    }
    case schema::Mutation::ACCESSED: {
      ++executed["accessed"];
      std::vector<uint64_t> different;
      for (auto a : m.getAccessed().getAccesses()) {
        auto f = files.find(a.getIno());
        if (f != files.end() && a.getTimeNs() > f->second.atimeNs)
          f->second.atimeNs = a.getTimeNs();
        else
          different.push_back(a.getIno());
      }
      events_.push_back("mds accessed " + std::to_string(m.getAccessed().getAccesses().size()));
      return {Errc::kOk, [different](auto reply) {
                auto list = reply.initAccessed(static_cast<uint32_t>(different.size()));
                for (uint32_t i = 0; i < list.size(); ++i) list.set(i, different[i]);
              }};
    }
    case schema::Mutation::TAIL_CLEANED: {
      ++executed["tailCleaned"];
      auto t = m.getTailCleaned();
      auto f = files.find(t.getIno());
      if (f == files.end()) return {Errc::kStale, {}};
      if (f->second.size == t.getSize()) f->second.tailUnclean = false;
      ++f->second.changeVersion;
      return attr(t.getIno());
    }
    default:
      return {Errc::kNotSupported, {}};
  }
}

FakeMds::Answer FakeMds::make(schema::Make::Reader m) {
  std::string name = text(m.getName());
  if (names.contains(name)) return {Errc::kExists, {}};
  uint64_t ino = nextIno_++;
  names[name] = ino;
  FakeFile& f = files[ino];
  f.mode = m.getMode();
  f.uid = m.getUid();
  f.gid = m.getGid();
  f.atimeNs = f.mtimeNs = f.ctimeNs = tick();
  f.target = text(m.getTarget());
  if (m.getOpen()) {
    open.insert(ino);
    grant(ino, schema::Lease::WRITE);
    f.chunks[0] = nextChunk_++;
  }
  return entry(ino);
}

FakeMds::Answer FakeMds::setattr(schema::Setattr::Reader s) {
  auto it = files.find(s.getIno());
  if (it == files.end()) return {Errc::kStale, {}};
  FakeFile& f = it->second;
  int64_t now = tick();
  if (s.getSetSize()) {
    uint64_t size = s.getSize();
    if (size < f.size) {
      dropChunks(f, static_cast<uint32_t>(roundUp(size, kChunkSize) / kChunkSize), UINT32_MAX);
      f.tailUnclean =
          size % kChunkSize != 0 && f.chunks.contains(static_cast<uint32_t>(size / kChunkSize));
    }
    f.size = size;
    f.mtimeNs = now;
    ++f.dataVersion;
  }
  if (s.getSetMode()) f.mode = (f.mode & S_IFMT) | s.getMode();
  if (s.getSetAtime()) f.atimeNs = s.getAtimeNow() ? now : s.getAtimeNs();
  if (s.getSetMtime()) f.mtimeNs = s.getMtimeNow() ? now : s.getMtimeNs();
  f.ctimeNs = now;
  ++f.changeVersion;
  return attr(s.getIno());
}

void FakeMds::dropChunks(FakeFile& f, uint32_t first, uint64_t end) {
  for (auto it = f.chunks.lower_bound(first); it != f.chunks.end() && it->first < end;) {
    if (onChunkGone) onChunkGone(it->second);
    it = f.chunks.erase(it);
  }
}

void FakeMds::writeAttr(uint64_t ino, schema::Attr::Builder a) {
  const FakeFile& f = files.at(ino);
  a.setIno(ino);
  a.setGeneration(1);
  a.setMode(f.mode);
  a.setNlink(f.nlink);
  a.setUid(f.uid);
  a.setGid(f.gid);
  a.setSize(f.size);
  a.setAtimeNs(f.atimeNs);
  a.setMtimeNs(f.mtimeNs);
  a.setCtimeNs(f.ctimeNs);
  a.setPool(kPool.value);
  a.setChunkCount(static_cast<uint32_t>(f.chunks.size()));
  a.setTailUnclean(f.tailUnclean);
  a.setChangeVersion(f.changeVersion);
  a.setDataVersion(f.dataVersion);
  a.setBare(f.xattrs.empty());
}

FakeMds::Answer FakeMds::attr(uint64_t ino) {
  if (!files.contains(ino)) return {Errc::kStale, {}};
  // Frozen: a repetition gets the first answer.
  auto frozen = std::make_shared<capnp::MallocMessageBuilder>();
  writeAttr(ino, frozen->initRoot<schema::Attr>());
  return {Errc::kOk,
          [frozen](auto reply) { reply.setAttr(frozen->getRoot<schema::Attr>().asReader()); }};
}

FakeMds::Answer FakeMds::entry(uint64_t ino) {
  auto frozen = std::make_shared<capnp::MallocMessageBuilder>();
  auto e = frozen->initRoot<schema::Entry>();
  writeAttr(ino, e.initAttr());
  const auto& chunks = files.at(ino).chunks;
  auto end = chunks.lower_bound(16);
  auto list = e.initChunks(static_cast<uint32_t>(std::distance(chunks.begin(), end)));
  uint32_t i = 0;
  for (auto it = chunks.begin(); it != end; ++it, ++i) {
    list[i].setIndex(it->first);
    list[i].setChunk(it->second);
    list[i].setPool(kPool.value);
  }
  return {Errc::kOk,
          [frozen](auto reply) { reply.setEntry(frozen->getRoot<schema::Entry>().asReader()); }};
}

FakeMds::Answer FakeMds::chunksIn(uint64_t ino, uint32_t first, uint32_t count) {
  if (!files.contains(ino)) return {Errc::kStale, {}};
  std::vector<std::pair<uint32_t, uint64_t>> found;
  for (const auto& [index, chunk] : files[ino].chunks)
    if (index >= first && index < first + count) found.emplace_back(index, chunk);
  return {Errc::kOk, [found](auto reply) {
            auto list = reply.initChunks().initChunks(static_cast<uint32_t>(found.size()));
            for (uint32_t i = 0; i < found.size(); ++i) {
              list[i].setIndex(found[i].first);
              list[i].setChunk(found[i].second);
              list[i].setPool(kPool.value);
            }
          }};
}

}  // namespace cairn::client::test
