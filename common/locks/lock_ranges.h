// What one owner has locked of one file: byte ranges, each for reading or for writing. The algebra
// of POSIX record locks, used by the MDS and by clients. Pure; any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace cairn {

enum class LockType : uint8_t { kNone, kRead, kWrite };  // a larger one includes the smaller
enum class LockSpace : uint8_t { kFlock, kRange };       // they do not see each other (LOCKS.md)

inline constexpr uint64_t kLastLockByte = INT64_MAX;

struct LockPiece {
  uint64_t start = 0, end = kLastLockByte;  // both included
  LockType type = LockType::kNone;
  uint32_t pid = 0;
  bool operator==(const LockPiece&) const = default;
};

class LockRanges {
 public:
  // Replaces what lies in the range; kNone takes it away. Pieces that touch and are of one type
  // become one, with the newest pid.
  void set(const LockPiece& piece);
  // The pieces in the range, cut to it.
  [[nodiscard]] std::vector<LockPiece> within(uint64_t start, uint64_t end) const;
  // The first piece in the range that excludes another owner's lock of this type, not cut.
  [[nodiscard]] std::optional<LockPiece> excluding(uint64_t start, uint64_t end,
                                                   LockType type) const;
  // Whether setting the piece takes anything away.
  [[nodiscard]] bool lessened(const LockPiece& piece) const;
  [[nodiscard]] std::vector<LockPiece> all() const { return within(0, kLastLockByte); }
  [[nodiscard]] bool empty() const { return pieces_.empty(); }
  [[nodiscard]] size_t size() const { return pieces_.size(); }
  [[nodiscard]] size_t writing() const { return writing_; }  // pieces

 private:
  struct Rest {
    uint64_t end;
    LockType type;
    uint32_t pid;
  };
  using Pieces = std::map<uint64_t, Rest>;  // by start; disjoint
  // The first piece that ends at `at` or behind.
  [[nodiscard]] Pieces::const_iterator from(uint64_t at) const;
  void cutAt(uint64_t at);
  Pieces::iterator insert(uint64_t start, Rest rest);
  Pieces::iterator erase(Pieces::iterator it);

  Pieces pieces_;
  size_t writing_ = 0;
};

}  // namespace cairn
