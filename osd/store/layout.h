// Where things lie in the store's file or device, and the little-endian coding of its structures.
// See osd/FORMAT.md.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "common/base/assert.h"
#include "common/base/buffer.h"
#include "common/base/units.h"

namespace cairn::osd {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

inline constexpr uint64_t kSuperblockCopies = 2;    // at 0 and at 4 KiB
inline constexpr uint64_t kHeadBytes = kMiB;        // superblocks, and room; zeroed
inline constexpr uint64_t kMinWalBytes = 4 * kMiB;  // a quarter must hold the largest record
inline constexpr uint64_t kMinDataBlocks = 256;
inline constexpr uint32_t kGroupBlocks = 64;  // blocks of a chunk described by one LevelDB entry
inline constexpr uint32_t kChunkBlocks = kBlocksPerChunk;
inline constexpr uint32_t kChunkGroups = kChunkBlocks / kGroupBlocks;

// A data block of the store, counted from the first one after the log.
using PhysBlock = uint64_t;
inline constexpr PhysBlock kMaxPhysBlocks = uint64_t{1} << 48;

struct PhysRun {
  PhysBlock start = 0;
  uint64_t count = 0;
  bool operator==(const PhysRun&) const = default;
};

class Encoder {
 public:
  template <class T>
    requires std::is_unsigned_v<T>
  void put(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  // Sorts as the number does.
  template <class T>
    requires std::is_unsigned_v<T>
  void putBigEndian(T value) {
    put(std::byteswap(value));
  }
  void putBytes(const void* data, size_t size) {
    out_.append(static_cast<const char*>(data), size);
  }
  std::string& out() { return out_; }

 private:
  std::string out_;
};

// After a read past the end every further value is zero and ok() is false.
class Decoder {
 public:
  explicit Decoder(Bytes bytes) : bytes_(bytes) {}
  explicit Decoder(std::string_view text)
      : bytes_(reinterpret_cast<const uint8_t*>(text.data()), text.size()) {}
  template <class T>
    requires std::is_unsigned_v<T>
  T get() {
    T value{};
    if (Bytes b = take(sizeof value); !b.empty()) std::memcpy(&value, b.data(), sizeof value);
    return value;
  }
  template <class T>
    requires std::is_unsigned_v<T>
  T getBigEndian() {
    return std::byteswap(get<T>());
  }
  Bytes take(size_t size) {
    if (!ok_ || size > bytes_.size()) {
      ok_ = false;
      return {};
    }
    Bytes b = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return b;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool finished() const { return ok_ && bytes_.empty(); }
  [[nodiscard]] size_t left() const { return bytes_.size(); }

 private:
  Bytes bytes_;
  bool ok_ = true;
};

inline Bytes bytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace cairn::osd
