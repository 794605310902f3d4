#include "client/core/mds_ops.h"

#include "client/core/decode.h"
#include "client/core/mds_codec.h"

namespace cairn::client {

void MdsOps::enter(const ServerAttr& attr) {
  leases_.granted(attr.ino, attr.lease, attr.leaseSerial, S_ISDIR(attr.mode));
  leases_.learnBare(attr.ino, attr.bare);
}

Result<ServerAttr> MdsOps::enter(Result<ServerAttr> attr) {
  if (attr) enter(*attr);
  return attr;
}

Result<ServerEntry> MdsOps::enter(Result<ServerEntry> entry) {
  if (entry) enter(entry->attr);
  return entry;
}

// Every Fill below refers to its coroutine's own parameters, which live as long as the call.
using Request = schema::MdsRequest::Builder;

Task<Result<ServerAttr>> MdsOps::lookup(InodeId parent, std::string name) {
  auto reply = co_await session_.query([&](Request r) {
    auto lookup = r.initLookup();
    lookup.setParent(parent.value);
    lookup.setName(bytes(name));
  });
  CO_TRY(reply);
  auto found = decode(*reply, [&](const InMessage& m) -> Result<ServerEntry> {
    auto body = m.body<schema::MdsReply>();
    if (body.getDirLease()) leases_.granted(parent, LeaseMode::kRead, body.getLeaseSerial(), true);
    if (body.isNone()) return fail(Errc::kNotFound);
    return readEntryReply(m);
  });
  auto entry = enter(std::move(found));
  CO_TRY(entry);
  co_return entry->attr;
}

Task<Result<ServerAttr>> MdsOps::getattr(InodeId ino) {
  auto reply = co_await session_.query([ino](Request r) { r.setGetattr(ino.value); });
  CO_TRY(reply);
  co_return enter(decode(*reply, readAttrReply));
}

Task<Result<ServerAttr>> MdsOps::setattr(InodeId ino, AttrChange change) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto s = r.initMutate().initSetattr();
        s.setIno(ino.value);
        if (change.mode) {
          s.setSetMode(true);
          s.setMode(*change.mode);
        }
        if (change.uid) {
          s.setSetUid(true);
          s.setUid(*change.uid);
        }
        if (change.gid) {
          s.setSetGid(true);
          s.setGid(*change.gid);
        }
        if (change.size) {
          s.setSetSize(true);
          s.setSize(*change.size);
        }
        if (change.atime) {
          s.setSetAtime(true);
          s.setAtimeNow(change.atime->now);
          s.setAtimeNs(change.atime->ns);
        }
        if (change.mtime) {
          s.setSetMtime(true);
          s.setMtimeNow(change.mtime->now);
          s.setMtimeNs(change.mtime->ns);
        }
        s.setClearSuid(change.clearSuid);
      },
      Repeat::kNever);
  CO_TRY(reply);
  co_return enter(decode(*reply, readAttrReply));
}

Task<Result<ServerEntry>> MdsOps::make(MakeRequest what) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initMake();
        m.setParent(what.parent.value);
        m.setName(bytes(what.name));
        m.setMode(what.mode);
        m.setUid(what.uid);
        m.setGid(what.gid);
        m.setRdev(what.rdev);
        m.setTarget(bytes(what.target));
        m.setOpen(what.open);
        m.setUmask(what.umask);
        m.setUnnamed(what.unnamed);
      },
      Repeat::kNever);
  CO_TRY(reply);
  co_return enter(decode(*reply, readEntryReply));
}

Task<Result<ServerAttr>> MdsOps::link(InodeId ino, InodeId parent, std::string name) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto l = r.initMutate().initLink();
        l.setIno(ino.value);
        l.setParent(parent.value);
        l.setName(bytes(name));
      },
      Repeat::kNever);
  CO_TRY(reply);
  auto entry = enter(decode(*reply, readEntryReply));
  CO_TRY(entry);
  co_return entry->attr;
}

