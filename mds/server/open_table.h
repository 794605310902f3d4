// Which session has which inode open. Volatile: after a restart sessions tell it again (reclaim).
// One reactor thread.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/ids.h"

namespace cairn::mds {

class OpenTable {
 public:
  void add(SessionId session, InodeId ino);
  void remove(SessionId session, InodeId ino);
  // The session is gone.
  void drop(SessionId session);

  [[nodiscard]] bool holds(SessionId session, InodeId ino) const;
  [[nodiscard]] std::vector<SessionId> holders(InodeId ino) const;
  [[nodiscard]] size_t opensOf(SessionId session) const;
  [[nodiscard]] size_t size() const;  // pairs

 private:
  std::unordered_map<SessionId, std::unordered_set<InodeId>> bySession_;
  std::unordered_map<InodeId, std::vector<SessionId>> byInode_;  // few each
};

}  // namespace cairn::mds
