// Walks all records and names each broken invariant (state_machine.h). Holds the whole namespace in
// memory: for tests and for a check of a stopped or idle MDS.
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "mds/state/keys.h"
#include "mds/state/machine.h"

namespace cairn::mds {
namespace {

class Verifier {
 public:
  explicit Verifier(State& state) : state_(state) {}

  std::vector<std::string> run() {
    auto scanned = state_.txn.scan("", "", [&](std::string_view key, std::string_view value) {
      record(key, value);
      return true;
    });
    if (!scanned) say("the scan ended early: " + scanned.error().text());
    checkInodes();
    checkTree();
    checkOrphans();
    checkSessions();
    checkCounts();
    checkMap();
    return std::move(problems_);
  }

 private:
  struct Seen {
    Inode inode;
    uint64_t names = 0, entries = 0, subdirectories = 0, chunks = 0, xattrs = 0, xattrBytes = 0;
    InodeId namedIn;
  };

  void say(std::string problem) {
    if (problems_.size() < kMaxProblems) problems_.push_back(std::move(problem));
  }
  static std::string name(InodeId ino) { return "inode " + std::to_string(ino.value); }

  template <class T, class Use>
  void with(Result<T> decoded, Use use) {
    if (decoded)
      use(*decoded);
    else
      say(decoded.error().text());
  }

  // Inodes sort behind chunks and dentries, so counts of what belongs to them are gathered first.
  void record(std::string_view key, std::string_view value) {
    switch (key.empty() ? '\0' : key[0]) {
      case keys::kInode:
        with(decodeInode(key, value), [&](Inode& i) {
          auto& seen = inodes_[i.ino];
          seen.inode = std::move(i);
        });
        break;
      case keys::kDentry:
        with(decodeDentry(key, value), [&](DentryRecord d) { dentry(key, d); });
        break;
      case keys::kChunk:
        with(decodeChunk(key, value), [&](ChunkRecord c) {
          ++inodes_[InodeId(keys::be64(key, 1))].chunks;
          ++foundUse_[c.pool].chunks;
          if (keys::be32(key, 9) >= kMaxChunkIndex) say("chunk index beyond the largest file");
          chunk(c);
        });
        break;
      case keys::kGarbage:
        with(decodeChunk(key, value), [&](ChunkRecord c) {
          ++garbage_;
          ++foundUse_[c.pool].garbage;
          if (keys::be64(key, 1) >= state_.counters.nextGarbage)
            say("garbage " + std::to_string(keys::be64(key, 1)) + " was never queued");
          chunk(c);
        });
        break;
      case keys::kXattr: {
        auto& seen = inodes_[InodeId(keys::be64(key, 1))];
        ++seen.xattrs;
        seen.xattrBytes += key.size() - 9 + 1;
        break;
      }
      case keys::kOrphan:
        with(decodeOrphan(key, value),
             [&](auto& holders) { orphans_[InodeId(keys::be64(key, 1))] = std::move(holders); });
        break;
      case keys::kReply:
        with(decodeReply(key, value), [&](ReplyRecord& r) {
          replies_[SessionId(keys::be64(key, 1))].insert(keys::be64(key, 9));
          if (r.ackedBelow > keys::be64(key, 9)) say("a reply below its own ackedBelow");
        });
        break;
      case keys::kSession:
        with(decodeSession(key, value), [&](SessionInfo& s) { sessions_.insert(s.id); });
        break;
      case keys::kPoolUse:
        with(decodePoolUse(key, value), [&](PoolUse use) {
          if (use != PoolUse()) poolUse_[PoolId(keys::be32(key, 1))] = use;
        });
        break;
      case keys::kCounters:
        with(decodeCounters(key, value), [&](Counters& c) {
          if (!(c == state_.counters)) say("the stored counters are not those in memory");
        });
        break;
      case keys::kMap:
        if (key == keys::mapFence())
          with(decodeFence(key, value), [&](FenceRecord& f) { fence_ = std::move(f); });
        paused_ = paused_ || key == keys::mapPause();
        if (key.starts_with(std::string{keys::kMap, 'a'}))
          with(decodeAway(key, value), [&](auto& away) {
            away_[{PoolId(keys::be32(key, 2)), PgIndex(keys::be32(key, 6))}] = std::move(away);
          });
        break;  // checkMap() compares what it gave
      default:
        say("unknown record " + keys::text(key));
    }
  }

