#include "common/logging/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <vector>

using namespace cairn;

namespace {

struct FixedClock final : Clock {
  WallNs wall = 1'738'324'800'000'123'456;  // 2025-01-31 12:00:00 UTC
  TimePoint now() const override { return {}; }
  WallNs wallNow() const override { return wall; }
};

// A pipe whose contents are read back.
struct Captured {
  int fds[2];
  FixedClock clock;
  Log log;
  static int open(int (&fds)[2]) {
    REQUIRE(::pipe2(fds, O_NONBLOCK) == 0);
    return fds[1];
  }
  explicit Captured(LogLevel level = LogLevel::kInfo) : log(clock, open(fds), "osd.3", level) {}
  ~Captured() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  std::string take() {
    std::string out;
    char part[4096];
    for (ssize_t n; (n = ::read(fds[0], part, sizeof part)) > 0;)
      out.append(part, static_cast<size_t>(n));
    return out;
  }
};

}  // namespace

TEST_CASE("a line holds time, level, component, event and fields") {
  Captured c;
  c.log.warning("map changed", {{"epoch", 7}, {"addr", "10.0.0.1:7800"}, {"why", "two words"}});
  CHECK(c.take() ==
        "time=2025-01-31T12:00:00.000123Z level=warning component=osd.3 event=\"map changed\" "
        "epoch=7 addr=10.0.0.1:7800 why=\"two words\"\n");
}

TEST_CASE("messages below the level are not written") {
  Captured c;
  c.log.debug("quiet");
  CHECK(c.take().empty());
  c.log.setLevel(LogLevel::kDebug);
  c.log.debug("loud");
  CHECK(c.take().find("level=debug") != std::string::npos);
  c.log.setLevel(LogLevel::kError);
  c.log.warning("quiet");
  CHECK(c.take().empty());
}

TEST_CASE("whatever bytes a value has, it stays one value on one line") {
  const std::pair<std::string, std::string> cases[] = {
      {"", R"(v="")"},
      {"plain-1.2/3", "v=plain-1.2/3"},
      {"a\nb", R"(v="a\nb")"},
      {"tab\there", R"(v="tab\there")"},
      {"q\"uote", R"(v="q\"uote")"},
      {"back\\slash", R"(v="back\\slash")"},
      {"k=v", R"(v="k=v")"},
      {std::string("nul\0x", 5), R"(v="nul\x00x")"},
      {"\x1b[31mred", R"(v="\x1b[31mred")"},
      {"Grüße", "v=Grüße"},
      {"\xf0\x9f\x97\xbb", "v=\xf0\x9f\x97\xbb"},
      {"bad\xff", R"(v="bad\xff")"},
      {"cut\xc3", R"(v="cut\xc3")"},
      {"\xc0\xaf", R"(v="\xc0\xaf")"},          // overlong
      {"\xed\xa0\x80", R"(v="\xed\xa0\x80")"},  // a surrogate
      {"\xc2\x9b", R"(v="\xc2\x9b")"},          // C1 control sequence introducer
  };
  for (const auto& [value, wanted] : cases) {
    Captured c;
    c.log.info("e", {{"v", value}});
    const std::string line = c.take();
    CAPTURE(line);
    CHECK(line.ends_with(" event=e " + wanted + "\n"));
    CHECK(line.find('\n') == line.size() - 1);
  }
}

TEST_CASE("a long value is cut") {
  Captured c;
  c.log.info("e", {{"v", std::string(1 << 20, 'x')}});
  const std::string line = c.take();
  CHECK(line.size() < 5000);
  CHECK(line.ends_with("...\"\n"));
}

TEST_CASE("lines of several threads never mix") {
  char name[] = "/tmp/cairn-log-XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  ::unlink(name);
  ::fcntl(fd, F_SETFL, O_APPEND);
  FixedClock clock;
  Log log(clock, fd, "test");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&log, t] {
      for (int i = 0; i < 500; ++i) log.info("tick", {{"thread", t}, {"i", i}, {"end", "here"}});
    });
  for (auto& t : threads) t.join();
  std::string all(1 << 20, '\0');
  const ssize_t n = ::pread(fd, all.data(), all.size(), 0);
  REQUIRE(n > 0);
  all.resize(static_cast<size_t>(n));
  ::close(fd);
  size_t lines = 0;
  for (size_t at = 0; at < all.size(); ++lines) {
    const size_t end = all.find('\n', at);
    const std::string line = all.substr(at, end - at);
    REQUIRE(line.starts_with("time="));
    REQUIRE(line.ends_with("end=here"));
    REQUIRE(line.rfind("time=") == 0);
    at = end + 1;
  }
  CHECK(lines == 2000);
}

TEST_CASE("a log that cannot be written does not disturb") {
  FixedClock clock;
  Log silent(clock, -1, "x");
  silent.error("dropped");
  const int full = ::open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  Log broken(clock, full, "x");
  broken.error("dropped");
  ::close(full);
}

TEST_CASE("times are UTC, before 1970 too") {
  CHECK(formatUtc(0) == "1970-01-01T00:00:00.000000Z");
  CHECK(formatUtc(-1) == "1969-12-31T23:59:59.999999Z");
  CHECK(formatUtc(951'827'696'000'000'000) == "2000-02-29T12:34:56.000000Z");
  CHECK(formatUtc(INT64_MAX) == "2262-04-11T23:47:16.854775Z");
}

TEST_CASE("level names") {
  LogLevel level{};
  CHECK(parseLogLevel("debug", level));
  CHECK(level == LogLevel::kDebug);
  CHECK(parseLogLevel("error", level));
  CHECK(level == LogLevel::kError);
  CHECK_FALSE(parseLogLevel("loud", level));
  CHECK_FALSE(parseLogLevel("", level));
  CHECK(level == LogLevel::kError);
}
