// An ordered key-value store: LevelDB, on the host's file system or (sim::SimKvEnv) in a simulated
// one that forgets what was not synced. Owned by one reactor thread. Reads and writes block that
// thread for microseconds when warm; sync() goes through Reactor::offload.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/reactor/reactor.h"

namespace leveldb {
class Env;
}

namespace cairn {

// Changes that become visible together. Later calls win over earlier ones on the same key.
class KvBatch {
 public:
  KvBatch();
  ~KvBatch();
  KvBatch(KvBatch&&) noexcept;
  KvBatch& operator=(KvBatch&&) noexcept;
  void put(std::string_view key, std::string_view value);
  void del(std::string_view key);
  void clear();
  [[nodiscard]] size_t sizeBytes() const;

 private:
  friend class LevelKv;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class KvIterator {
 public:
  virtual ~KvIterator() = default;
  virtual void seek(std::string_view key) = 0;  // first key >= `key`
  virtual void seekLast() = 0;
  virtual void next() = 0;
  virtual void prev() = 0;
  [[nodiscard]] virtual bool valid() const = 0;
  [[nodiscard]] virtual std::string_view key() const = 0;  // until the next move
  [[nodiscard]] virtual std::string_view value() const = 0;
  // What stopped the iteration: ok at the end, kCorrupt or kIo otherwise.
  [[nodiscard]] virtual Result<void> status() const = 0;
};

class Kv {
 public:
  virtual ~Kv() = default;
  // kNotFound, kCorrupt or kIo on failure.
  virtual Result<std::string> get(std::string_view key) = 0;
  // Atomic. Survives a crash of this process; sure to survive power loss only after sync() (or if
  // `durable`, which waits for the disk on this thread). Power loss keeps a prefix of the batches
  // in the order of writing. After a failed write or sync all later ones fail until the database
  // is opened again.
  virtual Result<void> write(KvBatch& batch, bool durable = false) = 0;
  // A consistent view of now; later writes do not show in it.
  virtual std::unique_ptr<KvIterator> iterate() = 0;
  // Everything written before the call is durable when it completes. Writes may go on meanwhile;
  // the store is not closed before it has completed.
  virtual Task<Result<void>> sync() = 0;
};

struct KvOptions {
  size_t writeBufferBytes = 64u << 20;
  size_t cacheBytes = 64u << 20;
  bool createIfMissing = true;
  bool errorIfExists = false;
};

// Opens databases. A path in use by another process gives kBusy, damage gives kCorrupt, both with
// the path.
class KvFactory {
 public:
  virtual ~KvFactory() = default;
  virtual Result<std::unique_ptr<Kv>> open(Reactor& reactor, const std::string& path,
                                           KvOptions options) = 0;
  // Removes a database that is not open, with everything in it. kBusy if it is open somewhere;
  // success if there is none.
  virtual Result<void> destroy(const std::string& path) = 0;
};

// `env` nullptr: the host's file system. Not owned.
std::unique_ptr<KvFactory> makeLevelKvFactory(leveldb::Env* env = nullptr);

}  // namespace cairn
