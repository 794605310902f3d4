#include "test/unit/mds/state/model.h"

namespace cairn::mds::statetest {

void Op::build(schema::Mutation::Builder m) const {
  switch (kind) {
    case kMake: {
      auto o = m.initMake();
      o.setParent(parent);
      o.setName(asData(name));
      o.setMode(mode);
      o.setUid(uid);
      o.setGid(gid);
      o.setTarget(asData(value));
      o.setOpen(open);
      break;
    }
    case kLink: {
      auto o = m.initLink();
      o.setIno(ino);
      o.setParent(parent);
      o.setName(asData(name));
      break;
    }
    case kRemove: {
      auto o = m.initRemove();
      o.setParent(parent);
      o.setName(asData(name));
      o.setDirectory(directory);
      break;
    }
    case kRename: {
      auto o = m.initRename();
      o.setParent(parent);
      o.setName(asData(name));
      o.setNewParent(newParent);
      o.setNewName(asData(newName));
      o.setFlags(flags);
      break;
    }
    case kChmod:
    case kChown:
    case kTruncate: {
      auto o = m.initSetattr();
      o.setIno(ino);
      o.setSetMode(kind == kChmod);
      o.setMode(mode);
      o.setSetUid(kind == kChown);
      o.setUid(uid);
      o.setSetGid(kind == kChown);
      o.setGid(gid);
      o.setSetSize(kind == kTruncate);
      o.setSize(size);
      o.setClearSuid(clearSuid);
      break;
    }
    case kSetxattr: {
      auto o = m.initSetxattr();
      o.setIno(ino);
      o.setName(asData(name));
      o.setValue(asData(value));
      o.setFlags(flags);
      break;
    }
    case kRemovexattr: {
      auto o = m.initRemovexattr();
      o.setIno(ino);
      o.setName(asData(name));
      break;
    }
    case kAlloc:
    case kRemoveChunks: {
      auto o = kind == kAlloc ? m.initAllocChunks() : m.initRemoveChunks();
      o.setIno(ino);
      o.setFirst(first);
      o.setCount(count);
      break;
    }
    case kCommit: {
      auto o = m.initCommitWrite();
      o.setIno(ino);
      o.setSize(size);
      o.setMtimeNs(by.timeNs);
      o.setSetMtime(true);
      o.setTailCleaned(tailCleaned);
      break;
    }
    case kTailCleaned: {
      auto o = m.initTailCleaned();
      o.setIno(ino);
      o.setSize(size);
      break;
    }
    case kRelease: {
      auto o = m.initReleaseOrphan();
      o.setIno(ino);
      o.setSession(session);
      break;
    }
    case kPurge: {
      auto o = m.initPurge();
      o.setIno(ino);
      o.setLimit(count);
      break;
    }
    case kSessionOpen:
      m.initSessionOpen().setMount("/m");
      break;
    case kSessionEnd: {
      auto o = m.initSessionEnd();
      o.setSession(session);
      o.setExpired(expired);
      break;
    }
    case kKinds:
      break;
  }
}

Model::Model(int64_t rootTimeNs, MapEpoch epoch) : firstEpoch_(epoch.value), timeNs_(rootTimeNs) {
  Node root;
  root.mode = S_IFDIR | 0755;
  root.nlink = 2;
  root.parent = 1;
  root.mtimeNs = root.ctimeNs = rootTimeNs;
  nodes[1] = root;
}

void Model::change(Node& n, bool data) {
  n.ctimeNs = std::max(n.ctimeNs, timeNs_);
  if (data) n.mtimeNs = n.ctimeNs;
}

Errc Model::findDir(uint64_t ino, Node*& dir) {
  auto it = nodes.find(ino);
  if (it == nodes.end() || it->second.dead()) return Errc::kStale;
  if (!it->second.isDir()) return Errc::kNotDirectory;
  if (it->second.holders) return Errc::kNotFound;
  dir = &it->second;
  return Errc::kOk;
}

void Model::entry(uint64_t dir, const std::string& name, uint64_t ino) {
  Node &d = nodes[dir], &n = nodes[ino];
  d.entries[name] = ino;
  d.size = d.entries.size();
  if (n.isDir()) {
    ++d.nlink;
    n.parent = dir;
  }
}

void Model::noEntry(uint64_t dir, const std::string& name) {
  Node& d = nodes[dir];
  if (nodes[d.entries.at(name)].isDir()) --d.nlink;
  d.entries.erase(name);
  d.size = d.entries.size();
}

void Model::free(uint64_t ino) {
  Node& n = nodes[ino];
  if (n.chunks.size() > 64 || n.xattrs.size() > 64) {
    n.holders.emplace();
    return;
  }
  garbage += n.chunks.size();
  nodes.erase(ino);
}

void Model::dropName(uint64_t ino, const By& by) {
  Node& n = nodes[ino];
  change(n);
  n.nlink = n.isDir() ? 0 : n.nlink - 1;
  if (n.nlink != 0) return;
  std::set<uint64_t> held;
  for (auto s : by.openBy)
    if (sessions.contains(s)) held.insert(s);
  if (held.empty())
    free(ino);
  else
    n.holders = held;
}

bool Model::isBelow(uint64_t dir, uint64_t ancestor) const {
  for (;; dir = nodes.at(dir).parent) {
    if (dir == ancestor) return true;
    if (dir == 1) return false;
  }
}

Errc Model::make(const Op& op) {
  if (S_ISLNK(op.mode) && op.value.empty()) return Errc::kInvalid;
  if (!S_ISREG(op.mode) && op.open) return Errc::kInvalid;
  Node* dir;
  if (auto e = findDir(op.parent, dir); e != Errc::kOk) return e;
  if (dir->entries.contains(op.name)) return Errc::kExists;
  Node n;
  n.mode = S_ISLNK(op.mode) ? S_IFLNK | 0777 : op.mode;
  n.nlink = n.isDir() ? 2 : 1;
  n.uid = op.uid;
  n.gid = op.gid;
  if ((dir->mode & S_ISGID) != 0) {
    n.gid = dir->gid;
    if (n.isDir()) n.mode |= S_ISGID;
  }
  if (S_ISLNK(n.mode)) {
    n.target = op.value;
    n.size = op.value.size();
  }
  if (op.open) {
    n.chunks.insert(0);
    n.trusted = op.by.session;
  }
  n.mtimeNs = n.ctimeNs = timeNs_;
  nodes[nextIno_] = n;
  entry(op.parent, op.name, nextIno_++);
  change(*dir, true);
  return Errc::kOk;
}

Errc Model::link(const Op& op) {
  Node* dir;
  if (auto e = findDir(op.parent, dir); e != Errc::kOk) return e;
  auto it = nodes.find(op.ino);
  if (it == nodes.end() || it->second.dead()) return Errc::kStale;
  if (it->second.isDir()) return Errc::kPermission;
  if (it->second.holders) return Errc::kNotFound;
  if (dir->entries.contains(op.name)) return Errc::kExists;
  ++it->second.nlink;
  change(it->second);
  entry(op.parent, op.name, op.ino);
  change(*dir, true);
  return Errc::kOk;
}

Errc Model::remove(const Op& op) {
  Node* dir;
  if (auto e = findDir(op.parent, dir); e != Errc::kOk) return e;
  auto it = dir->entries.find(op.name);
  if (it == dir->entries.end()) return Errc::kNotFound;
  const uint64_t ino = it->second;
  const Node& n = nodes[ino];
  if (op.directory && !n.isDir()) return Errc::kNotDirectory;
  if (!op.directory && n.isDir()) return Errc::kIsDirectory;
  if (n.isDir() && !n.entries.empty()) return Errc::kNotEmpty;
  noEntry(op.parent, op.name);
  change(*dir, true);
  dropName(ino, op.by);
  return Errc::kOk;
}

Errc Model::rename(const Op& op) {
  const bool noReplace = (op.flags & 1) != 0, exchange = (op.flags & 2) != 0,
             whiteout = (op.flags & 4) != 0;
  if (op.flags > 7 || (exchange && (noReplace || whiteout))) return Errc::kInvalid;
  Node *from, *to;
  if (auto e = findDir(op.parent, from); e != Errc::kOk) return e;
  if (auto e = findDir(op.newParent, to); e != Errc::kOk) return e;
  if (!from->entries.contains(op.name)) return Errc::kNotFound;
  const bool replaces = to->entries.contains(op.newName);
  if (exchange && !replaces) return Errc::kNotFound;
  if (noReplace && replaces) return Errc::kExists;
  const uint64_t source = from->entries.at(op.name);
  const uint64_t target = replaces ? to->entries.at(op.newName) : 0;
  if (source == target) return Errc::kOk;
  if (nodes[source].isDir() && isBelow(op.newParent, source)) return Errc::kLoop;
  if (exchange && nodes[target].isDir() && isBelow(op.parent, target)) return Errc::kLoop;
  if (replaces && !exchange) {
    if (nodes[target].isDir() && !nodes[source].isDir()) return Errc::kIsDirectory;
    if (!nodes[target].isDir() && nodes[source].isDir()) return Errc::kNotDirectory;
    if (!nodes[target].entries.empty()) return Errc::kNotEmpty;
  }
  noEntry(op.parent, op.name);
  if (replaces) noEntry(op.newParent, op.newName);
  entry(op.newParent, op.newName, source);
  if (exchange) entry(op.parent, op.name, target);
  if (whiteout) {
    Node w;
    w.mode = S_IFCHR;
    if ((from->mode & S_ISGID) != 0) w.gid = from->gid;
    w.nlink = 1;
    w.mtimeNs = w.ctimeNs = timeNs_;
    nodes[nextIno_] = w;
    entry(op.parent, op.name, nextIno_++);
  }
  change(*from, true);
  change(*to, true);
  change(nodes[source]);
  if (exchange) change(nodes[target]);
  if (replaces && !exchange) dropName(target, op.by);
  return Errc::kOk;
}

Errc Model::purge(const Op& op) {
  auto it = nodes.find(op.ino);
  if (op.count == 0) return Errc::kInvalid;
  if (it == nodes.end() || !it->second.holders) return Errc::kNotFound;
  if (!it->second.holders->empty()) return Errc::kBusy;
  Node& n = it->second;
  uint32_t budget = op.count;
  for (; budget > 0 && !n.chunks.empty(); --budget) {
    n.chunks.erase(n.chunks.begin());
    ++garbage;
  }
  for (; budget > 0 && !n.xattrs.empty(); --budget) n.xattrs.erase(n.xattrs.begin());
  if (n.chunks.empty() && n.xattrs.empty()) nodes.erase(it);
  return Errc::kOk;
}

Errc Model::onFile(const Op& op, Node& f) {
  constexpr uint64_t kChunk = 64ull << 20;
  const uint64_t session = op.by.session;
  switch (op.kind) {
    case Op::kTruncate:
      if (op.size != f.size || !f.unclean(session)) f.trusted = session;
      if (op.size < f.size) {
        auto beyond = f.chunks.lower_bound(static_cast<uint32_t>((op.size + kChunk - 1) / kChunk));
        garbage += static_cast<uint64_t>(std::distance(beyond, f.chunks.end()));
        f.chunks.erase(beyond, f.chunks.end());
        f.tailUnclean =
            op.size % kChunk != 0 && f.chunks.contains(static_cast<uint32_t>(op.size / kChunk));
      }
      f.size = op.size;
      if (op.clearSuid) {
        f.mode &= ~static_cast<uint32_t>(S_ISUID);
        if ((f.mode & S_IXGRP) != 0) f.mode &= ~static_cast<uint32_t>(S_ISGID);
      }
      change(f, true);
      break;
    case Op::kAlloc:
      if (!f.unclean(session)) f.trusted = session;
      for (uint32_t i = 0; i < op.count; ++i) f.chunks.insert(op.first + i);
      break;
    case Op::kRemoveChunks:
      for (uint32_t i = 0; i < op.count; ++i) garbage += f.chunks.erase(op.first + i);
      if (f.size / kChunk >= op.first && f.size / kChunk < op.first + op.count)
        f.tailUnclean = false;
      change(f, true);
      break;
    case Op::kCommit:
      if (op.tailCleaned) f.tailUnclean = false;
      if (op.tailCleaned || op.size > f.size || !f.unclean(session)) f.trusted = session;
      f.size = std::max(f.size, op.size);
      f.mtimeNs = op.by.timeNs;
      f.ctimeNs = std::max(f.ctimeNs + 1, std::min(f.mtimeNs, timeNs_));
      break;
    default:  // kTailCleaned
      if (f.size != op.size || !f.unclean(session)) break;
      if (f.trusted != session) {  // what another writer left in chunks behind the end
        auto beyond = f.chunks.lower_bound(static_cast<uint32_t>((f.size + kChunk - 1) / kChunk));
        garbage += static_cast<uint64_t>(std::distance(beyond, f.chunks.end()));
        f.chunks.erase(beyond, f.chunks.end());
      }
      f.tailUnclean = false;
      f.trusted = session;
  }
  return Errc::kOk;
}

Errc Model::onInode(const Op& op) {
  const bool chunks = op.kind == Op::kAlloc || op.kind == Op::kRemoveChunks;
  if (chunks && op.count == 0) return Errc::kInvalid;
  auto it = nodes.find(op.ino);
  if (it == nodes.end() || it->second.dead()) return Errc::kStale;
  Node& n = it->second;
  switch (op.kind) {
    case Op::kChmod:
      n.mode = (n.mode & S_IFMT) | (op.mode & 07777);
      change(n);
      return Errc::kOk;
    case Op::kChown:
      n.uid = op.uid;
      n.gid = op.gid;
      if (op.clearSuid && !n.isDir()) {
        n.mode &= ~static_cast<uint32_t>(S_ISUID);
        if ((n.mode & S_IXGRP) != 0) n.mode &= ~static_cast<uint32_t>(S_ISGID);
      }
      change(n);
      return Errc::kOk;
    case Op::kSetxattr:
      if (op.flags == 1 && n.xattrs.contains(op.name)) return Errc::kExists;
      if (op.flags == 2 && !n.xattrs.contains(op.name)) return Errc::kNoAttribute;
      n.xattrs[op.name] = op.value;
      change(n);
      return Errc::kOk;
    case Op::kRemovexattr:
      if (n.xattrs.erase(op.name) == 0) return Errc::kNoAttribute;
      change(n);
      return Errc::kOk;
    default:
      if (n.isDir()) return Errc::kIsDirectory;
      if (!n.isFile()) return Errc::kInvalid;
      return onFile(op, n);
  }
}

Errc Model::apply(const Op& op) {
  timeNs_ = op.by.timeNs;
  switch (op.kind) {
    case Op::kMake:
      return make(op);
    case Op::kLink:
      return link(op);
    case Op::kRemove:
      return remove(op);
    case Op::kRename:
      return rename(op);
    case Op::kPurge:
      return purge(op);
    case Op::kRelease: {
      auto it = nodes.find(op.ino);
      if (it == nodes.end() || !it->second.holders) return Errc::kOk;
      if (it->second.holders->erase(op.session) != 0 && it->second.holders->empty()) free(op.ino);
      return Errc::kOk;
    }
    case Op::kSessionOpen:
      sessions.insert(nextSession_++);
      return Errc::kOk;
    case Op::kSessionEnd:
      if (sessions.erase(op.session) != 0 && op.expired) expired.insert(op.session);
      for (auto& [ino, n] : nodes)
        if (n.holders) n.holders->erase(op.session);
      return Errc::kOk;
    default:
      return onInode(op);
  }
}

uint64_t Model::pick(Random& random, bool directory) const {
  if (random.chance(1, 30)) return random.below(nextIno_ + 2);  // often gone
  std::vector<uint64_t> fit;
  for (const auto& [ino, n] : nodes)
    if (n.isDir() == directory || random.chance(1, 50)) fit.push_back(ino);
  return fit.empty() ? 1 : fit[random.below(fit.size())];
}

Op Model::random(Random& random) {
  Op op;
  // Weighted towards the namespace; few purges and session changes.
  static constexpr Op::Kind kKinds[] = {
      Op::kMake,         Op::kMake,     Op::kMake,        Op::kMake,       Op::kLink,
      Op::kRemove,       Op::kRemove,   Op::kRemove,      Op::kRename,     Op::kRename,
      Op::kRename,       Op::kChmod,    Op::kChown,       Op::kTruncate,   Op::kTruncate,
      Op::kSetxattr,     Op::kSetxattr, Op::kRemovexattr, Op::kAlloc,      Op::kAlloc,
      Op::kRemoveChunks, Op::kCommit,   Op::kTailCleaned, Op::kRelease,    Op::kRelease,
      Op::kPurge,        Op::kPurge,    Op::kSessionOpen, Op::kSessionEnd,
  };
  op.kind = kKinds[random.below(std::size(kKinds))];
  if (op.kind == Op::kSessionEnd && random.chance(2, 3)) op.kind = Op::kSessionOpen;
  if (op.kind == Op::kSessionOpen && sessions.size() > 4) op.kind = Op::kMake;
  auto word = [&](uint64_t n) { return std::string(1, static_cast<char>('a' + random.below(n))); };
  auto anySession = [&]() -> uint64_t {
    if (sessions.empty() || random.chance(1, 10)) return nextSession_ + 5;
    auto it = sessions.begin();
    std::advance(it, static_cast<int64_t>(random.below(sessions.size())));
    return *it;
  };
  auto orphan = [&]() -> uint64_t {
    std::vector<uint64_t> fit;
    for (const auto& [ino, n] : nodes)
      if (n.holders) fit.push_back(ino);
    return fit.empty() ? pick(random, false) : fit[random.below(fit.size())];
  };
  op.parent = pick(random, true);
  op.newParent = random.chance(1, 3) ? op.parent : pick(random, true);
  op.ino = pick(random, random.chance(1, 5));
  op.name = word(8);
  op.newName = word(8);
  op.uid = static_cast<uint32_t>(random.below(3));
  op.gid = static_cast<uint32_t>(random.below(3));
  op.mode = static_cast<uint32_t>(random.below(07777 + 1));
  op.first = static_cast<uint32_t>(random.below(4));
  op.count = static_cast<uint32_t>(random.chance(1, 10) ? random.below(200) : random.below(4));
  op.size = random.below(5) * (64ull << 20) + (random.chance(1, 2) ? random.below(1000) : 0);
  op.session = anySession();
  op.clearSuid = random.chance(1, 3);
  op.tailCleaned = random.chance(1, 3);
  op.expired = random.chance(1, 2);
  if (!sessions.empty() && random.chance(2, 3)) {
    auto it = sessions.begin();
    std::advance(it, static_cast<int64_t>(random.below(sessions.size())));
    op.by.session = *it;
  }
  op.directory = random.chance(1, 2);
  switch (op.kind) {
    case Op::kMake: {
      static constexpr uint32_t kTypes[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
                                            S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
      op.mode |= kTypes[random.below(std::size(kTypes))];
      op.open = S_ISREG(op.mode) ? random.chance(1, 2) : random.chance(1, 50);
      if (S_ISLNK(op.mode) && !random.chance(1, 20)) op.value = word(26) + word(26);
      break;
    }
    case Op::kRemove:
    case Op::kRename:
      op.flags = random.chance(1, 2) ? 0 : static_cast<uint32_t>(random.below(9));
      while (random.chance(1, 3)) op.by.openBy.push_back(anySession());
      break;
    case Op::kSetxattr:
    case Op::kRemovexattr:
      op.name = "user." + word(4);
      op.value = std::string(random.below(50), 'v');
      op.flags = static_cast<uint32_t>(random.below(3));
      break;
    case Op::kRelease:
    case Op::kPurge:
      op.ino = orphan();
      break;
    case Op::kTailCleaned:
      if (auto it = nodes.find(op.ino); it != nodes.end() && random.chance(2, 3))
        op.size = it->second.size;
      break;
    default:
      break;
  }
  return op;
}

void Model::compare(Mds& mds) const {
  CHECK(mds->counts().inodes == nodes.size());
  CHECK(mds->counts().garbage == garbage);
  size_t orphans = 0;
  for (const auto& [ino, n] : nodes) {
    CAPTURE(ino);
    auto i = mds.inode(InodeId(ino));
    CHECK(i.mode == n.mode);
    CHECK(i.nlink == n.nlink);
    CHECK(i.uid == n.uid);
    CHECK(i.gid == n.gid);
    CHECK(i.size == n.size);
    CHECK(i.mtimeNs == n.mtimeNs);
    CHECK(i.ctimeNs == n.ctimeNs);
    CHECK(i.target == n.target);
    if (!n.dead()) {
      CHECK(i.tailUnclean == n.tailUnclean);
      for (uint64_t s = 1; s < nextSession_; ++s)
        CHECK(i.tailUncleanFor(SessionId(s)) == n.unclean(s));
    }
    if (n.isDir() && !n.holders) {
      CHECK(i.parent.value == n.parent);
      std::vector<std::string> names;
      for (const auto& [name, child] : n.entries) {
        names.push_back(name);
        auto found = mds->lookup(InodeId(ino), name);
        REQUIRE(found.has_value());
        CHECK(found->ino.value == child);
      }
      CHECK(mds.names(InodeId(ino)) == names);
    }
    auto xattrs = mds->listxattr(InodeId(ino));
    REQUIRE(xattrs.has_value());
    CHECK(xattrs->size() == n.xattrs.size());
    for (const auto& [name, value] : n.xattrs)
      CHECK(mds->getxattr(InodeId(ino), name).value_or("missing") == value);
    if (!n.dead()) {
      std::set<uint32_t> chunks;
      for (const auto& c : mds.chunks(InodeId(ino))) chunks.insert(c.index);
      CHECK(chunks == n.chunks);
    }
    orphans += n.holders.has_value();
  }
  auto listed = mds.orphans();
  CHECK(listed.size() == orphans);
  for (const auto& o : listed) {
    std::set<uint64_t> holders;
    for (auto h : o.holders) holders.insert(h.value);
    CHECK(nodes.at(o.ino.value).holders == holders);
  }
  CHECK(mds->sessions().size() == sessions.size());
  const ClusterMap& map = mds->map();
  for (uint64_t s : expired) CHECK(map.fenced(SessionId(s)));
  for (uint64_t s : sessions) CHECK_FALSE(map.fenced(SessionId(s)));
  CHECK_FALSE(map.fenced(SessionId(nextSession_)));
  // One epoch for each, and none for anything else that happens here.
  CHECK(map.epoch.value == firstEpoch_ + expired.size());
  CHECK(mds->fenceEpoch() == (expired.empty() ? MapEpoch() : map.epoch));
}

}  // namespace cairn::mds::statetest
