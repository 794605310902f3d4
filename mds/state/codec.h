// The byte forms that records are made of: see mds/FORMAT.md. Fixed integers are little-endian in
// values; keys use big-endian so that they sort (keys.h). Pure functions, no ownership.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn::mds {

class Encoder {
 public:
  Encoder& u8(uint8_t v) {
    out_.push_back(static_cast<char>(v));
    return *this;
  }
  Encoder& fixed64(uint64_t v) {
    for (int i = 0; i < 8; ++i) out_.push_back(static_cast<char>(v >> (8 * i)));
    return *this;
  }
  // LEB128: seven bits a byte, lowest first; 1 to 10 bytes.
  Encoder& varint(uint64_t v) {
    while (v >= 0x80) {
      out_.push_back(static_cast<char>(v | 0x80));
      v >>= 7;
    }
    out_.push_back(static_cast<char>(v));
    return *this;
  }
  // A difference that is usually small, of either sign (zigzag).
  Encoder& delta(int64_t value, int64_t base) {
    auto d = static_cast<uint64_t>(value) - static_cast<uint64_t>(base);
    return varint((d << 1) ^ (0 - (d >> 63)));
  }
  Encoder& bytes(std::string_view v) {
    varint(v.size());
    out_.append(v);
    return *this;
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Reads what Encoder wrote. After a malformed or missing field every further read gives zero and
// done() is false.
class Decoder {
 public:
  explicit Decoder(std::string_view in) : in_(in) {}
  uint8_t u8() {
    if (!need(1)) return 0;
    auto v = static_cast<uint8_t>(in_[0]);
    in_.remove_prefix(1);
    return v;
  }
  uint64_t fixed64() {
    if (!need(8)) return 0;
    uint64_t v = 0;
    for (int i = 7; i >= 0; --i) v = v << 8 | static_cast<uint8_t>(in_[static_cast<size_t>(i)]);
    in_.remove_prefix(8);
    return v;
  }
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (!need(1)) return 0;
      auto byte = static_cast<uint8_t>(in_[0]);
      in_.remove_prefix(1);
      if (shift == 63 && byte > 1) break;  // more than 64 bits
      v |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return v;
    }
    failed_ = true;
    return 0;
  }
  // A varint that must fit into 32 bits.
  uint32_t varint32() {
    uint64_t v = varint();
    if (v > UINT32_MAX) failed_ = true;
    return failed_ ? 0 : static_cast<uint32_t>(v);
  }
  int64_t delta(int64_t base) {
    uint64_t z = varint();
    uint64_t d = (z >> 1) ^ (0 - (z & 1));
    return static_cast<int64_t>(static_cast<uint64_t>(base) + d);
  }
  std::string_view bytes() {
    uint64_t n = varint();
    if (!need(n)) return {};
    auto v = in_.substr(0, n);
    in_.remove_prefix(n);
    return v;
  }
  std::string_view rest() {
    auto v = in_;
    in_ = {};
    return v;
  }
  void fail() { failed_ = true; }
  [[nodiscard]] bool failed() const { return failed_; }
  // All of it was read and made sense.
  [[nodiscard]] bool done() const { return !failed_ && in_.empty(); }

 private:
  bool need(uint64_t n) {
    if (failed_ || in_.size() < n) failed_ = true;
    return !failed_;
  }
  std::string_view in_;
  bool failed_ = false;
};

}  // namespace cairn::mds