Task<Result<void>> MdsOps::remove(InodeId parent, std::string name, bool directory) {
  CO_TRY(co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initRemove();
        m.setParent(parent.value);
        m.setName(bytes(name));
        m.setDirectory(directory);
      },
      Repeat::kNever));
  co_return Result<void>{};
}

Task<Result<void>> MdsOps::rename(InodeId parent, std::string name, InodeId newParent,
                                  std::string newName, uint32_t flags) {
  CO_TRY(co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initRename();
        m.setParent(parent.value);
        m.setName(bytes(name));
        m.setNewParent(newParent.value);
        m.setNewName(bytes(newName));
        m.setFlags(flags);
      },
      Repeat::kNever));
  co_return Result<void>{};
}

Task<Result<LinkTarget>> MdsOps::readlink(InodeId ino) {
  auto reply = co_await session_.query([ino](Request r) { r.setReadlink(ino.value); });
  CO_TRY(reply);
  co_return decode(*reply, [ino](const InMessage& m) -> Result<LinkTarget> {
    auto path = readDataReply(m);
    TRY(path);
    return LinkTarget{std::move(*path),
                      readTimes(ino, S_IFLNK, m.body<schema::MdsReply>().getTimes())};
  });
}

Task<Result<ServerPage>> MdsOps::readdir(InodeId dir, uint64_t cookie, uint32_t limit, bool plus) {
  auto reply = co_await session_.query([=](Request r) {
    auto q = r.initReaddir();
    q.setIno(dir.value);
    q.setCookie(cookie);
    q.setLimit(limit);
    q.setPlus(plus);
  });
  CO_TRY(reply);
  co_return decode(*reply, [&](const InMessage& m) -> Result<ServerPage> {
    auto body = m.body<schema::MdsReply>();
    if (!body.isReaddir()) return fail(Errc::kBadMessage, "the MDS answered another question");
    const uint64_t serial = body.getLeaseSerial();
    if (body.getDirLease()) leases_.granted(dir, LeaseMode::kRead, serial, true);
    ServerPage out;
    for (auto e : body.getReaddir().getEntries()) {
      DirEntry entry;
      entry.name = text(e.getName());
      entry.ino = InodeId{e.getIno()};
      entry.type = e.getType();
      entry.cookie = e.getCookie();
      out.page.entries.push_back(std::move(entry));
      if (plus) {
        ServerAttr attr = readAttr(e.getAttr());
        attr.leaseSerial = serial;
        if (attr.ino) enter(attr);
        out.attrs.push_back(std::move(attr));
      }
    }
    out.page.end = body.getReaddir().getEnd();
    out.directory = readTimes(dir, S_IFDIR, body.getTimes());
    return out;
  });
}

Task<Result<std::string>> MdsOps::getxattr(InodeId ino, std::string name) {
  auto reply = co_await session_.query([&](Request r) {
    auto q = r.initGetxattr();
    q.setIno(ino.value);
    q.setName(bytes(name));
  });
  CO_TRY(reply);
  co_return decode(*reply, readDataReply);
}

Task<Result<std::vector<std::string>>> MdsOps::listxattr(InodeId ino) {
  auto reply = co_await session_.query([ino](Request r) { r.setListxattr(ino.value); });
  CO_TRY(reply);
  auto data = decode(*reply, readDataReply);
  CO_TRY(data);
  std::vector<std::string> names;
  for (size_t at = 0; at < data->size();) {
    size_t zero = data->find('\0', at);
    if (zero == std::string::npos) co_return fail(Errc::kBadMessage, "an attribute name is cut");
    names.push_back(data->substr(at, zero - at));
    at = zero + 1;
  }
  co_return names;
}

Task<Result<void>> MdsOps::setxattr(InodeId ino, std::string name, std::string value,
                                    uint32_t flags, bool dropSgid) {
  CO_TRY(co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initSetxattr();
        m.setIno(ino.value);
        m.setName(bytes(name));
        m.setValue(bytes(value));
        m.setFlags(flags);
        m.setDropSgid(dropSgid);
      },
      Repeat::kNever));
  co_return Result<void>{};
}

