// What one regular file must hold: exactly, while its client lives; and within bounds, after its
// client died: every byte is the one that was last made durable, or one that was written there
// since, never anything else. Pure.
//
// Only bytes from `base` on are ever written (`base` may be far into the file); those below are a
// hole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cairn::sim::test {

class FileModel {
 public:
  explicit FileModel(uint64_t base) : base_(base) {}

  [[nodiscard]] uint64_t base() const { return base_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  // What a read returns: cut at the end of the file.
  [[nodiscard]] std::string read(uint64_t offset, uint64_t length) const;

  // ---- Changes. A change is noted before it begins; that it became durable, when it has ended. --
  void write(uint64_t offset, const std::string& data);
  void written(uint64_t offset, const std::string& data);  // durable: O_DIRECT
  void truncate(uint64_t size);
  void truncated(uint64_t size);  // durable
  void zero(uint64_t offset, uint64_t length);
  void extend(uint64_t size);  // no effect when shorter
  void synced();               // all of it is durable

  // Whether a crash could show anything but what is here.
  [[nodiscard]] bool uncertain() const { return !layers_.empty() || sizeLow_ != sizeHigh_; }
  // After a crash: what was found, from base() on. Empty, or what is wrong with it. Taken over as
  // what the file holds, durable.
  [[nodiscard]] std::string adopt(uint64_t size, std::string found);

 private:
  // A change since the last sync.
  struct Layer {
    uint64_t from, to;
    std::string data;  // empty: zeros
    bool certain;      // nothing older can be found there
    [[nodiscard]] char at(uint64_t i) const { return data.empty() ? '\0' : data[i - from]; }
  };
  void resize(uint64_t size);

  const uint64_t base_;
  uint64_t size_ = 0;
  std::string bytes_;   // from base_ on
  std::string stable_;  // the same, as of the last sync; zeros behind it
  std::vector<Layer> layers_;
  uint64_t sizeLow_ = 0, sizeHigh_ = 0;  // what a crash may leave
};

}  // namespace cairn::sim::test
