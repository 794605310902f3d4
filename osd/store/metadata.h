// The store's LevelDB: keys, values, and a write-behind buffer in front of it. The write-ahead log
// makes changes durable, so they may wait here; a key that changes often is written once. Readers
// see the buffer. One reactor thread. Errors: kIo and kCorrupt of the database; after a failed
// write every later call fails, for the database no longer has what was dropped.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/base/uuid.h"
#include "common/kv/kv.h"
#include "common/wal/ring_log.h"
#include "osd/store/layout.h"

namespace cairn::osd {

struct ChunkHeader {
  ChunkVersion version;
  uint32_t blocks = 0;  // written or reserved
  bool operator==(const ChunkHeader&) const = default;

  [[nodiscard]] std::string encode(std::string_view key) const;
  static std::optional<ChunkHeader> decode(std::string_view key, std::string_view value);
};

// What the database says about itself.
struct StoreIdentity {
  Uuid store;
  Uuid cluster;

  [[nodiscard]] std::string encode() const;
  static std::optional<StoreIdentity> decode(std::string_view value);
};

namespace keys {
inline constexpr std::string_view kIdentity = "!identity";
inline constexpr std::string_view kApplied = "!applied";  // Lsn of the newest record in here
inline constexpr std::string_view kOsdId = "!osd";
inline constexpr char kChunkPrefix = 'c';

// A chunk's header, then its groups in order: what is read together lies together.
std::string header(ChunkId chunk);
std::string group(ChunkId chunk, uint32_t group);
struct ChunkKey {
  ChunkId chunk;
  std::optional<uint32_t> group;  // without: the header
};
// Nothing if it is neither.
std::optional<ChunkKey> parse(std::string_view key);
}  // namespace keys

class Metadata {
 public:
  explicit Metadata(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}

  Result<std::optional<std::string>> get(std::string_view key);
  void put(std::string key, std::string value);
  void del(std::string key);
  // In order of keys from `from` on, until `visit` returns false. `visit` changes nothing here.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  Result<void> scan(std::string_view from, const Visit& visit);

  [[nodiscard]] size_t bufferedBytes() const { return bufferedBytes_; }
  // Writes the buffer to the database in one batch that says `applied`; not durable before sync().
  Result<void> flush(Lsn applied);
  // Past the buffer, durable.
  Result<void> putDurably(std::string_view key, std::string_view value);
  Task<Result<void>> sync();

 private:
  Result<void> alive() const;

  std::unique_ptr<Kv> kv_;
  std::map<std::string, std::optional<std::string>, std::less<>> buffer_;  // nullopt: deleted
  size_t bufferedBytes_ = 0;
  std::optional<Error> failed_;
};

}  // namespace cairn::osd
