// The deterministic state machine behind the command log: namespace, chunk map, orphans, garbage,
// sessions, cluster map. The same commands applied to the same state give the same state and the
// same answers, on every member and in simulation. Keys and values: mds/FORMAT.md. One reactor
// thread; apply() and queries never wait.
//
// Invariants (checked by StateMachine::verify and by the model tests)
//   - nlink of a file = number of dentries that name it; of a directory = 2 + subdirectories. size
//   of a directory = its entries.
//   - Every inode but the root is named by at least one dentry or listed as an orphan; every dentry
//   names an inode.
//   - Every chunk id is in at most one of: an inode's chunk map, the garbage queue. It comes into a
//   chunk map when it is given out, and into the queue from there or because the leader found it in
//   neither (mds/ops/chunks_leaked.cc). None is ever given out again.
//   - applied() grows by one for each command, in the same atomic batch as the command's effects;
//   replaying an index at or below it
//     changes nothing.
//   - A (session, seq) is executed at most once while the session does not acknowledge it.
//   - The map's fence covers every session that expired, and no live one; fenceEpoch() is the epoch
//   that it last changed in.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/env.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/cluster/cluster_map.h"
#include "common/kv/kv.h"
#include "common/schema/mds.capnp.h"
#include "common/wire/message.h"

namespace cairn::mds {

// Chunks of a file that a large truncation left behind, to be freed in steps: those at or after
// index `from` whose id is below `below` (ids grow, so that what was allocated since is spared).
struct Condemned {
  uint32_t from = 0;
  uint64_t below = 0;
  bool operator==(const Condemned&) const = default;
};

struct Inode {
  InodeId ino;
  uint32_t generation = 0, mode = 0, nlink = 0, uid = 0, gid = 0;
  uint64_t rdev = 0, size = 0;
  int64_t atimeNs = 0, mtimeNs = 0, ctimeNs = 0, btimeNs = 0;
  PoolId pool;
  uint32_t chunkCount = 0;  // records in the chunk map, condemned ones included
  // Regular files: the chunk of the end, or those behind it, may hold bytes that are not zero.
  bool tailUnclean = false;
  // Regular files: the only session that may have stored data behind the end without saying so: it
  // did, or found the tail clean, or cleaned it. 0: none since the file was made, or from before
  // this was recorded.
  SessionId writer;
  InodeId parent;  // directories
  uint64_t changeVersion = 0, dataVersion = 0;
  std::string target;  // symlinks
  uint32_t xattrCount = 0, xattrListBytes = 0;
  std::vector<Condemned> condemned;  // regular files; both fields ascend
  bool linkable = false;             // made without a name (O_TMPFILE), and never got one

  // Whether a chunk of this file is only waiting to be freed: nobody is shown it.
  [[nodiscard]] bool condemns(uint32_t index, ChunkId id) const;
  [[nodiscard]] bool isDirectory() const;
  [[nodiscard]] bool isRegular() const;
  [[nodiscard]] bool isSymlink() const;
  // Whether this session has to zero what lies behind the end (Attr.tailUnclean) before it makes
  // the file longer: it may hold what an expired writer stored there and never committed. Exact
  // about files without chunks: an OSD holds none that the chunk map does not name.
  [[nodiscard]] bool tailUncleanFor(SessionId session) const {
    return tailUnclean || (writer != session && chunkCount != 0);
  }
  void write(schema::Attr::Builder attr) const;
};

struct Dentry {
  std::string name;
  InodeId ino;
  uint8_t type = 0;     // DT_*
  uint64_t cookie = 0;  // position in the directory; see mds/FORMAT.md
};

struct Chunk {
  uint32_t index = 0;
  ChunkId id;
  PoolId pool;
};

// A chunk of some file.
struct FileChunk {
  InodeId ino;
  Chunk chunk;
};

struct Garbage {
  uint64_t id = 0;  // position in the queue
  ChunkId chunk;
  PoolId pool;
};

struct SessionInfo {
  SessionId id;
  std::string addr, mount, host;
  uint32_t pid = 0;
};

// An inode with work left to do: unlinked, or (nlink > 0, no holders) truncated by more chunks than
// one command frees. Either way `purge` does it once nobody holds it.
struct Orphan {
  InodeId ino;
  std::vector<SessionId> holders;  // empty: purge it
};

// What apply() says of one command: an error, or the serialized MdsReply (one flat Cap'n Proto
// segment).
struct Applied {
  Errc code = Errc::kOk;
  std::string detail;
  std::string reply;  // empty = MdsReply.none
};

struct Counts {
  uint64_t inodes = 0, chunks = 0, garbage = 0;
  bool operator==(const Counts&) const = default;
};

struct StateOptions {
  size_t cacheBytes = 64u << 20;  // of inodes and dentries, in front of the database
  // Position of a name in its directory; tests give a poor one so that names collide. Fixed for the
  // database's life. nullptr: nameCookie (mds/state/keys.h).
  uint64_t (*cookieOf)(std::string_view name) = nullptr;
};

class StateMachine {
 public:
  virtual ~StateMachine() = default;
  // Opens or makes the database at `path`. A newer format gives kVersion, damage kCorrupt.
  static Result<std::unique_ptr<StateMachine>> open(Env& env, const std::string& path,
                                                    size_t cacheBytes);
  // The same on a database that is open already.
  static Result<std::unique_ptr<StateMachine>> open(std::unique_ptr<Kv> kv,
                                                    StateOptions options = {});