  void dentry(std::string_view key, DentryRecord d) {
    const InodeId parent(keys::be64(key, 1));
    const auto entry = key.substr(std::min<size_t>(key.size(), 17));
    auto& dir = inodes_[parent];
    auto& target = inodes_[d.ino];
    ++dir.entries;
    ++target.names;
    target.namedIn = parent;
    if (d.type == S_IFDIR >> 12) ++dir.subdirectories;
    auto [it, isNew] = types_.try_emplace(d.ino, d.type);
    if (!isNew && it->second != d.type) say("names of " + name(d.ino) + " differ in its type");
    if (entry.empty() || keys::be64(key, 9) != state_.cookieOf(entry))
      say("an entry of " + name(parent) + " is not at its name's position");
  }

  void chunk(ChunkRecord c) {
    if (!chunkIds_.insert(c.id.value).second)
      say("chunk " + std::to_string(c.id.value) + " is there twice");
    if (c.id.value == 0 || c.id.value >= state_.counters.nextChunk)
      say("chunk " + std::to_string(c.id.value) + " was never allocated");
    if (state_.cluster.map.pool(c.pool) == nullptr)
      say("chunk " + std::to_string(c.id.value) + " lies in a pool that does not exist");
  }

  void checkInodes() {
    for (const auto& [ino, seen] : inodes_) {
      const Inode& i = seen.inode;
      if (!i.ino) {
        say(name(ino) + " does not exist, but records refer to it");
        continue;
      }
      auto expect = [&](uint64_t is, uint64_t should, const char* what) {
        if (is != should)
          say(name(ino) + " has " + what + " " + std::to_string(is) + ", found " +
              std::to_string(should));
      };
      const bool unlinked = i.nlink == 0;
      if (i.isDirectory()) {
        if (!unlinked) expect(i.nlink, 2 + seen.subdirectories, "nlink");
        expect(i.size, seen.entries, "entries");
        expect(seen.names, unlinked || ino == kRootInode ? 0 : 1, "names");
        if (seen.names != 0 && i.parent != seen.namedIn) say(name(ino) + " has another parent");
      } else {
        expect(i.nlink, seen.names, "nlink");
        expect(seen.entries, 0, "entries");
      }
      expect(i.chunkCount, seen.chunks, "chunks");
      if (!i.isRegular()) expect(seen.chunks, 0, "chunks in spite of its type");
      expect(i.xattrCount, seen.xattrs, "xattrs");
      expect(i.xattrListBytes, seen.xattrs == 0 ? 0 : seen.xattrBytes, "bytes of xattr names");
      if (auto type = types_.find(ino); type != types_.end())
        expect(type->second, (i.mode & S_IFMT) >> 12, "an entry of type");
      if (i.writer.value >= state_.counters.nextSession)
        say(name(ino) + " was written by a session that was never opened");
      if (i.writer && !i.isRegular()) say(name(ino) + " has a writer in spite of its type");
      if (i.linkable && (!unlinked || !i.isRegular()))
        say(name(ino) + " counts as a file that never had a name");
      if (i.isRegular() && i.size > kMaxFileSize) say(name(ino) + " is too long");
      if (i.isSymlink() && i.size != i.target.size()) say(name(ino) + " has a wrong length");
      if (ino.value >= state_.counters.nextInode) say(name(ino) + " was never allocated");
      if (state_.cluster.map.pool(i.pool) == nullptr) say(name(ino) + " has no pool");
      for (size_t k = 1; k < i.condemned.size(); ++k)
        if (i.condemned[k - 1].from > i.condemned[k].from ||
            i.condemned[k - 1].below > i.condemned[k].below)
          say(name(ino) + " has truncations out of order");
      if ((unlinked || !i.condemned.empty()) != orphans_.contains(ino))
        say(name(ino) + (unlinked || !i.condemned.empty() ? " is missing from the orphans"
                                                          : " is an orphan without need"));
    }
    if (state_.bootstrapped() && !inodes_.contains(kRootInode)) say("there is no root directory");
  }

