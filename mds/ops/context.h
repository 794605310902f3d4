// What one command works with: the state, the command's own values (time, session), the inodes it
// has touched and the answer it builds. Lives for one command; one thread.
//
// Nothing an operation does here outlives its failure: records go to the transaction, which is
// rolled back; everything else is kept here and moved into the state by finish(). So operations
// check and change in whatever order reads best, and return an error wherever they find one.
//
// Inodes are an identity map: asking twice for one inode gives the same object, which stays valid
// for the command's life. That is what makes rename(a, b) right when the two parents are one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mds/state/state.h"

namespace cairn::mds {

class OpContext {
 public:
  // `state`, the command's memory and `scratch` outlive it. `scratch` is zeroed, and is again when
  // this dies: the answer's first segment.
  OpContext(State& state, schema::Command::Reader command, kj::ArrayPtr<capnp::word> scratch);

  [[nodiscard]] State& state() { return state_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] schema::Command::Reader command() const { return command_; }
  [[nodiscard]] SessionId session() const { return SessionId(command_.getSession()); }
  [[nodiscard]] int64_t timeNs() const { return command_.getTimeNs(); }

  // ---- inodes ----
  // kStale when it is gone, or unlinked and held by nobody.
  Result<Inode*> inode(InodeId ino);
  // The same, as it is stored: also one that only waits to be purged. nullptr when there is none.
  Result<Inode*> storedInode(InodeId ino);
  // Also kNotDirectory, and kNotFound for a directory that was removed but is held open.
  Result<Inode*> directory(InodeId ino);
  // Also kIsDirectory, and kInvalid for what is neither file nor directory.
  Result<Inode*> regularFile(InodeId ino);
  // A new one: number, generation and times are set; the caller links it.
  Inode& newInode(uint32_t mode, uint32_t uid, uint32_t gid, PoolId pool);
  // The root directory of a new filesystem.
  Inode& newRoot(PoolId pool);
  // Stores the record; what differs in it counts as no change of the inode. Not in a command that
  // also changes it.
  void store(Inode& inode) { loaded(inode).dirty = true; }
  // The inode's record changed: stores it and counts one version a command.
  void touch(Inode& inode);
  // The inode changed in a way that stat(2) shows: touch() and ctime.
  void changed(Inode& inode);
  // Its contents did: changed() and mtime. For directories, an entry came or went.
  void modified(Inode& inode);
  // Its new chunks or files go there.
  void setPool(Inode& inode, PoolId pool);
  // Deletes the record.
  void dropInode(Inode& inode);

  // ---- orphans: inodes with work left to do (state_machine.h) ----
  // Who holds it; nullptr when it is none. Until the next change of that orphan.
  [[nodiscard]] const std::vector<SessionId>* orphan(InodeId ino) const;
  void setOrphan(InodeId ino, std::vector<SessionId> holders) {
    orphans_[ino] = std::move(holders);
  }
  void dropOrphan(InodeId ino) { orphans_[ino] = std::nullopt; }

  // ---- names ----
  // The entry's inode; nullptr when there is none of that name.
  Result<Inode*> child(Inode& dir, std::string_view name);
  Result<bool> hasEntry(const Inode& dir, std::string_view name);
  // One entry more or less in a directory, with its counts of entries and subdirectories; times and
  // the child's nlink are the caller's. attach() also sets a directory's parent.
  void attach(Inode& dir, std::string_view name, Inode& child);
  void detach(Inode& dir, std::string_view name, const Inode& child);

  // ---- counts and memory that finish() moves into the state ----
  // More or less that refers to the pool.
  struct UseChange {
    int64_t chunks = 0, inodes = 0, garbage = 0;
  };
  void countUse(PoolId pool, UseChange change);
  void openSession(SessionInfo session) { opened_ = std::move(session); }
  void endSession(SessionId session) { ended_ = session; }
  // The cluster as this command sees it, and a copy of it to change.
  [[nodiscard]] const ClusterState& cluster() const {
    return newCluster_ ? *newCluster_ : state_.cluster;
  }
  ClusterState& changeCluster();

  // ---- the answer ----
  schema::MdsReply::Builder reply();
  void replyAttr(const Inode& inode) { inode.write(reply().initAttr()); }
  void replyEntry(const Inode& inode, const std::vector<Chunk>& chunks = {});
  void replyChunks(const std::vector<Chunk>& chunks);

  // Ends a command that succeeded: writes its inodes and moves the rest into the state. Cannot
  // fail.
  void finish();
  // The answer as one flat segment; empty if none was built.
  std::string takeReply();

 private:
  struct Loaded {
    Inode inode;
    bool dirty = false, gone = false;
  };
  Inode& add(InodeId ino, uint32_t mode);
  Loaded& loaded(const Inode& inode);
  void storeCluster();

  State& state_;
  schema::Command::Reader command_;
  Counters counters_;
  std::map<InodeId, Loaded> inodes_;
  std::map<InodeId, std::optional<std::vector<SessionId>>> orphans_;
  std::map<PoolId, UseChange> useChanges_;
  std::optional<SessionInfo> opened_;
  std::optional<SessionId> ended_;
  std::optional<ClusterState> newCluster_;
  kj::ArrayPtr<capnp::word> scratch_;
  std::optional<capnp::MallocMessageBuilder> message_;
};

// A name as it comes in a message.
inline std::string_view nameOf(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}
inline std::string_view textOf(capnp::Text::Reader text) {
  return {text.cStr(), text.size()};
}

// kNameTooLong above 255 bytes; kInvalid for the empty name, ".", "..", or one with '/' or NUL.
Result<void> checkName(std::string_view name);

}  // namespace cairn::mds
