#include "common/kv/log_tail.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/crc/crc32c.h"

using namespace cairn;

namespace {

// A log as LevelDB writes it (doc/log_format.md), and where each of its records starts.
struct TestLog {
  std::string bytes;
  std::vector<size_t> starts;

  void add(const std::string& record) {
    size_t left = 32768 - bytes.size() % 32768;
    if (left < 7) bytes.append(left, '\0');
    starts.push_back(bytes.size());
    size_t done = 0;
    do {
      left = 32768 - bytes.size() % 32768;
      if (left < 7) {
        bytes.append(left, '\0');
        left = 32768;
      }
      const size_t n = std::min(record.size() - done, left - 7);
      const bool first = done == 0;
      const bool last = done + n == record.size();
      std::string body(1, static_cast<char>(first ? (last ? 1 : 2) : (last ? 4 : 3)));
      body += record.substr(done, n);
      const uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(body.data()), body.size()});
      const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
      char header[6];
      std::memcpy(header, &masked, 4);
      header[4] = static_cast<char>(n & 0xff);
      header[5] = static_cast<char>(n >> 8);
      bytes.append(header, 6);
      bytes += body;
      done += n;
    } while (done < record.size());
  }
};

TestLog sampleLog() {
  TestLog log;
  for (int i = 0; i < 60; ++i) log.add(std::string(static_cast<size_t>(i * 97 + 20), 'r'));
  log.add(std::string(100'000, 'l'));  // over several blocks
  log.add("the end");
  return log;
}

}  // namespace

TEST_CASE("kv: a whole log is not cut, also when its last value ends in zeros") {
  TestLog log = sampleLog();
  CHECK_FALSE(tornLogTail(log.bytes).has_value());
  log.add(std::string(500, '\0'));
  CHECK_FALSE(tornLogTail(log.bytes).has_value());
  CHECK_FALSE(tornLogTail("").has_value());
}

TEST_CASE("kv: wherever a zero-filled tail begins, the log is cut at the record that it tears") {
  const TestLog whole = sampleLog();
  for (size_t from = 0; from < whole.bytes.size(); from += 61) {
    CAPTURE(from);
    std::string torn = whole.bytes;
    std::fill(torn.begin() + static_cast<ptrdiff_t>(from), torn.end(), '\0');
    auto cut = tornLogTail(torn);
    REQUIRE(cut.has_value());
    REQUIRE(*cut <= from);
    // No record that was whole is lost with it.
    for (size_t i = 0; i + 1 < whole.starts.size(); ++i)
      if (whole.starts[i + 1] <= from) REQUIRE(*cut >= whole.starts[i + 1] - 6);
  }
}

TEST_CASE("kv: damage before the zeros is not taken for a torn tail") {
  TestLog log = sampleLog();
  std::string damaged = log.bytes;
  damaged[log.starts[10] + 20] ^= 1;
  std::fill(damaged.end() - 5, damaged.end(), '\0');
  CHECK_FALSE(tornLogTail(damaged).has_value());
}