  // Names and parents agree (checkInodes), so what is left to refute is a ring beside the tree.
  void checkTree() {
    std::unordered_set<InodeId> connected{kRootInode};
    std::vector<InodeId> path;
    for (const auto& [ino, seen] : inodes_) {
      if (!seen.inode.isDirectory() || seen.inode.nlink == 0) continue;
      path.clear();
      std::unordered_set<InodeId> onPath;
      for (InodeId at = ino; !connected.contains(at);) {
        auto it = inodes_.find(at);
        if (it == inodes_.end() || !onPath.insert(at).second) {
          say(name(ino) + " is not connected to the root");
          break;
        }
        path.push_back(at);
        at = it->second.inode.parent;
      }
      connected.insert(path.begin(), path.end());
    }
  }

  void checkOrphans() {
    if (orphans_ != state_.orphans) say("the stored orphans are not those in memory");
    for (const auto& [ino, holders] : orphans_) {
      auto it = inodes_.find(ino);
      if (it == inodes_.end() || !it->second.inode.ino) say("orphan " + name(ino) + " is missing");
      if (it != inodes_.end() && it->second.inode.nlink != 0 && !holders.empty())
        say(name(ino) + " has names and holders");
      if (!std::ranges::is_sorted(holders) || std::ranges::adjacent_find(holders) != holders.end())
        say("the holders of " + name(ino) + " are out of order");
      for (auto holder : holders)
        if (!sessions_.contains(holder)) say(name(ino) + " is held by a session that ended");
    }
  }

  void checkSessions() {
    for (const auto& [id, session] : state_.sessions) {
      if (!sessions_.contains(id)) say("session " + std::to_string(id.value) + " is not stored");
      if (session.remembered != replies_[id])
        say("session " + std::to_string(id.value) + " remembers other answers than are stored");
      if (!session.remembered.empty() && *session.remembered.begin() < session.ackedBelow)
        say("session " + std::to_string(id.value) + " remembers what it may forget");
    }
    for (auto id : sessions_) {
      if (!state_.sessions.contains(id))
        say("session " + std::to_string(id.value) + " is not live");
      if (id.value >= state_.counters.nextSession) say("a session was never opened");
    }
    for (const auto& [id, seqs] : replies_)
      if (!seqs.empty() && !sessions_.contains(id)) say("answers without a session");
  }

  void checkCounts() {
    Counts found;
    found.inodes = static_cast<uint64_t>(std::ranges::count_if(
        inodes_, [](const auto& entry) { return static_cast<bool>(entry.second.inode.ino); }));
    for (const auto& [ino, seen] : inodes_)
      if (seen.inode.ino) ++foundUse_[seen.inode.pool].inodes;
    for (const auto& [pool, use] : foundUse_) found.chunks += use.chunks;
    found.garbage = garbage_;
    if (!(found == state_.counters.counts))
      say("the counts of inodes, chunks or garbage are wrong");
    std::map<PoolId, PoolUse> live = state_.poolUse;
    std::erase_if(live, [](const auto& entry) { return entry.second == PoolUse(); });
    if (poolUse_ != foundUse_ || live != foundUse_)
      say("a pool's counts of what uses it are wrong");
  }

  void checkMap() {
    const ClusterMap& map = state_.cluster.map;
    for (const auto& [id, pool] : map.pools) {
      if (pool.pgs.empty()) say("pool " + pool.name + " has no groups");
      if (id.value >= state_.counters.nextPool) say("pool " + pool.name + " was never made");
      for (const auto& group : pool.pgs) {
        if (group.epoch > map.epoch) say("a group of pool " + pool.name + " is from the future");
        checkGroup(pool, group);
      }
    }
    checkFence();
    if (paused_ != map.rebalancePaused) say("the stored pause is not the one in memory");
    if (away_ != state_.cluster.away) say("who is stored as away is not who is so in memory");
    for (const auto& [key, away] : away_) checkAway(key.first, key.second, away);
    for (const auto& [id, osd] : map.osds)
      if (id.value >= state_.counters.nextOsd) say("an OSD was never registered");
  }