Task<Result<void>> MdsOps::removexattr(InodeId ino, std::string name) {
  CO_TRY(co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initRemovexattr();
        m.setIno(ino.value);
        m.setName(bytes(name));
      },
      Repeat::kNever));
  co_return Result<void>{};
}

Task<Result<Capacity>> MdsOps::statfs() {
  auto reply = co_await session_.query([](Request r) { r.setStatfs(); });
  CO_TRY(reply);
  co_return decode(*reply, [](const InMessage& m) -> Result<Capacity> {
    auto body = m.body<schema::MdsReply>();
    if (!body.isStatfs()) return fail(Errc::kBadMessage, "the MDS answered another question");
    auto s = body.getStatfs();
    return Capacity{s.getBytesTotal(), s.getBytesFree(), s.getInodes(), s.getInodesFree()};
  });
}

Task<Result<ServerEntry>> MdsOps::open(InodeId ino, bool write) {
  auto reply = co_await session_.query([=](Request r) {
    auto open = r.initOpen();
    open.setIno(ino.value);
    open.setWrite(write);
  });
  CO_TRY(reply);
  co_return enter(decode(*reply, readEntryReply));
}

Task<Result<ServerEntry>> MdsOps::lease(InodeId ino, bool write) {
  auto reply = co_await session_.query([=](Request r) {
    auto lease = r.initLease();
    lease.setIno(ino.value);
    lease.setWrite(write);
  });
  CO_TRY(reply);
  auto entry = enter(decode(*reply, readEntryReply));
  if (entry && entry->attr.lease < (write ? LeaseMode::kWrite : LeaseMode::kRead))
    co_return fail(Errc::kBadMessage, "the MDS answered without the lease");
  co_return entry;
}

Task<Result<void>> MdsOps::returnLeases(std::vector<LeaseReturn> leases) {
  CO_TRY(co_await session_.query([&](Request r) {
    auto list = r.initLeaseReturn(static_cast<uint32_t>(leases.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setIno(leases[i].ino.value);
      list[i].setSerial(leases[i].serial);
      list[i].setKeepRead(leases[i].keepRead);
    }
  }));
  co_return Result<void>{};
}

Task<Result<void>> MdsOps::release(std::vector<InodeId> inodes) {
  CO_TRY(co_await session_.query([&](Request r) {
    auto list = r.initRelease(static_cast<uint32_t>(inodes.size()));
    for (uint32_t i = 0; i < list.size(); ++i) list.set(i, inodes[i].value);
  }));
  co_return Result<void>{};
}

Task<Result<LockAnswer>> MdsOps::lock(HeldLock what, bool gone, std::function<uint64_t()> begin,
                                      std::function<bool()> givenUp, Event* early) {
  auto reply = co_await session_.query(
      [&](Request r) {
        auto lock = r.initLock();
        writeLock(what, lock.initLock());
        const uint64_t id = begin();
        lock.setWait(id != 0);
        lock.setId(id);
        lock.setGone(gone);
      },
      std::move(givenUp), early);
  CO_TRY(reply);
  co_return decode(*reply, [](const InMessage& m) -> Result<LockAnswer> {
    auto body = m.body<schema::MdsReply>();
    if (!body.isLock() || static_cast<uint16_t>(body.getLock().getOutcome()) > 3)
      return fail(Errc::kBadMessage, "the MDS answered another question");
    auto lock = body.getLock();
    return LockAnswer{static_cast<LockAnswer::Outcome>(lock.getOutcome()), lock.getSerial()};
  });
}

Task<Result<LockPiece>> MdsOps::testLock(HeldLock what) {
  auto reply = co_await session_.query([&](Request r) { writeLock(what, r.initLockTest()); });
  CO_TRY(reply);
  co_return decode(*reply, [](const InMessage& m) -> Result<LockPiece> {
    auto body = m.body<schema::MdsReply>();
    if (!body.isLockHeld() || static_cast<uint16_t>(body.getLockHeld().getType()) > 2)
      return fail(Errc::kBadMessage, "the MDS answered another question");
    auto held = body.getLockHeld();
    return LockPiece{held.getStart(), held.getEnd(), static_cast<LockType>(held.getType()),
                     held.getPid()};
  });
}

Task<Result<void>> MdsOps::cancelLock(uint64_t id, bool once) {
  CO_TRY(co_await session_.query([id](Request r) { r.setLockCancel(id); }, [once] { return once; },
                                 nullptr));
  co_return Result<void>{};
}

Task<Result<void>> MdsOps::lockProbed(InodeId ino, uint64_t serial) {
  CO_TRY(co_await session_.query([=](Request r) {
    auto probed = r.initLockProbed();
    probed.setIno(ino.value);
    probed.setSerial(serial);
  }));
  co_return Result<void>{};
}

namespace {
void fillChunks(schema::Chunks::Builder c, InodeId ino, uint32_t first, uint32_t count) {
  c.setIno(ino.value);
  c.setFirst(first);
  c.setCount(count);
}
}  // namespace

Task<Result<ChunkList>> MdsOps::chunks(InodeId ino, uint32_t first, uint32_t count) {
  auto reply =
      co_await session_.query([=](Request r) { fillChunks(r.initChunks(), ino, first, count); });
  CO_TRY(reply);
  co_return decode(*reply, readChunksReply);
}

Task<Result<ChunkList>> MdsOps::allocChunks(InodeId ino, uint32_t first, uint32_t count,
                                            std::vector<ChunkId> near) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto alloc = r.initMutate().initAllocChunks();
        fillChunks(alloc, ino, first, count);
        if (near.empty()) return;
        auto list = alloc.initNear(static_cast<uint32_t>(near.size()));
        for (uint32_t i = 0; i < near.size(); ++i) list.set(i, near[i].value);
      },
      Repeat::kHarmless);
  CO_TRY(reply);
  co_return decode(*reply, readChunksReply);
}

