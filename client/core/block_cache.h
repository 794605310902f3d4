// Clean data that was just read or read ahead: pieces of 1 MiB (shorter at the end of a file),
// least recently used out first, for all files of a mount together.
//
// A fill is a read that will put its piece here; readers of the piece wait for it instead of
// reading it again. What changes bytes on the OSDs calls invalidate() when it is done, before it
// lets readers know: cached pieces go, and fills in flight, which may carry the old bytes, are
// neither kept nor joined by later readers. Pure data: nothing waits here. One reactor thread.
#pragma once

#include <list>
#include <map>
#include <memory>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/reactor/sync.h"

namespace cairn::client {

class BlockCache {
 public:
  struct Fill {
    explicit Fill(Reactor& r) : done(r) {}
    InodeId ino;
    uint64_t index = 0;  // in pieces
    bool current = true;
    Event done;
    Result<Buffer> result;  // once done
  };

  BlockCache(Reactor& reactor, uint64_t limitBytes) : reactor_(reactor), limit_(limitBytes) {}
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // The piece, if it is here and at least `length` bytes long; a shorter one is dropped, because
  // the file has grown since.
  std::optional<Buffer> find(InodeId ino, uint64_t index, uint64_t length);
  [[nodiscard]] bool holds(InodeId ino, uint64_t index) const;
  // The fill of the piece that is on its way, or nullptr.
  [[nodiscard]] std::shared_ptr<Fill> filling(InodeId ino, uint64_t index) const;
  // Begins one. Whoever began it calls finish().
  std::shared_ptr<Fill> begin(InodeId ino, uint64_t index);
  void finish(const std::shared_ptr<Fill>& fill, Result<Buffer> result);

  // Bytes [from, to) of the file are other ones now.
  void invalidate(InodeId ino, uint64_t from, uint64_t to);
  void drop(InodeId ino) { invalidate(ino, 0, UINT64_MAX); }

  [[nodiscard]] uint64_t usedBytes() const { return used_; }
  [[nodiscard]] uint64_t limitBytes() const { return limit_; }
  [[nodiscard]] size_t fillsInFlight() const { return fills_.size(); }

 private:
  using Key = std::pair<InodeId, uint64_t>;
  struct Block {
    Buffer bytes;
    std::list<Key>::iterator age;
  };
  using Blocks = std::map<Key, Block>;
  Blocks::iterator erase(Blocks::iterator it);

  Reactor& reactor_;
  const uint64_t limit_;
  uint64_t used_ = 0;
  Blocks blocks_;
  std::list<Key> ages_;  // front = used last
  std::map<Key, std::shared_ptr<Fill>> fills_;
};

}  // namespace cairn::client
