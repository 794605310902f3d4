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
#include <utility>

#include "common/base/uuid.h"
#include "common/kv/kv.h"
#include "common/wal/ring_log.h"
#include "osd/store.h"
#include "osd/store/layout.h"

namespace cairn::osd {

// Of a chunk, or (without blocks) of what is left of one that was removed.
struct ChunkHeader {
  GroupId group;
  ChunkVersion version;
  uint32_t blocks = 0;  // written or reserved
  bool operator==(const ChunkHeader&) const = default;

  [[nodiscard]] std::string encode(std::string_view key) const;
  static std::optional<ChunkHeader> decode(std::string_view key, std::string_view value);
};

// The value of an entry of a group's index of changes, whose key says the rest.
struct ChangeFlags {
  bool removed = false;

  [[nodiscard]] std::string encode(std::string_view key) const;
  static std::optional<ChangeFlags> decode(std::string_view key, std::string_view value);
};

std::string encodeGroupState(std::string_view key, const GroupState& state);
std::optional<GroupState> decodeGroupState(std::string_view key, std::string_view value);

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
inline std::string note(std::string_view name) {
  return "!note:" + std::string(name);
}
inline constexpr char kChunkPrefix = 'c';
inline constexpr char kGroupPrefix = 'g';
inline constexpr char kChangePrefix = 'i';
inline constexpr char kRemovedPrefix = 'r';

// A chunk's header, then its groups in order: what is read together lies together.
std::string header(ChunkId chunk);
std::string group(ChunkId chunk, uint32_t group);
struct ChunkKey {
  ChunkId chunk;
  std::optional<uint32_t> group;  // without: the header
};
// Nothing if it is neither.
std::optional<ChunkKey> parse(std::string_view key);

// What is left of a chunk that was removed.
std::string removed(ChunkId chunk);
std::optional<ChunkId> parseRemoved(std::string_view key);
// The state of a placement group.
std::string groupState(GroupId group);
std::optional<GroupId> parseGroupState(std::string_view key);
// An entry of its index of changes; in order of versions. All of a group begin alike.
inline constexpr size_t kChangeGroupBytes = 9;
std::string change(GroupId group, ChunkVersion version, ChunkId chunk);
struct ChangeKey {
  GroupId group;
  ChunkVersion version;
  ChunkId chunk;
};
std::optional<ChangeKey> parseChange(std::string_view key);
}  // namespace keys

class Metadata {
 public:
  explicit Metadata(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}

  Result<std::optional<std::string>> get(std::string_view key);
  void put(std::string key, std::string value);
  // As put(), of a key that is neither here nor in the database: a del() that comes before the next
  // flush leaves no trace of the two.
  void putNew(std::string key, std::string value);
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
  struct Buffered {
    std::optional<std::string> value;  // nullopt: deleted
    bool isNew = false;                // the database has nothing under the key
  };
  using Buffer = std::map<std::string, Buffered, std::less<>>;
  Result<void> alive() const;
  // Says also whether the key was not there yet.
  std::pair<Buffer::iterator, bool> change(std::string key, std::optional<std::string> value);

  std::unique_ptr<Kv> kv_;
  Buffer buffer_;
  size_t bufferedBytes_ = 0;
  std::optional<Error> failed_;
};

}  // namespace cairn::osd