Task<Result<ServerAttr>> MdsOps::removeChunks(InodeId ino, uint32_t first, uint32_t count) {
  auto reply = co_await session_.mutate(
      [=](Request r) { fillChunks(r.initMutate().initRemoveChunks(), ino, first, count); },
      Repeat::kNever);
  CO_TRY(reply);
  co_return enter(decode(*reply, readAttrReply));
}

Task<Result<ServerAttr>> MdsOps::commitWrite(CommitRequest what) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto c = r.initMutate().initCommitWrite();
        c.setIno(what.ino.value);
        c.setSize(what.size);
        c.setSetMtime(what.mtimeNs.has_value());
        c.setMtimeNs(what.mtimeNs.value_or(0));
      },
      Repeat::kNever);
  CO_TRY(reply);
  co_return enter(decode(*reply, readAttrReply));
}

Task<Result<std::vector<InodeId>>> MdsOps::accessed(const std::vector<AccessTime>& accesses,
                                                    bool always) {
  auto reply = co_await session_.mutate(
      [&](Request r) {
        auto m = r.initMutate().initAccessed();
        m.setAlways(always);
        auto list = m.initAccesses(static_cast<uint32_t>(accesses.size()));
        for (uint32_t i = 0; i < list.size(); ++i) {
          list[i].setIno(accesses[i].ino.value);
          list[i].setTimeNs(accesses[i].atNs);
        }
      },
      Repeat::kNever);
  CO_TRY(reply);
  co_return decode(*reply, [](const InMessage& m) -> Result<std::vector<InodeId>> {
    auto body = m.body<schema::MdsReply>();
    if (!body.isAccessed()) return fail(Errc::kBadMessage, "the MDS answered another question");
    std::vector<InodeId> different;
    for (uint64_t ino : body.getAccessed()) different.emplace_back(ino);
    std::ranges::sort(different);
    return different;
  });
}

Task<Result<ServerAttr>> MdsOps::tailCleaned(InodeId ino, uint64_t size) {
  auto reply = co_await session_.mutate(
      [=](Request r) {
        auto t = r.initMutate().initTailCleaned();
        t.setIno(ino.value);
        t.setSize(size);
      },
      Repeat::kHarmless);
  CO_TRY(reply);
  co_return enter(decode(*reply, readAttrReply));
}

}  // namespace cairn::client