  [[nodiscard]] virtual LogIndex applied() const = 0;
  // Applies commands `first`, `first`+1, … as one atomic batch, in order, each seeing the effects
  // of those before it. Commands at or below applied() are skipped (their Applied is empty). An
  // error here is the database's (kIo, kCorrupt) or a gap in the log (kCorrupt): the daemon stops,
  // and every later call fails. What it did is not durable before sync(): the log replays it.
  virtual Result<std::vector<Applied>> apply(LogIndex first,
                                             std::span<const schema::Command::Reader> commands) = 0;
  // What was applied is durable in the database when it completes; the log up to applied() (as of
  // the call) may be trimmed.
  virtual Task<Result<void>> sync() = 0;

  // Queries, of the state after the last apply(). An inode that is gone is kStale; an absent name
  // or a removed directory kNotFound; kIo and kCorrupt are the database's.
  virtual Result<Inode> inode(InodeId ino) = 0;
  virtual Result<Inode> lookup(InodeId parent, std::string_view name) = 0;  // "." and ".." too
  // Entries after `cookie` (0 = first, "." and ".." included, cookies 1 and 2), at most `limit`
  // (more only where two names share a cookie); ends when it returns none.
  virtual Result<std::vector<Dentry>> readdir(InodeId dir, uint64_t cookie, size_t limit) = 0;
  virtual Result<std::string> getxattr(InodeId ino, std::string_view name) = 0;
  virtual Result<std::vector<std::string>> listxattr(InodeId ino) = 0;
  virtual Result<std::vector<Chunk>> chunks(InodeId ino, uint32_t first, uint32_t count) = 0;
  // In order of id, those above `after`. Ids grow and are not reused.
  virtual Result<std::vector<Garbage>> garbage(uint64_t after, size_t limit) = 0;
  virtual Result<std::vector<Orphan>> orphans(InodeId after, size_t limit) = 0;
  virtual std::vector<SessionInfo> sessions() = 0;
  // Whether that mutation was done and its answer is kept: applied again, it gives that answer.
  [[nodiscard]] virtual bool remembers(SessionId session, uint64_t seq) const = 0;
  [[nodiscard]] virtual const ClusterMap& map() const = 0;
  // The epoch of the map that fenced a session last; 0 before the first. OSDs with an older map may
  // still serve that session (MdsReply.barrier).
  [[nodiscard]] virtual MapEpoch fenceEpoch() const = 0;
  [[nodiscard]] virtual Counts counts() const = 0;
  // Per pool: chunks in chunk maps.
  virtual std::map<PoolId, uint64_t> poolChunks() = 0;

  // Walks everything and names each broken invariant; for tests.
  virtual std::vector<std::string> verify() = 0;

  // For fsck. Of all files, by (inode, index), those behind this place; what nobody is shown any
  // more, of orphans and condemned, too.
  virtual Result<std::vector<FileChunk>> fileChunks(InodeId ino, uint32_t index, size_t limit) = 0;
  // All chunk ids that were given out are below it.
  [[nodiscard]] virtual ChunkId nextChunk() const = 0;
};

}  // namespace cairn::mds