  void checkGroup(const Pool& pool, const PlacementGroup& group) {
    const ClusterMap& map = state_.cluster.map;
    auto isUp = [&](OsdId id) { return map.osd(id) != nullptr && map.osd(id)->up; };
    for (const auto& [one, other] :
         {std::pair(&group.joining, "joins"), std::pair(&group.complete, "is complete beside")}) {
      std::set<OsdId> distinct(group.osds.begin(), group.osds.end());
      if (distinct.size() != group.osds.size()) say("a group lists an OSD twice");
      for (OsdId id : *one)
        if (!distinct.insert(id).second) say("an OSD " + std::string(other) + " its own group");
      for (OsdId id : distinct)
        if (map.osd(id) == nullptr) say("a group lists an OSD that does not exist");
    }
    for (OsdId id : group.joining)
      if (!isUp(id)) say("an OSD that is down joins a group of pool " + pool.name);
    if (std::ranges::any_of(group.osds, isUp) && !std::ranges::all_of(group.osds, isUp))
      say("a group of pool " + pool.name + " counts on an OSD that is down");
    if (group.osds.empty() && !(group.joining.empty() && group.complete.empty()))
      say("a group of pool " + pool.name + " has members and nobody in sync");
    if (!group.complete.empty() && group.inSync() >= pool.minSize)
      say("a group of pool " + pool.name + " trusts who has missed writes");
    checkShards(pool, group);
  }

  void checkShards(const Pool& pool, const PlacementGroup& group) {
    if (!pool.erasureCoded() || group.osds.empty()) {
      if (!group.shards.empty()) say("a group of pool " + pool.name + " has shards for nothing");
      return;
    }
    for (const auto* list : {&group.osds, &group.joining, &group.complete})
      for (OsdId id : *list)
        if (!group.shards.contains(id)) say("a member of pool " + pool.name + " has no shard");
    for (const auto& [id, shard] : group.shards) {
      if (shard >= pool.width()) say("pool " + pool.name + " has no such shard");
      if (state_.cluster.map.osd(id) == nullptr) say("a shard lies on an OSD that does not exist");
    }
    std::set<uint8_t> joining;
    for (OsdId id : group.joining)
      if (!joining.insert(group.shardOf(id)).second)
        say("two OSDs join pool " + pool.name + " for one shard");
  }

  void checkAway(PoolId id, PgIndex pg, const std::vector<OsdId>& away) {
    const ClusterMap& map = state_.cluster.map;
    auto group = map.group(id, pg);
    if (!map.rebalancePaused || !group || (*group)->inSync() >= map.pool(id)->width())
      return say("somebody is away from a group that waits for nobody");
    std::set<OsdId> distinct((*group)->osds.begin(), (*group)->osds.end());
    for (OsdId osd : away)
      if (map.osd(osd) == nullptr || !distinct.insert(osd).second)
        say("an OSD is away that does not exist, or twice, or from where it is in sync");
    if (away.empty()) say("a list of who is away is empty");
  }

  void checkFence() {
    const ClusterMap& map = state_.cluster.map;
    if (fence_.epoch != state_.cluster.fenceEpoch || fence_.fence != map.fence)
      say("the stored fence is not the one in memory");
    if (fence_.epoch > map.epoch) say("the fence is from the future");
    if (map.fence.below.value > state_.counters.nextSession)
      say("the fence covers sessions that were never opened");
    if (!map.fence.alive.empty() && *map.fence.alive.rbegin() >= map.fence.below)
      say("the fence spares sessions that it does not reach");
    for (const auto& [id, session] : state_.sessions)
      if (map.fenced(id)) say("session " + std::to_string(id.value) + " is live and fenced");
  }

  static constexpr size_t kMaxProblems = 100;
  State& state_;
  std::vector<std::string> problems_;
  std::unordered_map<InodeId, Seen> inodes_;
  std::unordered_map<InodeId, uint8_t> types_;
  std::unordered_set<uint64_t> chunkIds_;
  std::map<PoolId, PoolUse> foundUse_, poolUse_;
  std::map<InodeId, std::vector<SessionId>> orphans_;
  std::map<SessionId, std::set<uint64_t>> replies_;
  std::set<SessionId> sessions_;
  FenceRecord fence_;
  uint64_t garbage_ = 0;
  bool paused_ = false;
  decltype(ClusterState::away) away_;
};

}  // namespace

std::vector<std::string> Machine::verify() {
  return Verifier(state_).run();
}

}  // namespace cairn::mds
