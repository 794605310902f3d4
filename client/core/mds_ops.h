// The MDS's operations as functions: plain values in, plain values out. Failures that may pass are
// waited out by the session; mutations are executed exactly once and are durable when they
// complete. One reactor thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client/core/chunk_io.h"
#include "client/core/filesystem.h"
#include "client/core/lease_table.h"
#include "client/core/session.h"

namespace cairn::client {

// What the MDS says of an inode: what stat(2) shows and what the data path needs.
struct ServerAttr : Attr {
  uint32_t chunkCount = 0;
  bool tailUnclean = false;            // see types.capnp
  uint64_t changeVersion = 0;          // grows with every change of the inode
  LeaseMode lease = LeaseMode::kNone;  // what the session holds from this answer on
  uint64_t leaseSerial = 0;
  bool bare = false;  // no extended attributes, no access control list
};

// Chunks that exist in [first, first + count) of a file.
struct ChunkList {
  std::vector<std::pair<uint32_t, ChunkAddr>> chunks;  // (index, address), ascending
};

struct ServerEntry {
  ServerAttr attr;
  ChunkList chunks;  // of an inode that was opened: those with an index below kFirstChunks
};
inline constexpr size_t kFirstChunks = 16;
inline constexpr uint32_t kMaxChunksPerCall = 1024;

struct MakeRequest {
  InodeId parent;
  std::string name;
  uint32_t mode = 0, uid = 0, gid = 0, umask = 0;
  uint64_t rdev = 0;
  std::string target;    // symlinks
  bool open = false;     // regular files: and the session has it open afterwards
  bool unnamed = false;  // O_TMPFILE: in no directory
};

struct CommitRequest {
  InodeId ino;
  uint64_t size = 0;  // the file grows to it
  std::optional<int64_t> mtimeNs;
};

struct LockAnswer {
  enum class Outcome : uint8_t { kGranted, kConflict, kDeadlock, kWaiting };
  Outcome outcome = Outcome::kGranted;
  uint64_t serial = 0;
};

struct AccessTime {
  InodeId ino;
  int64_t atNs = 0;
};

struct ServerPage {
  DirPage page;
  std::vector<ServerAttr> attrs;  // plus: of its entries, as the MDS has them
  Attr directory;                 // number, type and times
};

struct LinkTarget {
  std::string path;
  Attr link;  // number, type and times
};

class MdsOps {
 public:
  // Leases that come with answers are entered into `leases` before an operation returns.
  MdsOps(Session& session, LeaseTable& leases) : session_(session), leases_(leases) {}

  Task<Result<ServerAttr>> lookup(InodeId parent, std::string name);
  Task<Result<ServerAttr>> getattr(InodeId ino);
  Task<Result<ServerAttr>> setattr(InodeId ino, AttrChange change);
  Task<Result<ServerEntry>> make(MakeRequest what);
  Task<Result<ServerAttr>> link(InodeId ino, InodeId parent, std::string name);
  Task<Result<void>> remove(InodeId parent, std::string name, bool directory);
  Task<Result<void>> rename(InodeId parent, std::string name, InodeId newParent,
                            std::string newName, uint32_t flags);
  Task<Result<LinkTarget>> readlink(InodeId ino);
  Task<Result<ServerPage>> readdir(InodeId dir, uint64_t cookie, uint32_t limit, bool plus);
  Task<Result<std::string>> getxattr(InodeId ino, std::string name);
  Task<Result<std::vector<std::string>>> listxattr(InodeId ino);
  Task<Result<void>> setxattr(InodeId ino, std::string name, std::string value, uint32_t flags,
                              bool dropSgid);
  Task<Result<void>> removexattr(InodeId ino, std::string name);
  Task<Result<Capacity>> statfs();

  // `write`: it will be written, so that a write lease is welcome.
  Task<Result<ServerEntry>> open(InodeId ino, bool write);
  // Waits until nobody is in the way of the lease; the answer grants it.
  Task<Result<ServerEntry>> lease(InodeId ino, bool write);
  Task<Result<void>> returnLeases(std::vector<LeaseReturn> leases);
  Task<Result<void>> release(std::vector<InodeId> inodes);
  // Locks or unlocks. `gone`, with an unlock: so is the owner, and what it has asked for is not to
  // be done. `begin` is called for each attempt and gives the number under which it waits;
  // 0: it does not. `givenUp`, `early`: see Session::query.
  Task<Result<LockAnswer>> lock(HeldLock what, bool gone, std::function<uint64_t()> begin,
                                std::function<bool()> givenUp, Event* early);
  // What is in the way; type kNone: nothing.
  Task<Result<LockPiece>> testLock(HeldLock what);
  // Tried once, or until it is answered.
  Task<Result<void>> cancelLock(uint64_t id, bool once);
  // What is held on the inode stands, but for what was unlocked before.
  Task<Result<void>> lockProbed(InodeId ino, uint64_t serial);
  // At most kMaxChunksPerCall.
  Task<Result<ChunkList>> chunks(InodeId ino, uint32_t first, uint32_t count);
  // `near`: chunks to whose groups the new ones should go, from the first on (mds.capnp, Chunks).
  Task<Result<ChunkList>> allocChunks(InodeId ino, uint32_t first, uint32_t count,
                                      std::vector<ChunkId> near = {});
  Task<Result<ServerAttr>> removeChunks(InodeId ino, uint32_t first, uint32_t count);
  Task<Result<ServerAttr>> commitWrite(CommitRequest what);
  Task<Result<ServerAttr>> tailCleaned(InodeId ino, uint64_t size);
  // Those that have another time of last access now, ascending.
  Task<Result<std::vector<InodeId>>> accessed(const std::vector<AccessTime>& accesses, bool always);

 private:
  // Runs right after the reply was read, see LeaseTable.
  void enter(const ServerAttr& attr);
  Result<ServerAttr> enter(Result<ServerAttr> attr);
  Result<ServerEntry> enter(Result<ServerEntry> entry);
  Session& session_;
  LeaseTable& leases_;
};

}  // namespace cairn::client
