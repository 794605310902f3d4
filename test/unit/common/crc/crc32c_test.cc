#include "common/crc/crc32c.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include <doctest/doctest.h>

#include "common/base/units.h"

using namespace cairn;

namespace {

Bytes asBytes(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

std::vector<uint8_t> crcPattern(size_t n) {
  std::vector<uint8_t> v(n);
  uint32_t x = 1;
  for (auto& b : v) b = static_cast<uint8_t>((x = x * 1664525 + 1013904223) >> 24);
  return v;
}

// Bit by bit, straight from the polynomial.
uint32_t slowCrc(Bytes bytes) {
  uint32_t reg = 0xffffffffu;
  for (uint8_t b : bytes) {
    reg ^= b;
    for (int i = 0; i < 8; ++i) reg = (reg >> 1) ^ ((reg & 1) ? 0x82f63b78u : 0);
  }
  return ~reg;
}

}  // namespace

TEST_CASE("CRC32C gives the values of RFC 3720, appendix B.4") {
  std::array<uint8_t, 32> b{};
  CHECK(crc32c(b) == 0x8a9136aau);
  b.fill(0xff);
  CHECK(crc32c(b) == 0x62a8ab43u);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<uint8_t>(i);
  CHECK(crc32c(b) == 0x46dd794eu);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<uint8_t>(31 - i);
  CHECK(crc32c(b) == 0x113fdb5cu);
  // An iSCSI SCSI Read (10) command PDU.
  const std::array<uint8_t, 48> pdu = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                       0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
                                       0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00,
                                       0x00, 0x18, 0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                       0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  CHECK(crc32c(pdu) == 0xd9963a56u);
  CHECK(crc32c(asBytes("123456789")) == 0xe3069283u);
  CHECK(crc32c({}) == 0);
}

TEST_CASE("CRC32C agrees with the polynomial at every length and alignment") {
  auto data = crcPattern(1024 + 16);
  for (size_t at : {0u, 1u, 3u, 7u, 8u, 15u})
    for (size_t n = 0; n < 300; n += 7) {
      Bytes b = Bytes(data).subspan(at, n);
      REQUIRE(crc32c(b) == slowCrc(b));
    }
}

TEST_CASE("extending gives the CRC of the whole") {
  auto data = crcPattern(10000);
  const uint32_t whole = crc32c(data);
  for (size_t cut : {0u, 1u, 4095u, 4096u, 9999u, 10000u})
    CHECK(crc32cExtend(crc32c(Bytes(data).first(cut)), Bytes(data).subspan(cut)) == whole);
}

TEST_CASE("the zero block's CRC is that of 4 KiB of zeros") {
  std::vector<uint8_t> zeros(kBlockSize);
  CHECK(crc32cZeroBlock() == crc32c(zeros));
  CHECK(crc32cZeroBlock() == slowCrc(zeros));
}

TEST_CASE("block CRCs cover exactly the bytes of each touched block") {
  auto data = crcPattern(3 * kBlockSize);
  SUBCASE("aligned") {
    auto crcs = blockCrcs(8 * kBlockSize, data);
    REQUIRE(crcs.size() == 3);
    for (size_t i = 0; i < 3; ++i)
      CHECK(crcs[i] == crc32c(Bytes(data).subspan(i * kBlockSize, kBlockSize)));
  }
  SUBCASE("from inside one block into another") {
    Bytes b = Bytes(data).first(kBlockSize + 100);
    auto crcs = blockCrcs(kBlockSize - 50, b);
    REQUIRE(crcs.size() == 3);
    CHECK(crcs[0] == crc32c(b.first(50)));
    CHECK(crcs[1] == crc32c(b.subspan(50, kBlockSize)));
    CHECK(crcs[2] == crc32c(b.subspan(50 + kBlockSize, 50)));
  }
  SUBCASE("inside one block") {
    Bytes b = Bytes(data).first(10);
    CHECK(blockCrcs(5, b) == std::vector<uint32_t>{crc32c(b)});
  }
  SUBCASE("nothing touches nothing") {
    CHECK(blockCrcs(5, {}).empty());
    CHECK(blockCrcsMatch(5, {}, {}));
  }
}

TEST_CASE("a match needs the right bytes, the right offset and exactly one CRC per block") {
  auto data = crcPattern(2 * kBlockSize + 17);
  const uint64_t offset = 3 * kBlockSize + 77;
  auto crcs = blockCrcs(offset, data);
  Bytes wire = crcBytes(crcs);
  CHECK(blockCrcsMatch(offset, data, wire));
  CHECK_FALSE(blockCrcsMatch(offset + 1, data, wire));
  CHECK_FALSE(blockCrcsMatch(offset, data, wire.first(wire.size() - 4)));
  CHECK_FALSE(blockCrcsMatch(offset, data, wire.first(wire.size() - 1)));
  CHECK_FALSE(blockCrcsMatch(offset, data, {}));
  auto more = crcs;
  more.push_back(0);
  CHECK_FALSE(blockCrcsMatch(offset, data, crcBytes(more)));
  for (size_t at : {size_t{0}, data.size() / 2, data.size() - 1}) {
    auto flipped = data;
    flipped[at] ^= 0x10;
    CHECK_FALSE(blockCrcsMatch(offset, flipped, wire));
  }
  // The wire form may lie at any address.
  std::vector<uint8_t> shifted(wire.size() + 1);
  std::memcpy(shifted.data() + 1, wire.data(), wire.size());
  CHECK(blockCrcsMatch(offset, data, Bytes(shifted).subspan(1)));
}
