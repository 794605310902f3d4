// A POSIX namespace as plain maps, and random operations on it: what the state machine is held
// against. Written from POSIX and from the messages' comments, not from the implementation.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/reactor/clock.h"
#include "test/unit/mds/state/fixture.h"

namespace cairn::mds::statetest {

struct Op {
  enum Kind {
    kMake,
    kLink,
    kRemove,
    kRename,
    kChmod,
    kChown,
    kTruncate,
    kSetxattr,
    kRemovexattr,
    kAlloc,
    kRemoveChunks,
    kCommit,
    kTailCleaned,
    kRelease,
    kPurge,
    kSessionOpen,
    kSessionEnd,
    kKinds,
  };
  Kind kind = kMake;
  uint64_t ino = 0, parent = 0, newParent = 0;
  std::string name, newName, value;
  uint32_t mode = 0, uid = 0, gid = 0, flags = 0, first = 0, count = 0;
  uint64_t size = 0, session = 0;
  bool directory = false, open = false, clearSuid = false, tailCleaned = false, expired = false;
  By by;

  void build(schema::Mutation::Builder m) const;
};

struct Node {
  uint32_t mode = 0, nlink = 0, uid = 0, gid = 0;
  uint64_t size = 0, parent = 0;
  std::map<std::string, uint64_t> entries;
  std::string target;
  std::map<std::string, std::string> xattrs;
  std::set<uint32_t> chunks;
  bool tailUnclean = false;
  // Sessions that may have stored bytes behind the end that nobody was told of: all but this one
  // may have, as soon as there is a chunk. 0: one that the machine does not know.
  uint64_t trusted = 0;
  int64_t mtimeNs = 0, ctimeNs = 0;
  std::optional<std::set<uint64_t>> holders;  // set: unlinked

  [[nodiscard]] bool isDir() const { return S_ISDIR(mode); }
  [[nodiscard]] bool isFile() const { return S_ISREG(mode); }
  // Only waits to be purged: nobody may use it.
  [[nodiscard]] bool dead() const { return holders && holders->empty(); }
  // Whether the session must clean the tail before it extends the file.
  [[nodiscard]] bool unclean(uint64_t session) const {
    return tailUnclean || (!chunks.empty() && session != trusted);
  }
};

class Model {
 public:
  // Of a machine with this map.
  explicit Model(int64_t rootTimeNs, MapEpoch epoch = {});
  // What the operation does at its command's time.
  Errc apply(const Op& op);
  // One that often makes sense, and often nearly so.
  Op random(Random& random);
  // Compares everything that can be asked of the machine.
  void compare(Mds& mds) const;

  std::map<uint64_t, Node> nodes;
  std::set<uint64_t> sessions, expired;
  uint64_t garbage = 0;

 private:
  Errc make(const Op& op);
  Errc link(const Op& op);
  Errc remove(const Op& op);
  Errc rename(const Op& op);
  Errc onInode(const Op& op);
  Errc onFile(const Op& op, Node& f);
  Errc purge(const Op& op);
  Errc findDir(uint64_t ino, Node*& dir);
  [[nodiscard]] bool isBelow(uint64_t dir, uint64_t ancestor) const;
  void entry(uint64_t dir, const std::string& name, uint64_t ino);
  void noEntry(uint64_t dir, const std::string& name);
  void dropName(uint64_t ino, const By& by);
  void free(uint64_t ino);
  void change(Node& n, bool data = false);
  [[nodiscard]] uint64_t pick(Random& random, bool directory) const;

  const uint64_t firstEpoch_;
  uint64_t nextIno_ = 2, nextSession_ = 1;
  int64_t timeNs_;
};

}  // namespace cairn::mds::statetest
