// The attributes of one inode as this client sees them: what the MDS said last, and what this
// client's writes have changed since without the MDS knowing. Pure. One reactor thread.
//
// Size and times go to the MDS after the data ("commit"): at any moment it knows a size of which
// every byte is durable. dataVersion() is the version that this client's clean data belongs to.
// While the inode is under a lease nobody else changes its data; whoever comes under one again
// compares.
#pragma once

#include <algorithm>
#include <optional>

#include "client/core/mds_ops.h"

namespace cairn::client {

class InodeState {
 public:
  // Takes over what an answer says; an older answer than the last changes nothing.
  void learn(const ServerAttr& a);
  // The answer of a change of the data by this client, under its write lease.
  void learnOwn(const ServerAttr& a);
  // The inode has come under a lease, and `a` was said under it. True: somebody else changed the
  // data since we last knew.
  bool takeOver(const ServerAttr& a);

  [[nodiscard]] bool loaded() const { return loaded_; }
  [[nodiscard]] const ServerAttr& server() const { return server_; }
  [[nodiscard]] uint64_t dataVersion() const { return dataVersion_; }

  // The MDS has taken over a time of last access.
  void accessed(int64_t atNs) { server_.atimeNs = std::max(server_.atimeNs, atNs); }

  // A write was accepted at `nowNs`.
  void wrote(int64_t nowNs);
  // Bytes up to `end` of the file are durable on the OSDs (0: bytes changed, none were added).
  void stored(uint64_t end);
  // The size changed at the MDS by our doing: what was pending is settled.
  void resized();

  struct Commit {
    uint64_t size = 0;  // 0: the MDS knows it
    std::optional<int64_t> mtimeNs;
    uint64_t writes = 0;
  };
  // Whether the MDS is behind what is durable.
  [[nodiscard]] bool uncommitted() const { return uncommitted_ || grown(); }
  // Whether it is behind in size.
  [[nodiscard]] bool grown() const { return storedEnd_ > server_.size; }
  Commit beginCommit();
  void committed(const Commit& commit);
  void commitFailed() { uncommitted_ = true; }
  // Gives up what could not be committed.
  void abandonCommit();

  // `dirtyEnd`: the end of the last byte that is not flushed, or 0.
  [[nodiscard]] uint64_t size(uint64_t dirtyEnd) const;
  [[nodiscard]] Attr merged(uint64_t dirtyEnd) const;

 private:
  ServerAttr server_;
  bool loaded_ = false;
  uint64_t dataVersion_ = 0;
  uint64_t storedEnd_ = 0;          // of what was flushed beyond the size that the MDS knows
  std::optional<int64_t> mtimeNs_;  // of the last write, until committed
  uint64_t writes_ = 0;
  bool uncommitted_ = false;
};

}  // namespace cairn::client
